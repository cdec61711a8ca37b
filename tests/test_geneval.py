"""GenEval's prompts: a tiny real pipeline, tiny real CLIPs and an untrained judge of the real class."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from eval.generation import save
from eval.judges.miniature import LABELS, JudgeNetwork, MiniatureJudge
from eval.judges.questions import question
from eval.options import Options
from eval.registry import load, task
from negclip_core.errors import RequestError
from negclip_core.language import has_negation
from negclip_core.world.catalog import KINDS, PLACES
from negclip_core.world.exports.geneval import geneval
from negclip_core.world.negation import likely
from negclip_core.world.tokenizer import words
from pipelines.evaluate import run

FILE = "evaluation_metadata.jsonl"
DOG, CAR = {"class": "dog", "count": 1}, {"class": "car", "count": 1, "color": "red"}
ROWS: list[dict[str, Any]] = [
    {"tag": "single_object", "include": [DOG], "prompt": "a photo of a dog"},
    {"tag": "counting", "include": [{"class": "dog", "count": 2}], "exclude": [{"class": "dog", "count": 3}],
     "prompt": "a photo of two dogs"},
    {"tag": "two_object", "include": [DOG, {"class": "bench", "count": 1}], "prompt": "a photo of a dog and a bench"},
    {"tag": "position", "include": [DOG, {"class": "bench", "count": 1, "position": ["left of", 0]}],
     "prompt": "a photo of a bench left of a dog"},
    {"tag": "colors", "include": [CAR], "prompt": "a photo of a red car"},
    {"tag": "color_attr", "include": [CAR, {**DOG, "color": "black"}], "prompt": "a photo of a red car and a black dog"},
    {"tag": "counting", "include": [{"class": "bird", "count": 3}], "prompt": "a photo of three birds"},
]  # fmt: skip
ASKED = {
    "00000": ("dog",),
    "00002": ("dog", "bench"),
    "00004": ("red car",),
    "00005": ("red car", "black dog"),
}


def _write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _evaluate(data: Path, judge: Path, model: Path, encoder: Path, out: Path) -> tuple[Any, list[str]]:
    options = {"seed": 0, "limit": None, "split": "test", "pictures": 2, "steps": 2, "guidance_scale": 3.0, "batch": 4,
               "judge": str(judge)}  # fmt: skip
    arms = f"vanilla,swapped={encoder},swapped-no-gate={encoder}"
    return run(["geneval"], arms, "miniature", str(model), None, data, out, options, "cpu", quiet=True)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    torch.manual_seed(0)
    MiniatureJudge(JudgeNetwork(len(LABELS)), LABELS, dict.fromkeys(LABELS, 0.5)).save(folder)
    return folder


@pytest.fixture(scope="module")
def shown(
    judge: Path, pipeline_folder: Path, other_clip_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, list[str], Path]:
    """What the command says of the task: its JSON, its lines, and the folder of its files."""
    folder = tmp_path_factory.mktemp("geneval")
    data = _write(folder / "data", ROWS)
    document, lines = _evaluate(data, judge, pipeline_folder, other_clip_folder, folder / "out")
    return document["tasks"]["geneval"], lines, folder / "out"


def _records(document: Any, arm: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(document["records"][arm]).read_text("utf-8").splitlines()[1:]]


def test_every_thing_is_asked_about_in_its_colour(shown: Any) -> None:
    document = shown[0]
    records = _records(document, "vanilla")
    assert {r["id"]: tuple(r["asked"]) for r in records} == {
        f"{line}/{which}": labels for line, labels in ASKED.items() for which in (0, 1)
    }
    assert len({r["seed"] for r in records}) == document["n"] == 8
    assert document["judges"]["questions"] == 3 * 2 * 6
    assert question("red car") == "Is there a red car in the picture?"


def test_what_is_left_out_is_told_and_counted(shown: Any) -> None:
    document, lines, out = shown
    assert document["left_out"] == {"counting": 2, "position": 1}
    told = "left out of the whole file, as no judge is asked about such: 2 counting, 1 position"
    assert told in lines and told in (out / "report.html").read_text()


def test_the_figures_are_those_of_the_records(shown: Any) -> None:
    document = shown[0]
    for arm, metrics in document["arms"].items():
        records = _records(document, arm)
        correct = {r["id"]: all(r["asked"].values()) for r in records}
        there = [answer for r in records for answer in r["asked"].values()]
        assert (metrics["correct"]["value"], metrics["correct"]["n"]) == (sum(correct.values()) / 8, 8)
        assert metrics["correct:two_object"]["n"] == 2
        assert (metrics["things-there"]["value"], metrics["things-there"]["n"]) == (
            pytest.approx(sum(there) / 12, abs=1e-6), 12,
        )  # fmt: skip
    assert document["main"] == "correct" and document["paired"]["vanilla -> swapped"]["correct"]["n"] == 8


def test_with_the_gate_no_picture_changes_and_without_it_all_do(shown: Any) -> None:
    arms = shown[0]["arms"]
    assert (arms["swapped"]["identical"]["value"], arms["swapped"]["drift"]["value"]) == (1.0, 0.0)
    assert arms["swapped-no-gate"]["identical"]["value"] == 0.0
    assert arms["swapped-no-gate"]["drift"]["value"] > 0


def test_a_score_counted_by_hand(tmp_path: Path) -> None:
    for name, level in (("grey", 100), ("light", 151)):
        save(Image.new("RGB", (8, 8), (level,) * 3), tmp_path / f"{name}.png",
             {"prompt": "", "seed": 0, "arm": "", "model": ""})  # fmt: skip

    def record(key: str, tag: str, image: str, **asked: bool | None) -> dict[str, Any]:
        return {"id": key, "family": tag, "image": f"{image}.png", "negated": {}, "asked": asked, "place": {}}

    reference = [record(key, "two_object", "grey", dog=True, car=True) for key in "abcd"]
    values = load(task("geneval")).measure(
        [
            record("a", "single_object", "grey", dog=True),
            record("b", "two_object", "grey", dog=True, car=False),
            record("c", "two_object", "light", dog=True, car=True),
            record("d", "two_object", "grey", dog=True, car=None),
        ],
        reference,
        tmp_path,
    )
    assert values["correct"] == {"a": 1.0, "b": 0.0, "c": 1.0}
    assert values["correct:single_object"] == {"a": 1.0}
    assert values["correct:two_object"] == {"b": 0.0, "c": 1.0}
    assert values["things-there"] == {
        "a/dog": 1.0, "b/dog": 1.0, "b/car": 0.0, "c/dog": 1.0, "c/car": 1.0, "d/dog": 1.0,
    }  # fmt: skip
    assert values["identical"] == {"a": 1.0, "b": 1.0, "c": 0.0, "d": 1.0}
    assert values["drift"] == {"a": 0.0, "b": 0.0, "c": 51 / 255, "d": 0.0}


def test_a_limit_counts_prompts_and_keeps_their_seeds(tmp_path: Path) -> None:
    geneval = load(task("geneval"))
    _write(tmp_path, ROWS)
    every = geneval.items(tmp_path, Options(pictures=2, seed=3))
    few = geneval.items(tmp_path, Options(pictures=2, seed=3, limit=2))
    assert few == every[:4] and sorted(item.seed for item in every) == list(range(3, 11))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: not GenEval's form"),
        ("[" * 100_000, "line 2: not GenEval's form"),
        ("[]", "line 2: not GenEval's form"),
        (json.dumps({**ROWS[0], "include": []}), "include or exclude is no list of things"),
        (json.dumps({**ROWS[0], "include": ["dog"]}), "line 2: not GenEval's form"),
        (json.dumps({**ROWS[0], "include": [{"class": " "}]}), "'class' is empty"),
        (json.dumps({**ROWS[0], "include": [{**DOG, "color": 3}]}), "'color' is 3, not a text"),
        (json.dumps({**ROWS[0], "include": [{**DOG, "count": "2"}]}), "count is '2', not 1 or more"),
        (json.dumps({**ROWS[0], "exclude": "dog"}), "include or exclude is no list of things"),
        (json.dumps({"tag": "colors", "include": [CAR]}), "'prompt'"),
        (json.dumps({**ROWS[0], "tag": None}), "'tag' is None, not a text"),
    ],
)
def test_a_line_of_another_form_is_named(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(f"{json.dumps(ROWS[0])}\n{line}\n")
    with pytest.raises(RequestError) as error:
        load(task("geneval")).items(tmp_path, Options())
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_file_without_a_prompt_that_can_be_judged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="none of its 2 prompts asks only that things be there"):
        load(task("geneval")).items(_write(tmp_path, [ROWS[1], ROWS[3]]), Options())


def test_a_class_that_the_judge_does_not_know_is_named(
    judge: Path, pipeline_folder: Path, other_clip_folder: Path, tmp_path: Path
) -> None:
    dragon = {
        "tag": "single_object",
        "include": [{"class": "dragon", "count": 1}],
        "prompt": "a photo of a dragon",
    }
    data = _write(tmp_path / "data", [ROWS[0], dragon])
    with pytest.raises(RequestError, match="the judge does not know dragon;"):
        _evaluate(data, judge, pipeline_folder, other_clip_folder, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.png"))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_drawn_world_asks_what_it_can_draw(split: Any, tmp_path: Path) -> None:
    rows = geneval(split, 0, 2000)
    assert {row["tag"] for row in rows} == {"single_object", "two_object", "colors", "color_attr"}
    assert len({row["prompt"] for row in rows}) == len(rows)
    assert {row["include"][0]["class"] for row in rows if row["tag"] == "single_object"} == {*KINDS}
    for row in rows:
        kinds = {thing["class"] for thing in row["include"]}
        assert any(kinds <= {*likely(place)} for place in PLACES) and len(kinds) == len(row["include"])
        colours = [thing["color"] for thing in row["include"] if "color" in thing]
        assert len({*colours}) == len(colours) and not (colours and "person" in kinds)
        assert {*row["prompt"].split()} <= {*words()} and not has_negation(row["prompt"])
    task_of_it = load(task("geneval"))
    asked = {label for item in task_of_it.items(_write(tmp_path, rows), Options()) for label in item.labels}
    assert asked <= {*LABELS} and task_of_it.left_out(tmp_path) == {}
    assert rows != geneval(split, 1, 2000) and geneval(split, 0, 3) != rows
