"""Questions that a judge leaves open, two judges at once, and people's labels as a judge."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run as negclip  # type: ignore[import-not-found]
from PIL import Image
from tiny_judges import make_blip  # type: ignore[import-not-found]

from eval.agreement import agreement
from eval.judges import load_judge
from eval.judges.labels import LabelFile, picture_key
from negclip_core.errors import RequestError

Negclip = Callable[..., tuple[int, str, str]]

ROWS = [
    {"id": "a", "prompt": "a street with no cars", "family": "before", "negated": ["car"], "asked": [], "place": "street",
     "affirmative": "a street", "split": "test"},
    {"id": "b", "prompt": "a man with no hat", "family": "before", "negated": ["hat"], "asked": ["man"], "place": "",
     "affirmative": "a man", "split": "test"},
    {"id": "c", "prompt": "a park with a tree", "family": "none", "negated": [], "asked": ["tree"], "place": "park",
     "affirmative": "a park with a tree", "split": "test"},
]  # fmt: skip
QUESTIONS = 2 * (2 + 2 + 2)  # under two arms


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """`negclip eval t2i-negation` with a judge; its exit code, document and standard error."""
    (tmp_path / "prompts.json").write_text(json.dumps(ROWS))

    def run(judge: str, *more: str) -> tuple[int, Any, str]:
        words = ["eval", "t2i-negation", "--arms", "vanilla,negationclip", "--data", str(tmp_path), "--steps", "2",
                 "--batch", "4", "--out", str(tmp_path / "out"), "--device", "cpu", "--judge", judge, "--json", "--quiet"]  # fmt: skip
        code, out, err = negclip([*words, *more], monkeypatch, capsys)
        return code, json.loads(out)["tasks"]["t2i-negation"] if code == 0 else None, err

    return run


def _records(document: Any, arm: str) -> list[dict[str, Any]]:
    lines = Path(document["records"][arm]).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines[1:]]


def _labelled(document: Any, tmp_path: Path, say: Callable[[str, str], bool | None]) -> Path:
    """A label file for a run's pictures: `say` answers of the arm and item of a picture ("vanilla a/0") and a label."""
    file = LabelFile(tmp_path / "labels.json", {}, {})
    pictures = [(arm, record) for arm in document["records"] for record in _records(document, arm)]
    for arm, record in pictures:
        image = tmp_path / "out" / record["image"]
        key = picture_key(np.asarray(Image.open(image).convert("RGB")))
        for label in (*record["negated"], *record["asked"], *record["place"]):
            file.give(key, image, label, say(f"{arm} {record['id']}", label))
    return file.path


def test_kappa_is_cohens() -> None:
    # Cohen 1960 by hand: .7 alike, .5 by chance.
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    found = agreement(pairs)
    assert (found["n"], found["same"], found["kappa"]) == (50, 0.7, 0.4)
    assert found["low"] is not None and found["high"] is not None and found["low"] < 0.4 < found["high"]
    assert agreement([(True, True), (False, False)])["kappa"] == 1
    assert agreement([(True, False), (False, True)])["kappa"] == -1
    assert agreement([(True, True)] * 5)["kappa"] is None
    assert agreement([(True, False)] * 5)["kappa"] == 0
    with pytest.raises(ValueError, match="no pairs"):
        agreement([])


def test_two_judges_are_compared_question_by_question(evaluate: Any, tmp_path: Path) -> None:
    blip = make_blip(tmp_path / "blip", "yes")
    code, one, err = evaluate(f"vqa:{blip}")
    assert code == 0, err
    assert one["judges"] == {"questions": QUESTIONS, "unanswered": 0}
    assert one["arms"]["vanilla"]["negated-present"]["value"] == 1
    assert one["arms"]["vanilla"]["affirmative-fidelity"]["value"] == 1
    labels = _labelled(one, tmp_path, lambda _, label: label in ("car", "man", "tree"))
    code, two, err = evaluate(f"vqa:{blip},labels:{labels}")
    assert code == 0, err
    assert two["arms"] == one["arms"]  # the first one decides
    rows = two["judges"]["agreement"]
    # The gate leaves the picture of the prompt without negation as it is: it counts once.
    assert rows["all questions"]["n"] == QUESTIONS - 2
    assert rows["all questions"]["same"] == pytest.approx(5 / 10)
    assert rows["all questions"]["kappa"] == 0  # one of them always says yes
    assert (rows["negated"]["n"], rows["asked"]["n"], rows["place"]["n"]) == (4, 3, 3)
    assert rows["Is there a car in the picture?"] == {
        "n": 2,
        "same": 1.0,
        "kappa": None,
        "low": None,
        "high": None,
    }
    assert rows["Is there a hat in the picture?"]["same"] == 0
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "How far the two judges agree" in page and "Is there a hat in the picture?" in page


def test_what_is_left_open_is_counted_and_not_guessed(evaluate: Any, tmp_path: Path) -> None:
    _, drawn, _ = evaluate("miniature/judge")
    asked = {"vanilla a/0": "car", "vanilla b/0": "man"}
    labels = _labelled(drawn, tmp_path, lambda picture, label: None if asked.get(picture) == label else False)
    code, found, err = evaluate(f"labels:{labels}")
    assert code == 0, err
    assert found["judges"] == {"questions": QUESTIONS, "unanswered": 2}
    vanilla, other = found["arms"]["vanilla"], found["arms"]["negationclip"]
    assert (vanilla["negated-present"]["n"], other["negated-present"]["n"]) == (1, 2)
    # A man who may be there: whether the picture does what the prompt says is open too.
    assert "affirmative-fidelity" not in vanilla and "obeyed-and-kept" not in vanilla
    assert other["obeyed-and-kept"]["n"] == 2
    assert "<span class=note>? no car</span>" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_a_judge_that_answers_nothing_is_an_error(evaluate: Any, tmp_path: Path) -> None:
    code, _, err = evaluate(f"vqa:{make_blip(tmp_path / 'blip', 'maybe')}")
    assert code == 2
    assert f"answered none of {QUESTIONS} questions yes or no" in err and err.count("\n") == 1


@pytest.mark.parametrize("judges", ["miniature/judge,miniature/judge", "a,b,c", ""])
def test_judges_that_cannot_be_are_refused(judges: str, evaluate: Any) -> None:
    code, _, err = evaluate(judges)
    assert code == 2 and err.count("\n") == 1


def test_labels_are_read_as_they_were_given(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    file = tmp_path / "labels.json"
    entries = [
        {"image": "0.png", "present": ["car"], "absent": ["dog"]},
        {"image": "1.png", "present": [], "absent": ["car"], "open": ["dog"]},
    ]
    file.write_text(json.dumps(entries), "utf-8")
    judge = load_judge(f"labels:{file}")
    assert judge.answers(pictures, [("car", "dog", "cat")] * 3) == [
        {"car": True, "dog": False, "cat": None},
        {"car": False, "dog": None, "cat": None},
        {"car": None, "dog": None, "cat": None},
    ]
    again = LabelFile.read(file)
    again.give(picture_key(pictures[1]), tmp_path / "1.png", "dog", True)
    again.give(picture_key(pictures[2]), tmp_path / "2.png", "dog", False)
    assert json.loads(file.read_text("utf-8")) == [
        {"image": "0.png", "present": ["car"], "absent": ["dog"], "open": []},
        {"image": "1.png", "present": ["dog"], "absent": ["car"], "open": []},
        {"image": "2.png", "present": [], "absent": ["dog"], "open": []},
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "expected a list"),
        ("{}", "expected a list .*got dict"),
        ('[{"image": "0.png"}]', "expected a list"),
        ('[{"image": "0.png", "present": "car", "absent": []}]', "present of 0.png is no list"),
        ('[{"image": "0.png", "present": ["car"], "absent": ["car"]}]', "two answers to car"),
        ('[{"image": "lost.png", "present": [], "absent": []}]', "no such file"),
    ],
)
def test_label_files_of_another_form_are_refused(content: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    file.write_text(content, "utf-8")
    with pytest.raises(RequestError, match=why) as error:
        load_judge(f"labels:{file}")
    assert "\n" not in str(error.value)
