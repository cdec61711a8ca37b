"""COCO's and Flickr30k's own files: five captions an image, ranked both ways; ties counted; bad files in a line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eval.blind import blind_scorer
from eval.encoders import Encoder, Part, Scorer
from eval.options import Options
from eval.registry import load, task
from eval.runner import Subject, TaskResult, run_task
from negclip_core.clip import load_clip
from negclip_core.errors import RequestError

N = 60
TASKS = ("coco-retrieval", "flickr30k-retrieval")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both files about the same pictures, with six captions each; the last picture is of Flickr30k's other splits."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    coco: dict[str, list[Any]] = {"images": [], "annotations": []}
    flickr = []
    for n in range(N + 1):
        Image.new("RGB", (32, 32), (n * 4, 90, 40)).save(folder / "images" / f"{n}.png")
        said = [f"picture {n} has no dog {i}" for i in range(6)]
        if n < N:
            coco["images"].append({"id": n, "file_name": f"{n}.png"})
            coco["annotations"] += [{"image_id": n, "caption": text} for text in said]
        split = "test" if n < N else "val"
        flickr.append({"filename": f"{n}.png", "split": split, "sentences": [{"raw": text} for text in said]})
    (folder / "captions_val2017.json").write_text(json.dumps(coco))
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": flickr, "dataset": "flickr30k"}))
    return folder


def _run(name: str, data: Path, out: Path, make: Any, **options: Any) -> TaskResult:
    subject = Subject("arm", {}, make)
    return run_task(task(name), [subject], data, out, Options(**options), quiet=True)


@pytest.mark.parametrize("name", TASKS)
def test_five_captions_of_every_image_are_kept(name: str, data: Path) -> None:
    found = load(task(name)).items(data, Options())
    assert len(found) == N
    assert all(len(item.captions) == 5 and item.image.exists() for item in found)
    # Those with a negation as well, which the task "retrieval" leaves out.
    assert "has no dog 0" in found[0].captions[0]
    assert len(load(task(name)).items(data, Options(limit=7))) == 7


def test_flickr30k_has_splits(data: Path) -> None:
    found = load(task("flickr30k-retrieval")).items(data, Options(split="validation"))
    assert [item.image.name for item in found] == [f"{N}.png"]


class _Knows(Scorer):
    """Scores a caption by how near its picture's number is, and the first of a picture's captions a little higher."""

    def texts(self, texts: list[str]) -> np.ndarray:
        words = [text.split() for text in texts]
        return np.stack([self._row(int(word[1])) * (1 - int(word[-1]) / 1e5) for word in words])

    def images(self, parts: list[Part]) -> np.ndarray:
        return np.stack([self._row(int(part.path.stem)) for part in parts])

    def _row(self, number: int) -> np.ndarray:
        turn = 2 * np.pi * number / 200
        return np.array([np.cos(turn), np.sin(turn)], np.float32)


@pytest.mark.parametrize("name", TASKS)
def test_recalls_are_of_one_five_and_ten(name: str, data: Path, tmp_path: Path) -> None:
    result = _run(name, data, tmp_path, lambda _: _Knows("arm"))
    found = {metric: row["value"] for metric, row in result.arms["arm"].items()}
    assert found.pop("ties") == 0.0
    assert found == {f"{way}-r@{k}": 1.0 for k in (1, 5, 10) for way in ("text-to-image", "image-to-text")}


def test_two_equal_captions_of_an_image_are_both_its_own(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{n}.png"} for n in range(N)]
    said = [{"image_id": n, "caption": f"picture {n} 0"} for n in range(N) for _ in range(2)]
    (tmp_path / "captions_val2017.json").write_text(json.dumps({"images": images, "annotations": said}))
    for n in range(N):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{n}.png")
    result = _run("coco-retrieval", tmp_path, tmp_path / "out", lambda _: _Knows("arm"))
    found = result.arms["arm"]
    assert found["image-to-text-r@1"]["value"] == 1.0 and found["ties"]["value"] == 0.0


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("arm", ["blind-constant", "blind-random"])
def test_who_sees_nothing_gets_chance(
    name: str, arm: str, data: Path, tmp_path: Path, clip_folder: Path
) -> None:
    result = _run(name, data, tmp_path, lambda _: blind_scorer(arm, load_clip(clip_folder), 0))
    assert result.chance["text-to-image-r@10"] == 10 / N
    for metric, guessed in result.chance.items():
        found = result.arms["arm"][metric]
        assert found["low"] - 0.03 <= guessed <= found["high"] + 0.03, metric
    assert result.arms["arm"]["ties"]["value"] == (1.0 if arm == "blind-constant" else 0.0)


@pytest.mark.parametrize("name", TASKS)
def test_a_scorer_of_nan_is_an_error(name: str, data: Path, tmp_path: Path, clip_folder: Path) -> None:
    def broken(_: str) -> Encoder:
        clip = load_clip(clip_folder)
        clip.model.text_projection.data.fill_(float("nan"))
        return Encoder("broken", clip)

    with pytest.raises(RequestError, match=r"arm broken: the score of .* is not a finite number"):
        _run(name, data, tmp_path, broken)


_COCO = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "caption": "a"}]}
_FLICKR = {"filename": "a.png", "split": "test", "sentences": [{"raw": "a"}]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("coco-retrieval", [], "not COCO captions"),
        ("coco-retrieval", {**_COCO, "annotations": [{"image_id": 2, "caption": "a"}]}, "not COCO captions"),
        ("coco-retrieval", {**_COCO, "annotations": [{"image_id": 1, "caption": None}]}, "not a text"),
        ("coco-retrieval", {**_COCO, "images": _COCO["images"] * 2}, "an image's id is there twice"),
        ("coco-retrieval", {**_COCO, "images": [{"id": 1, "file_name": "b.png"}]}, "image b.png is not there"),
        ("flickr30k-retrieval", {}, "not Karpathy's form"),
        ("flickr30k-retrieval", {"images": [{**_FLICKR, "sentences": ["a"]}]}, "not Karpathy's form"),
        ("flickr30k-retrieval", {"images": [_FLICKR, _FLICKR]}, "a.png is there twice"),
        ("flickr30k-retrieval", {"images": [{**_FLICKR, "split": "train"}]}, "no image of the split 'test'"),
        ("flickr30k-retrieval", {"images": [{**_FLICKR, "filename": "b.png"}]}, "image b.png is not there"),
    ],
)  # fmt: skip
def test_bad_files_are_one_clear_line(name: str, content: Any, message: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    file = "captions_val2017.json" if name == "coco-retrieval" else "dataset_flickr30k.json"
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(RequestError, match=message) as error:
        load(task(name)).items(tmp_path, Options())
    assert "\n" not in str(error.value)
