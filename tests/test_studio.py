"""What an evaluation's records hang on: a file of records is gone on with only where all of it is the same."""

from pathlib import Path
from typing import Any

from eval.arms import parse_arms
from eval.registry import task
from negclip_core.clip import load_clip
from negclip_core.files import sha256_file
from negclip_core.models import resolve
from pipelines.studio import Studio


def _settings(name: str, arms: str, out: Path, clip: str = "miniature") -> dict[str, dict[str, Any]]:
    """What each arm's records on a task hang on, by arm."""
    studio = Studio(clip, "miniature", None, "cpu", parse_arms(arms), {"seed": 0}, out, quiet=True)
    return {subject.name: subject.settings for subject in studio.subjects(task(name))}


def test_scores_hang_on_the_device_where_something_is_computed(tmp_path: Path, clip_folder: Path) -> None:
    found = _settings(
        "valse-existence", "vanilla,difference,blind-text,blind-constant", tmp_path, str(clip_folder)
    )
    assert {name: own.get("device") for name, own in found.items()} == {
        "vanilla": "cpu", "difference": "cpu", "blind-text": "cpu", "blind-constant": None
    }  # fmt: skip


def test_masks_hang_on_segment_anythings_weights_and_on_the_tower_that_chooses(tmp_path: Path) -> None:
    arms = "vanilla,negationclip,vanilla-refined,vanilla-proposed"
    found = _settings("refcocog", arms, tmp_path)
    sam, looker = (
        sha256_file(Path(resolve("miniature/sam")) / "model.safetensors"),
        load_clip(resolve("miniature/negationclip")).sha256,
    )
    assert {name: (own["sam"], own.get("looker")) for name, own in found.items()} == {
        "vanilla": (None, None), "negationclip": (None, None), "vanilla-refined": (sam, None), "vanilla-proposed": (sam, looker),
    }  # fmt: skip
