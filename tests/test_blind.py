"""Arms that see no picture: chance for each of them, a mark on a task that they win, an error for scores of NaN."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import run  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from PIL import Image

from eval.arms import BLIND, parse_arms, suits
from eval.blind import blind_scorer, wins
from eval.options import Options
from eval.registry import load, task, tasks
from eval.report import text_table, write_report
from eval.runner import Subject, TaskResult, run_task
from negclip_core.checkpoints import write_open_clip_folder
from negclip_core.clip import load_clip
from pipelines.miniature import export

N = 400
CHOICES = ("valse-existence", "negrefcocog", "celeba", "negbench-mcq")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn world in the public forms."""
    folder = tmp_path_factory.mktemp("drawn")
    export.run(folder, N, 0, "test", quiet=True)
    return folder


def _blind(name: str, clip_folder: Path, seed: int = 0) -> Subject:
    return Subject(name, {}, lambda _: blind_scorer(name, load_clip(clip_folder), seed))


def _run(name: str, data: Path, out: Path, *subjects: Subject, **options: Any) -> TaskResult:
    return run_task(task(name), list(subjects), data, out, Options(**options), quiet=True)


@pytest.mark.parametrize("arm", BLIND)
@pytest.mark.parametrize("name", [*CHOICES, "retrieval", "negbench-retrieval"])
def test_who_sees_nothing_gets_chance(
    name: str, arm: str, data: Path, tmp_path: Path, clip_folder: Path
) -> None:
    result = _run(name, data, tmp_path, _blind(arm, clip_folder))
    assert result.chance
    for metric, guessed in result.chance.items():
        found = result.arms[arm][metric]
        assert found["low"] - 0.03 <= guessed <= found["high"] + 0.03, metric
    assert result.blind_wins == []


@pytest.mark.parametrize("name", CHOICES)
def test_a_constant_scorer_ties_on_every_item(
    name: str, data: Path, tmp_path: Path, clip_folder: Path
) -> None:
    found = _run(name, data, tmp_path, _blind("blind-constant", clip_folder)).arms["blind-constant"]
    assert found["ties"]["value"] == 1.0


def test_equal_texts_tie_for_who_reads_only(data: Path, tmp_path: Path, clip_folder: Path) -> None:
    # Among the crops for one phrase, which text cannot tell apart.
    found = _run("negrefcocog", data, tmp_path, _blind("blind-text", clip_folder)).arms["blind-text"]
    assert found["ties"]["value"] == 1.0
    assert _run("valse-existence", data, tmp_path, _blind("blind-text", clip_folder)).arms["blind-text"]["ties"]["value"] == 0.0  # fmt: skip


def test_random_scores_hang_on_the_seed_alone(data: Path, tmp_path: Path, clip_folder: Path) -> None:
    def scores(seed: int, out: str) -> list[list[float]]:
        result = _run(
            "negrefcocog", data, tmp_path / out, _blind("blind-random", clip_folder, seed), limit=30
        )
        return [record["scores"] for record in result.records["blind-random"].values()]

    assert scores(0, "a") == scores(0, "b") != scores(1, "c")


@pytest.fixture
def won_blind(tmp_path: Path, clip_folder: Path) -> TaskResult:
    """VALSE's form in which the caption always is the sentence that reads better to this CLIP before plain grey."""
    folder = tmp_path / "won"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (32, 32), (200, 90, 40)).save(folder / "images" / "a.png")
    pair = ["there are no cars", "there are cars"]
    first, second = blind_scorer("blind-text", load_clip(clip_folder), 0).texts(pair)[:, 0]
    caption, foil = pair if first > second else pair[::-1]
    rows = {str(i): {"image_file": "a.png", "caption": caption, "foil": foil} for i in range(60)}
    (folder / "existence.json").write_text(json.dumps(rows))
    subjects = [_blind(arm, clip_folder) for arm in BLIND]
    return _run("valse-existence", folder, tmp_path / "out", *subjects)


def test_a_task_that_a_blind_arm_wins_is_marked(won_blind: TaskResult, tmp_path: Path) -> None:
    assert {"arm": "blind-text", "metric": "accuracy"} in won_blind.blind_wins
    assert {"arm": "blind-constant", "metric": "accuracy"} not in won_blind.blind_wins
    line = text_table(won_blind)[-1]
    assert line.startswith("⚠ valse-existence can be won without looking: blind-text accuracy 1.0000 [0.9398, 1.0000], chance 0.5000")  # fmt: skip
    page = write_report([won_blind], {}, tmp_path).read_text()
    assert "⚠ valse-existence can be won without looking: blind-text accuracy 1.0000" in page
    document = json.loads((tmp_path / "report.json").read_text())["tasks"]["valse-existence"]
    assert document["blind_wins"][0] == {"arm": "blind-text", "metric": "accuracy"}
    assert document["chance"]["accuracy"] == 0.5


def test_luck_is_no_win() -> None:
    def arms(value: float) -> dict[str, dict[str, dict[str, float]]]:
        return {"blind-constant": {"accuracy": {"value": value, "n": 1938}}}

    # A constant scorer's ties, settled at random, once gave .2693 [.2501, .2895] on four options.
    assert wins(arms(0.2693), {"accuracy": 0.25}) == []
    assert wins(arms(0.30), {"accuracy": 0.25}) == [{"arm": "blind-constant", "metric": "accuracy"}]


def test_blind_arms_are_paired_with_none(won_blind: TaskResult) -> None:
    assert won_blind.paired == {}


def test_every_task_of_understanding_says_what_guessing_gets() -> None:
    found = [info for info in tasks().values() if info.kind == "understanding"]
    assert all(callable(load(info).chance) for info in found)


def test_blind_arms_are_for_understanding_only() -> None:
    for arm in parse_arms(",".join(BLIND)):
        kinds = ("understanding", "generation", "segmentation")
        assert [kind for kind in kinds if suits(arm, kind)] == ["understanding"]


def test_the_command_line_takes_blind_arms(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["eval", "negbench-mcq", "--arms", f"vanilla,{','.join(BLIND)}", "--data", str(data), "--limit", "60",
                 "--out", str(tmp_path), "--json", "--quiet"]  # fmt: skip
    code, out, _ = run(arguments, monkeypatch, capsys)
    assert code == 0
    found = json.loads(out)["tasks"]["negbench-mcq"]
    assert list(found["arms"]) == ["vanilla", *BLIND]
    assert found["chance"] == {"accuracy": 0.25}


@pytest.fixture
def overflowing(clip_folder: Path, tokenizer_folder: Path, tmp_path: Path) -> Path:
    """A CLIP of finite weights whose embeddings are not finite: two of them are so large that their product is not."""
    whole = load_clip(clip_folder).checkpoint
    large = {name: whole.weights[name] * 1e20 for name in ("ln_final.weight", "text_projection")}
    folder = tmp_path / "overflowing"
    write_open_clip_folder(
        folder, {**whole.weights, **large}, whole.config, preprocess=whole.preprocess, made_by={}, tokenizer_folder=tokenizer_folder
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("name", [*CHOICES, "retrieval", "negbench-retrieval"])
def test_scores_of_nan_are_one_line_and_exit_code_2(
    name: str, overflowing: Path, data: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    arguments = ["eval", name, "--clip", str(clip_folder), "--arms", f"vanilla,broken={overflowing}",
                 "--data", str(data), "--limit", "20", "--out", str(tmp_path / "out"), "--quiet"]  # fmt: skip
    code, out, err = run(arguments, monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert "arm broken: the score of" in err and "is not a finite number" in err
    assert not list((tmp_path / "out").glob("report*"))
