"""CC-Neg, SimpleNeg-style triples, Winoground and zero-shot on the drawn world: chance for who does not look, bad files in a line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run as command  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from PIL import Image

from eval.arms import BLIND
from eval.blind import blind_scorer
from eval.choice import item_rng, places
from eval.encoders import Encoder, Part, Scorer
from eval.options import Options
from eval.registry import Record, load, task
from eval.runner import Subject, TaskResult, run_task
from negclip_core.clip import load_clip
from negclip_core.errors import RequestError
from negclip_core.language import has_negation
from pipelines.miniature import export

N = 300
TASKS = ("cc-neg", "simpleneg", "winoground", "zero-shot")
CHANCES = {
    "cc-neg": {"accuracy": 1 / 2},
    "simpleneg": {"accuracy": 1 / 2},
    "winoground": {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6},
    "zero-shot": {"top-1": 1 / 20, "top-5": 1 / 4},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn world in the public forms."""
    folder = tmp_path_factory.mktemp("drawn")
    export.run(folder, N, 0, "test", quiet=True)
    return folder


def _clip(folder: Path, name: str = "tiny") -> Subject:
    return Subject(name, {"clip": str(folder)}, lambda _: Encoder(name, load_clip(folder)))


def _blind(name: str, clip_folder: Path) -> Subject:
    return Subject(name, {}, lambda _: blind_scorer(name, load_clip(clip_folder), 0))


def _run(name: str, data: Path, out: Path, *subjects: Subject, **options: Any) -> TaskResult:
    return run_task(task(name), list(subjects), data, out, Options(**options), quiet=True)


@pytest.mark.parametrize("arm", ["blind-constant", "blind-random"])
@pytest.mark.parametrize("name", TASKS)
def test_who_sees_nothing_gets_chance(
    name: str, arm: str, data: Path, tmp_path: Path, clip_folder: Path
) -> None:
    result = _run(name, data, tmp_path, _blind(arm, clip_folder))
    assert result.chance == pytest.approx(CHANCES[name])
    for metric, guessed in result.chance.items():
        found = result.arms[arm][metric]
        assert found["low"] - 0.03 <= guessed <= found["high"] + 0.03, metric
    assert result.blind_wins == []
    assert result.arms[arm]["ties"]["value"] == (1.0 if arm == "blind-constant" else 0.0)


@pytest.mark.parametrize("name", ["simpleneg", "winoground", "zero-shot"])
def test_who_reads_without_looking_does_no_better_than_chance(
    name: str, data: Path, tmp_path: Path, clip_folder: Path
) -> None:
    result = _run(name, data, tmp_path, _blind("blind-text", clip_folder))
    for metric, guessed in result.chance.items():
        assert result.arms["blind-text"][metric]["low"] - 0.03 <= guessed, metric
    assert result.blind_wins == []


class _ShunsNo(Scorer):
    """Likes a text less that denies something, and sees nothing."""

    def texts(self, texts: list[str]) -> np.ndarray:
        return np.array([[0.0 if has_negation(text) else 1.0] for text in texts], np.float32)

    def images(self, parts: list[Part]) -> np.ndarray:
        return np.ones((len(parts), 1), np.float32)


def test_who_shuns_no_wins_cc_neg_alone_and_is_marked(data: Path, tmp_path: Path) -> None:
    subject = Subject("blind-text", {}, lambda _: _ShunsNo("blind-text"))
    cc_neg, simpleneg = (_run(name, data, tmp_path, subject) for name in ("cc-neg", "simpleneg"))
    assert cc_neg.arms["blind-text"]["accuracy"]["value"] == 1.0
    assert cc_neg.blind_wins == [{"arm": "blind-text", "metric": "accuracy"}]
    assert simpleneg.arms["blind-text"]["affirmative-above-false"]["value"] == 1.0
    assert simpleneg.blind_wins == []


def test_places_put_equals_in_an_order_that_is_drawn() -> None:
    assert places([0.1, 0.3, 0.2], item_rng(0, "a")) == [2, 0, 1]
    orders = [tuple(places([0.5, 0.5, 0.1], item_rng(0, str(i)))) for i in range(400)]
    assert set(orders) == {(0, 1, 2), (1, 0, 2)}
    assert 150 < orders.count((0, 1, 2)) < 250


def test_scores_are_those_of_the_plain_way(data: Path, tmp_path: Path, clip_folder: Path) -> None:
    """One image, one text at a time."""
    clip = load_clip(clip_folder)

    def score(image: Path, text: str) -> float:
        with Image.open(image) as picture:
            seen = clip.encode_image([picture.convert("RGB")])
        return float((clip.encode_text([text]) @ seen.T).item())

    records = _run("winoground", data, tmp_path, _clip(clip_folder), limit=8).records["tiny"]
    for line in (data / "examples.jsonl").read_text().splitlines():
        row = json.loads(line)
        if (record := records.get(str(row["id"]))) is None:
            continue
        images = [data / "images" / f"{row[name]}.png" for name in ("image_0", "image_1")]
        table = [[score(image, row[name]) for name in ("caption_0", "caption_1")] for image in images]
        assert record["scores"] == [pytest.approx(line, abs=1e-5) for line in table]
        (a, b), (c, d) = record["scores"]
        assert record["own_text"] == (a > b and d > c)
        assert record["own_image"] == (a > c and d > b)


def test_a_class_is_the_mean_of_its_templates(data: Path, tmp_path: Path, clip_folder: Path) -> None:
    records = _run("zero-shot", data, tmp_path, _clip(clip_folder), limit=8).records["tiny"]
    clip = load_clip(clip_folder)
    folder = data / "single_things"
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    templates = (folder / "templates.txt").read_text().splitlines()
    rows = []
    for name in names:
        mean = np.mean([clip.encode_text([t.format(name)])[0].numpy() for t in templates], axis=0)
        rows.append(mean / np.linalg.norm(mean))
    for key, record in records.items():
        with Image.open(folder / key) as picture:
            scores = np.stack(rows) @ clip.encode_image([picture.convert("RGB")])[0].numpy()
        own = scores[names.index(key.split("/")[0])]
        assert record["class"] == key.split("/")[0]
        assert record["score"] == pytest.approx(own, abs=1e-5)
        assert record["rank"] == 1 + (scores > own + 1e-6).sum()


def test_image_folders_without_any_list(data: Path, tmp_path: Path) -> None:
    """Folder names are the classes' names, and CLIP's own templates are used."""
    for kind in ("car", "dog"):
        shutil.copytree(data / "single_things" / kind, tmp_path / f"{kind}_s")
    found = load(task("zero-shot")).items(tmp_path, Options())
    assert found[0].classes.names == ("car s", "dog s")
    assert "itap of a {}." in found[0].classes.templates
    (tmp_path / "class_names.txt").write_text("a car\na dog\n")
    assert load(task("zero-shot")).items(tmp_path, Options())[0].classes.names == ("a car", "a dog")


@pytest.mark.parametrize("name", TASKS)
def test_a_run_cut_off_goes_on_to_the_same_result(
    name: str, data: Path, tmp_path: Path, clip_folder: Path
) -> None:
    whole = _run(name, data, tmp_path, _clip(clip_folder), limit=40)
    content = whole.files["tiny"].read_bytes()
    whole.files["tiny"].write_bytes(content[: len(content) // 2])
    again = _run(name, data, tmp_path, _clip(clip_folder), limit=40)
    assert again.records == whole.records and again.as_json() == whole.as_json()


def test_another_list_of_classes_is_scored_anew(data: Path, tmp_path: Path, clip_folder: Path) -> None:
    folder = tmp_path / "classes"
    for kind in ("car", "dog"):
        shutil.copytree(data / "single_things" / kind, folder / kind)

    def picked() -> set[str]:
        result = _run("zero-shot", folder, tmp_path / "out", _clip(clip_folder))
        return {str(record["class"]) for record in result.records["tiny"].values()}

    assert picked() == {"car", "dog"}
    (folder / "class_names.json").write_text('{"car": "bus", "dog": "cat"}')
    assert picked() == {"bus", "cat"}


_PAIR = {"id": 0, "image_0": "a", "image_1": "a", "caption_0": "x", "caption_1": "y"}
_TRIPLE = {"image": "a.png", "affirmative": "a", "negated_true": "b", "negated_false": "c"}
_CC = {"json": {"caption": "a"}, "sop_data": {"negative-prompt": "b"}}


def _without(row: Record, key: str, value: Any = None) -> str:
    kept = {name: value for name, value in row.items() if name != key} | ({key: value} if value else {})
    return json.dumps(kept)


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("cc-neg", "ccneg.json", "[]", "not CC-Neg's form"),
        ("cc-neg", "ccneg.json", "{", "cannot be read as JSON"),
        ("cc-neg", "ccneg.json", '{"image_paths": ["a.png"], "annotations": []}', "not CC-Neg's form.*1 image_paths and 0"),
        ("cc-neg", "ccneg.json", '{"image_paths": ["a.png"], "annotations": [{"json": {"caption": "a"}}]}', "sop_data"),
        ("cc-neg", "ccneg.json", json.dumps({"image_paths": [3], "annotations": [_CC]}), "not a text"),
        ("cc-neg", "ccneg.json", json.dumps({"image_paths": ["b.png"], "annotations": [_CC]}), "image b.png is not there"),
        ("cc-neg", "ccneg_preprocessed.pt", "", "a pickle, which is not read"),
        ("cc-neg", "other.json", "{}", "no file called ccneg"),
        ("simpleneg", "simpleneg_triples.json", "{}", "not a list of image, affirmative"),
        ("simpleneg", "simpleneg_triples.json", '[["a text", "a question", "another"]]', "not a list of image, affirmative"),
        ("simpleneg", "simpleneg_triples.json", f"[{_without(_TRIPLE, 'negated_true')}]", "'negated_true'"),
        ("simpleneg", "simpleneg_triples.json", f"[{_without(_TRIPLE, 'negated_true', ' ')}]", "'negated_true' is empty"),
        ("simpleneg", "simpleneg_triples.json", f"[{_without(_TRIPLE, 'image', 'b.png')}]", "image b.png is not there"),
        ("winoground", "examples.jsonl", "[1]", "line 1: not Winoground's form"),
        ("winoground", "examples.jsonl", f"{json.dumps(_PAIR)}\n{{", "line 2: not Winoground's form"),
        ("winoground", "examples.jsonl", _without(_PAIR, "caption_1"), "'caption_1'"),
        ("winoground", "examples.jsonl", _without(_PAIR, "caption_1", 7), "not a text"),
        ("winoground", "examples.jsonl", _without(_PAIR, "image_1", "b"), "image b.png is not there"),
        ("winoground", "examples.jsonl", f"{json.dumps(_PAIR)}\n{json.dumps(_PAIR)}", "the id 0 is there twice"),
        ("zero-shot", "class_names.txt", "car\n", "1 names for 2 folders"),
        ("zero-shot", "class_names.txt", "car\ncar\n", "several classes are called 'car'"),
        ("zero-shot", "class_names.json", '{"one": "car"}', "a name for every folder.*two"),
        ("zero-shot", "class_names.json", "[1, 2]", "a name for every folder"),
        ("zero-shot", "templates.txt", "a photo\n", "where the class's name belongs"),
        ("zero-shot", "templates.txt", "\n", "no template"),
    ],
)  # fmt: skip
def test_bad_files_are_one_clear_line(
    name: str, file: str, content: str, message: str, tmp_path: Path
) -> None:
    for place in ("a.png", "one/c.png", "two/d.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / place)
    (tmp_path / file).write_text(content)
    with pytest.raises(RequestError, match=message) as error:
        load(task(name)).items(tmp_path, Options())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", TASKS)
def test_no_items_are_one_line_and_exit_code_2(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "ccneg.json").write_text('{"image_paths": [], "annotations": []}')
    (folder / "simpleneg_triples.json").write_text("[]")
    (folder / "examples.jsonl").write_text("\n")
    arguments = ["eval", name, "--data", str(folder), "--out", str(tmp_path / "out"), "--quiet"]
    code, out, err = command(arguments, monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert "no items for the task" in err or "two folders of images or more" in err
    assert not list((tmp_path / "out").glob("report*"))


@pytest.mark.parametrize("name", TASKS)
def test_a_scorer_of_nan_is_an_error(name: str, data: Path, tmp_path: Path, clip_folder: Path) -> None:
    def broken(_: str) -> Encoder:
        clip = load_clip(clip_folder)
        clip.model.text_projection.data.fill_(float("nan"))
        return Encoder("broken", clip)

    with pytest.raises(RequestError, match=r"arm broken: the score of .* is not a finite number"):
        _run(name, data, tmp_path, Subject("broken", {}, broken), limit=20)


@pytest.fixture
def answers(data: Path) -> Callable[[str], list[Record]]:
    """What the shipped NegationCLIP says of the drawn items of a task."""
    from negclip_core.models import resolve

    def of(name: str) -> list[Record]:
        subject = _clip(Path(resolve("miniature/negationclip")), "negationclip")
        result = _run(name, data, data / "out", subject, limit=60)
        return list(result.records["negationclip"].values())

    return of


def test_the_shipped_negationclip_tells_true_denials_from_false_ones(
    answers: Callable[[str], list[Record]],
) -> None:
    assert np.mean([record["correct"] for record in answers("simpleneg")]) > 0.8
    assert np.mean([record["correct"] for record in answers("cc-neg")]) > 0.6
    assert np.mean([record["rank"] == 1 for record in answers("zero-shot")]) > 0.6


def test_the_command_line_takes_blind_arms(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["eval", ",".join(TASKS), "--arms", f"vanilla,{','.join(BLIND)}", "--data", str(data),
                 "--limit", "20", "--out", str(tmp_path), "--json", "--quiet"]  # fmt: skip
    code, out, _ = command(arguments, monkeypatch, capsys)
    assert code == 0
    for name, found in json.loads(out)["tasks"].items():
        assert list(found["arms"]) == ["vanilla", *BLIND]
        assert found["chance"].keys() == CHANCES[name].keys()
