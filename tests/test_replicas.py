"""`negclip generate` on replicas of the published hosts, from the hub to the pictures."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from replica_hub.repositories import write  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from replica_hub.server import serve  # type: ignore[import-not-found]

PUBLISHED, LAION = "jerryray/negationclip", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
TURBO = "stabilityai/sd-turbo"
HOSTS = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": (PUBLISHED, ""),
    TURBO: (LAION, ""),
    "stabilityai/stable-diffusion-xl-base-1.0": (PUBLISHED, "its other text encoder still reads the prompt"),
    "stabilityai/stable-diffusion-3.5-medium": (PUBLISHED, "two more text encoders still read the prompt"),
    "black-forest-labs/FLUX.1-schnell": (PUBLISHED, "FLUX takes only the pooled vector from CLIP"),
}
# Of ViT-H's and bigG's text towers, which alone take minutes to write and to load.
BLOCKS = int(os.environ.get("REPLICA_BLOCKS", "2"))

Run = Callable[[str, str], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """`negclip generate`, as a process, against a hub that has the host asked for and the text encoders."""
    # Not pytest's own folders, which it keeps: these are gigabytes.
    with TemporaryDirectory() as folder, serve(Path(folder, "hub")) as hub:
        root = Path(folder)
        for encoder in (PUBLISHED, LAION):
            write(root / "hub", encoder, BLOCKS)

        def command(model: str, encoder: str) -> "subprocess.CompletedProcess[str]":
            settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(root / "cache"), "HF_HUB_OFFLINE": "0",
                        "HF_HUB_DISABLE_XET": "1"}  # fmt: skip
            write(root / "hub", model, BLOCKS)
            result = subprocess.run(
                [str(Path(sys.executable).with_name("negclip")), "generate", "a street with no cars", "--model", model,
                 "--text-encoder", encoder, "--steps", "2", "--height", "64", "--width", "64", "--compare", "--json",
                 "--out", str(root / "out")],
                env={**os.environ, **settings}, capture_output=True, text=True, check=False,
            )  # fmt: skip
            for used in (
                root / "hub" / model,
                root / "cache" / "hub" / f"models--{model.replace('/', '--')}",
            ):
                shutil.rmtree(used)
            return result

        yield command


@pytest.mark.parametrize("model", HOSTS)
def test_one_command_draws_with_a_published_host(model: str, run: Run) -> None:
    encoder, note = HOSTS[model]
    result = run(model, encoder)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert [picture["arm"] for picture in told["images"]] == ["vanilla", "negationclip"]
    assert (told["model"], told["text_encoder"]) == (model, encoder)
    assert note in result.stderr


def test_a_host_that_none_of_the_published_encoders_fits_is_refused(run: Run) -> None:
    result = run(TURBO, PUBLISHED)
    assert result.returncode == 2
    assert f"{PUBLISHED}: none of its text encoders (ViT-B-32" in result.stderr
    assert "Traceback" not in result.stderr
