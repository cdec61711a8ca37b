"""Generation in pairs: a tiny real pipeline, tiny real CLIPs and an untrained judge of the real class."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eval.arms import ArmName, parse_arms, suits
from eval.generation import Painter, pixels
from eval.judges.miniature import LABELS, JudgeNetwork, MiniatureJudge
from eval.options import Options
from eval.registry import load, task
from eval.report import text_table, write_report
from eval.runner import Subject, TaskResult, correct, run_task
from integrations.arms import Arm
from integrations.methods import find_method
from negclip_core.clip import load_clip
from negclip_core.errors import RequestError

ROWS = [
    {"id": "a", "prompt": "a street with no cars", "family": "before", "negated": ["car"], "asked": [], "place": "street",
     "affirmative": "a street", "split": "test"},
    {"id": "b", "prompt": "a man without a hat and no dog", "family": "two", "negated": ["hat", "dog"], "asked": ["man"],
     "place": "park", "affirmative": "a man", "split": "test"},
    {"id": "c", "prompt": "a park with a tree", "family": "none", "negated": [], "asked": ["tree"], "place": "park",
     "affirmative": "a park with a tree", "split": "test"},
    {"id": "d", "prompt": "a boat", "family": "none", "negated": [], "asked": ["boat"], "place": "", "split": "test"},
    {"id": "e", "prompt": "a lake with no boats", "family": "before", "negated": ["boat"], "asked": [], "place": "lake",
     "affirmative": "a lake", "split": "validation"},
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "prompts.json").write_text(json.dumps(ROWS))
    return folder


@pytest.fixture(scope="module")
def pipe(pipeline_folder: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    loaded = StableDiffusionPipeline.from_pretrained(pipeline_folder)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def judge() -> MiniatureJudge:
    torch.manual_seed(0)
    return MiniatureJudge(JudgeNetwork(len(LABELS)), LABELS, dict.fromkeys(LABELS, 0.5))


@pytest.fixture
def studio(pipe: Any, judge: MiniatureJudge, other_clip_folder: Path, data: Path, tmp_path: Path) -> Any:
    """A function from arms and options to what the task shows."""
    clip = load_clip(other_clip_folder)

    def subject(arm: ArmName, out: Path) -> Subject:
        own = Arm(arm.name, find_method(arm.method), clip if arm.swaps else None, arm.gate)

        def make(key: str) -> Painter:
            return Painter(arm.name, own, pipe, "tiny", judge, out, f"images/{key}", arm.rest)

        return Subject(arm.name, {"method": arm.method, "gate": arm.gate, "rest": arm.rest}, make)

    def run(arms: str, out: Path = tmp_path, **options: Any) -> TaskResult:
        chosen = Options(**{"steps": 2, "batch": 4, **options})
        subjects = [subject(arm, out) for arm in parse_arms(arms)]
        return run_task(task("t2i-negation"), subjects, data, out, chosen, quiet=True)

    return run


def test_arms_are_told_by_name() -> None:
    arms = {
        arm.name: arm
        for arm in parse_arms(
            "vanilla, negationclip-no-gate,both,affirmative-rest,mine=x/y,both-mine=x/y,rephrased-mine=x/y"
        )
    }
    assert not arms["vanilla"].swaps and arms["vanilla"].gate
    assert arms["negationclip-no-gate"].swaps and not arms["negationclip-no-gate"].gate
    assert arms["both"].method == arms["both-mine"].method == "both"
    assert arms["rephrased-mine"].method == "rephrased" and arms["rephrased-mine"].swaps
    assert arms["affirmative-rest"].rest and not arms["affirmative-rest"].swaps
    assert arms["mine"].source is not None and arms["mine"].source.source == "x/y"
    assert [name for name, arm in arms.items() if suits(arm, "understanding")] == ["vanilla", "mine"]


@pytest.mark.parametrize(
    "text", ["", "nonsense", "vanilla,vanilla", "vanilla=x", "vanilla-no-gate", "a/b=x", "=x"]
)
def test_arms_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_arms(text)


def test_the_gate_leaves_prompts_without_negation_bit_for_bit(studio: Any) -> None:
    result = studio("vanilla,negationclip,negationclip-no-gate", pictures=2)
    gated, bare = result.arms["negationclip"], result.arms["negationclip-no-gate"]
    assert (gated["identical"]["value"], gated["drift"]["value"], gated["identical"]["n"]) == (1.0, 0.0, 4)
    assert bare["identical"]["value"] == 0.0
    assert bare["drift"]["value"] > 0


def test_every_arm_starts_from_the_same_noise_and_the_encoder_matters(studio: Any, tmp_path: Path) -> None:
    result = studio("vanilla,negationclip,affirmative-rest,negative-prompt")
    pictures = {
        arm: {key: pixels(tmp_path / record["image"]) for key, record in records.items()}
        for arm, records in result.records.items()
    }
    assert not np.array_equal(pictures["vanilla"]["a/0"], pictures["negationclip"]["a/0"])
    assert not np.array_equal(pictures["affirmative-rest"]["a/0"], pictures["negative-prompt"]["a/0"])
    # Prompts without negation are the same to all of them.
    for arm in ("affirmative-rest", "negative-prompt"):
        assert np.array_equal(pictures["vanilla"]["c/0"], pictures[arm]["c/0"])
    assert result.records["affirmative-rest"]["a/0"]["text"] == "a street"


def test_no_two_pictures_start_from_the_same_noise(studio: Any) -> None:
    records = studio("vanilla", pictures=2, seed=5).records["vanilla"].values()
    assert sorted(record["seed"] for record in records) == list(range(5, 5 + len(records)))


def test_what_a_picture_is_does_not_hang_on_its_batch(studio: Any, tmp_path: Path) -> None:
    few = studio("vanilla", tmp_path / "few", limit=1)
    many = studio("vanilla", tmp_path / "many")
    (item,) = few.records["vanilla"]
    first, second = (pixels(folder / result.records["vanilla"][item]["image"])
                     for folder, result in ((tmp_path / "few", few), (tmp_path / "many", many)))  # fmt: skip
    assert np.array_equal(first, second)


def test_the_figures_are_those_of_the_records(studio: Any) -> None:
    result = studio("vanilla,negationclip", pictures=3)
    for arm, metrics in result.arms.items():
        records = result.records[arm].values()
        things = [there for r in records for there in r["negated"].values()]
        assert metrics["negated-present"]["n"] == len(things) == 3 * 3
        assert metrics["negated-present"]["value"] == pytest.approx(np.mean(things), abs=1e-6)
        assert metrics["negated-present:two"]["n"] == 6
        assert metrics["affirmative-fidelity"]["n"] == 3
        assert metrics["affirmative-fidelity:no-negation"]["n"] == 6
        kept = [not any(r["negated"].values()) and all(r["asked"].values()) for r in records if r["negated"]]
        assert metrics["obeyed-and-kept"]["value"] == pytest.approx(np.mean(kept), abs=1e-6)
        both = [
            all((r["asked"] or r["place"]).values()) and not any(r["negated"].values())
            for r in records
            if r["negated"]
        ]
        assert metrics["neg-score"]["value"] == pytest.approx(np.mean(both), abs=1e-6)
    # "a man without a hat and no dog" names no park.
    assert result.arms["vanilla"]["place-right"]["n"] == 3


def test_the_verdicts_are_the_judges(studio: Any, judge: MiniatureJudge, tmp_path: Path) -> None:
    result = studio("vanilla")
    for record in result.records["vanilla"].values():
        verdict = judge.decide(pixels(tmp_path / record["image"])[None])
        for things in (record["negated"], record["asked"], record["place"]):
            assert all(there == bool(verdict[thing][0]) for thing, there in things.items())


def test_a_run_cut_off_half_way_ends_in_the_same_report(studio: Any, tmp_path: Path) -> None:
    arms = "vanilla,negationclip-no-gate"
    whole = studio(arms, pictures=2, batch=2)
    correct([whole])
    report = write_report([whole], {"seed": 0}, tmp_path)
    page, figures = report.read_bytes(), (tmp_path / "report.json").read_bytes()
    for path in whole.files.values():
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * 0.6)])
    for image in list((tmp_path / "images").rglob("*.png"))[::2]:
        image.write_bytes(b"half a pic") if "negationclip" not in str(image) else None
    again = studio(arms, tmp_path / "fresh", pictures=2, batch=2)
    correct([again])
    assert write_report([again], {"seed": 0}, tmp_path / "fresh").read_bytes() == page
    del figures


def test_pictures_that_somebody_deleted_are_drawn_again(studio: Any, tmp_path: Path) -> None:
    first = studio("vanilla,negationclip")
    pictures = {path: path.read_bytes() for path in (tmp_path / "images").rglob("*.png")}
    shutil.rmtree(tmp_path / "images")
    again = studio("vanilla,negationclip")
    assert again.as_json() == first.as_json()
    assert {path: path.read_bytes() for path in (tmp_path / "images").rglob("*.png")} == pictures
    damaged = tmp_path / again.records["vanilla"]["c/0"]["image"]
    damaged.write_bytes(b"half a pic")
    with pytest.raises(RequestError, match=rf"{damaged.name}: expected a picture"):
        studio("vanilla,negationclip")


def test_pictures_say_what_made_them(studio: Any, tmp_path: Path) -> None:
    result = studio("negationclip", seed=7)
    record = result.records["negationclip"]["a/0"]
    with Image.open(tmp_path / record["image"]) as image:
        text = image.info
    assert (text["prompt"], text["seed"], text["arm"], text["model"]) == (
        "a street with no cars",
        str(record["seed"]),
        "negationclip",
        "tiny",
    )


def test_the_report_needs_no_network_and_shows_the_pairs(studio: Any, tmp_path: Path) -> None:
    result = studio("vanilla,negationclip")
    correct([result])
    page = write_report([result], {"model": {"sha256": "abc"}}, tmp_path).read_text()
    assert "http" not in page
    assert page.count("data:image/png;base64,") == 8
    assert "no car" in page and "model.sha256" in page
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["tasks"]["t2i-negation"]["arms"].keys() == {"vanilla", "negationclip"}
    assert any("negated-present" in line for line in text_table(result))


def test_prompts_are_chosen_by_split(data: Path) -> None:
    t2i = load(task("t2i-negation"))
    assert [item.id for item in t2i.items(data, Options(split="validation"))] == ["e/0"]
    with pytest.raises(RequestError, match="no prompt of the split 'train'"):
        t2i.items(data, Options(split="train"))


def test_a_label_that_the_judge_does_not_know_is_named(studio: Any, data: Path, tmp_path: Path) -> None:
    row = {**ROWS[0], "negated": ["dragon"]}
    folder = tmp_path / "dragons"
    folder.mkdir()
    (folder / "prompts.json").write_text(json.dumps([row]))
    items = load(task("t2i-negation")).items(folder, Options())
    painter = Painter(
        "vanilla",
        Arm.vanilla(),
        None,
        "tiny",
        MiniatureJudge(JudgeNetwork(1), ("car",), {"car": 0.5}),
        tmp_path,
        "x",
    )
    with pytest.raises(RequestError, match="does not know dragon"):
        next(load(task("t2i-negation")).run(items, set(), painter, Options()))
