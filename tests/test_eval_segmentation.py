"""Tasks of segmentation: the public files as they are, measures by hand, and pictures that nothing in fits."""

import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from eval.masks import measure
from eval.options import Options
from eval.refer_files import read_plain_pickle, truth
from eval.registry import Record, load, task, tasks
from integrations.referring import Finder
from negclip_core.errors import RequestError
from negclip_core.world.catalog import Split
from negclip_core.world.exports.pictures import stream
from negclip_core.world.referring import occupied, unmatched
from negclip_core.world.scenes import sample_scene
from pipelines.evaluate import run

SIDE = 20
SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]  # a polygon of 10 x 10 pixels


class _Calls:
    """What a pickle must not be able to do."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch pwned",)


def ref(number: int, texts: Sequence[str], ann_id: Any, split: str, image: int = 1) -> Record:
    sentences = [{"sent_id": 10 * number + i, "sent": text} for i, text in enumerate(texts)]
    return {"ref_id": number, "ann_id": ann_id, "image_id": image, "split": split, "sentences": sentences}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """REFER's folders side by side, of which each holds a file of the same name."""
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "one.png")
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "two.png")
    packed = coco.encode(np.asfortranarray(np.eye(SIDE, dtype=np.uint8)))
    instances = {
        "images": [
            {"id": i, "file_name": f"{name}.png", "height": SIDE, "width": SIDE}
            for i, name in ((1, "one"), (2, "two"))
        ],
        "annotations": [
            {"id": 7, "image_id": 1, "segmentation": SQUARE},
            {"id": 8, "image_id": 2, "segmentation": {"size": packed["size"], "counts": packed["counts"].decode()}},
        ],
    }  # fmt: skip
    refs = {
        "refcoco/refs(unc).p": [ref(1, ["the dog", "dog without a hat"], 7, "testA"), ref(2, ["a cat"], 8, "testB", 2),
                                ref(3, ["a bird"], 7, "val")],
        "refcoco+/refs(unc).p": [ref(1, ["the other dog"], 7, "testA")],
        "refcocog/refs(umd).p": [ref(1, ["the dog", "the dog that is not red"], 7, "test")],
        "grefcoco/grefs(unc).json": [ref(1, ["both"], [7, 7], "testA"), ref(2, ["a zebra"], [-1], "testA")],
    }  # fmt: skip
    for name, rows in refs.items():
        path = tmp_path / name
        path.parent.mkdir()
        (path.parent / "instances.json").write_text(json.dumps(instances))
        if path.suffix == ".p":
            path.write_bytes(pickle.dumps(rows, protocol=2))
        else:
            path.write_text(json.dumps(rows))
    return tmp_path


def items(name: str, data: Path, **options: Any) -> list[Any]:
    return load(task(name)).items(data, Options(**options))


class Spot:
    """A segmenter whose heat map is the same for every image: hot in the square's left half."""

    model, processor = None, SimpleNamespace(tokenizer=None)
    threshold, presence = 0.5, 0.3

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def heat(self, image: Image.Image, expressions: Sequence[str]) -> list[np.ndarray]:
        self.asked.append(list(expressions))
        heat = np.zeros((image.height, image.width), dtype=np.float32)
        heat[2:12, 2:7] = 0.9
        return [heat * (0.2 if "zebra" in text else 1) for text in expressions]


def records(name: str, data: Path, segmenter: Any = None) -> list[Record]:
    found = items(name, data)
    subject = Finder("spot", segmenter or Spot(), None)
    return [row for chunk in load(task(name)).run(found, set(), subject, Options()) for row in chunk]


def test_every_dataset_is_found_in_its_own_folder(data: Path) -> None:
    assert {item.expression for item in items("refcoco", data)} == {"the dog", "dog without a hat", "a cat"}
    assert [item.expression for item in items("refcoco+", data)] == ["the other dog"]
    assert [item.expression for item in items("refcoco", data, split="testB")] == ["a cat"]
    assert [item.expression for item in items("refcoco", data, split="validation")] == ["a bird"]
    assert [item.expression for item in items("refcocog-negated", data)] == ["the dog that is not red"]
    with pytest.raises(RequestError, match="no expression of the split 'train'; it has testA, testB, val"):
        items("refcoco", data, split="train")


def test_a_pickle_builds_plain_data_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps([_Calls()]))
    with pytest.raises(RequestError, match=r"asks for .*system"):
        read_plain_pickle(path)
    assert not (tmp_path / "pwned").exists()
    path.write_bytes(b"not a pickle")
    with pytest.raises(RequestError, match="cannot be read as a pickle"):
        read_plain_pickle(path)
    path.write_bytes(b"(lp0\n(dp1\nVsent\np2\nVa caf\\u00e9\np3\nsa.")  # protocol 0, as REFER's are
    assert read_plain_pickle(path) == [{"sent": "a café"}]


def test_polygons_and_run_lengths_become_masks(data: Path) -> None:
    masks = {item.expression: truth(item) for item in items("refcoco", data)}
    expected = np.zeros((SIDE, SIDE), dtype=bool)
    expected[2:12, 2:12] = True
    assert np.array_equal(masks["the dog"], expected)
    assert np.array_equal(masks["a cat"], np.eye(SIDE, dtype=bool))
    assert not truth(next(item for item in items("grefcoco", data) if item.expression == "a zebra")).any()


def test_an_image_is_looked_at_once_for_all_its_expressions(data: Path) -> None:
    segmenter = Spot()
    records("refcoco", data, segmenter)
    assert sorted(map(sorted, segmenter.asked)) == [["a cat"], ["dog without a hat", "the dog"]]


def test_measures_are_those_of_the_papers(data: Path) -> None:
    found = records("grefcoco", data)
    values = measure(found, found, data)
    # Half of the square is found: an IoU of .5; nothing is found where nothing is meant.
    assert list(values["miou"].values()) == [0.5]
    assert sorted(values["giou"].values()) == [0.5, 1.0]
    assert list(values["n-acc"].values()) == list(values["t-acc"].values()) == [1.0]
    assert list(values["precision@0.5"].values()) == [1.0]
    assert list(values["precision@0.6"].values()) == [0.0]
    assert set(values["auroc:affirmative"].values()) == {1.0}
    assert task("grefcoco").main == "giou"  # the mean IoU leaves out what means nothing


def test_the_cumulative_measure_weighs_by_area() -> None:
    rows = [
        {"id": str(i), "intersection": a, "union": b, "iou": a / b, "nothing": False, "negated": False, "family": "affirmative"}
        for i, (a, b) in enumerate([(10, 100), (3, 4), (50, 60)])
    ]  # fmt: skip
    values = measure(rows, rows, Path())
    assert np.mean(list(values["ciou"].values())) == pytest.approx(63 / 164)
    assert np.mean(list(values["miou"].values())) == pytest.approx((0.1 + 0.75 + 5 / 6) / 3)


def test_scores_that_tie_count_half() -> None:
    rows = [
        {"id": str(i), "intersection": 0, "union": 1, "iou": 0.0, "nothing": nothing, "empty": True, "negated": True,
         "family": "negated", "score": score}
        for i, (nothing, score) in enumerate([(False, 0.5), (False, 0.9), (True, 0.5), (True, 0.7)])
    ]  # fmt: skip
    values = np.array(list(measure(rows, rows, Path())["auroc:negated"].values()))
    # Of the two that are there .25 and 1 of the others score lower, of those .75 and .5 score higher.
    assert values.mean() == np.mean([0.25, 1.0]) == np.mean([0.75, 0.5])
    assert values.var() / 4 == pytest.approx(np.var([0.25, 1.0]) / 2 + np.var([0.75, 0.5]) / 2)


def test_an_image_of_another_size_than_its_annotations_is_refused(data: Path) -> None:
    Image.new("RGB", (SIDE, SIDE + 1)).save(data / "one.png")
    with pytest.raises(RequestError, match=r"one\.png: is 20 x 21 pixels, but its annotations say 20 x 20"):
        records("grefcoco", data)


@pytest.mark.parametrize("broken", ["[]", "{}", '{"images": [], "annotations": [{}]}', "no json"])
def test_instances_of_another_form_are_refused(data: Path, broken: str) -> None:
    (data / "grefcoco" / "instances.json").write_text(broken)
    with pytest.raises(RequestError, match=r"not a list of refs|cannot be read as JSON"):
        items("grefcoco", data)


def test_phrasecut_is_read_as_it_is(tmp_path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "5.jpg")
    square = [[[2, 2], [12, 2], [12, 12], [2, 12]]]
    (tmp_path / "refer_test.json").write_text(
        json.dumps(
            [{"task_id": "5__1", "image_id": 5, "phrase": "walking people", "Polygons": [square, square]}]
        )
    )
    (tmp_path / "image_data_split.json").write_text(
        json.dumps([{"image_id": 5, "width": SIDE, "height": SIDE, "split": "test"}])
    )
    (row,) = records("phrasecut", tmp_path)
    assert (row["id"], row["iou"]) == ("5__1", 0.5)
    (tmp_path / "refer_test.json").write_text(json.dumps([{"task_id": "5__1", "image_id": 6}]))
    with pytest.raises(RequestError, match=r"whose images image_data_split\.json knows"):
        items("phrasecut", tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_nothing_in_the_scene_fits_an_unmatched_phrase(split: Split) -> None:
    found = 0
    for index in range(300):
        scene = sample_scene(stream("scenes", split, 0, index))
        phrase = unmatched(scene, np.random.default_rng(index), split, negated=True)
        if phrase is None:
            continue
        found += 1
        named = [i for i, thing in enumerate(scene.things) if phrase.noun in (thing.kind, thing.gender)]
        assert named
        for i in named:
            thing = scene.things[i]
            had = {*thing.attributes, thing.colour} | ({"person"} if occupied(scene, i) else set())
            assert set(phrase.negated) <= had, phrase.text
    assert found > 50


def test_the_list_names_all_tasks_of_segmentation() -> None:
    names = {name for name, info in tasks().items() if info.kind == "segmentation"}
    assert names == {"grefcoco", "phrasecut", "refcoco", "refcoco+", "refcocog", "refcocog-negated"}


def test_arms_are_paired_on_a_real_segmenter(
    data: Path, clipseg_folder: Path, other_clip_folder: Path, tmp_path: Path
) -> None:
    options = dict.fromkeys(("limit", "pictures", "steps", "guidance_scale", "batch"))
    arms = f"vanilla,negative-prompt,mine={other_clip_folder},mine-no-gate={other_clip_folder}"
    document, _ = run(
        ["refcocog"], arms, "miniature", str(clipseg_folder), None, data, tmp_path / "out",
        options | {"seed": 0, "split": "test", "judge": "miniature/judge"}, "cpu", True,
    )  # fmt: skip
    found = document["tasks"]["refcocog"]
    assert list(found["arms"]) == ["vanilla", "mine", "mine-no-gate"]  # a method of drawing finds no mask
    scores = {
        arm: {r["expression"]: r["score"] for r in map(json.loads, Path(path).read_text().splitlines()[1:])}
        for arm, path in found["records"].items()
    }
    plain, negated = "the dog", "the dog that is not red"
    assert scores["vanilla"][plain] == scores["mine"][plain] != scores["mine-no-gate"][plain]
    assert scores["vanilla"][negated] != scores["mine"][negated] == scores["mine-no-gate"][negated]
    with pytest.raises(RequestError, match="none of these arms is one for tasks of segmentation"):
        run(["refcocog"], "both", "miniature", str(clipseg_folder), None, data, tmp_path / "out",
            options | {"seed": 0, "split": "test", "judge": "miniature/judge"}, "cpu", True)  # fmt: skip
