"""Image features are computed once, kept for later runs, and follow the pictures they are of."""

import json
import os
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from negclip_core.clip import Clip, load_clip
from negclip_core.errors import RequestError
from negclip_core.training import features
from negclip_core.training.features import feature_folder, image_features
from pipelines.train import run

NAMES = [f"{number}.png" for number in range(12)]


def _count_pictures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of the image tower sees, from now on."""
    seen: list[int] = []
    encode = Clip.encode_pixels

    def counted(self: Clip, pixels: torch.Tensor) -> torch.Tensor:
        seen.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(Clip, "encode_pixels", counted)
    return seen


def test_features_are_the_image_towers_and_are_kept(
    clip: Clip, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = clip.encode_image([Image.open(corpus / name) for name in NAMES])
    seen = _count_pictures(monkeypatch)
    first = image_features(clip, corpus, NAMES[:7], tmp_path, quiet=True)
    again = image_features(clip, corpus, [*NAMES[3:], NAMES[3]], tmp_path, quiet=True)
    assert seen == [7, 5]
    for name, row in zip(NAMES, expected, strict=True):
        for found in (first, again):
            if name in found.row:
                torch.testing.assert_close(found.table[found.row[name]], row)
    assert set(first.row) | set(again.row) == set(NAMES) and len(again.row) == 9


def test_a_changed_picture_is_looked_at_again_and_a_touched_one_is_not(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (16, 16), colour).save(tmp_path / name)
    before = image_features(clip, tmp_path, ["a.png", "b.png"], tmp_path / "store", quiet=True)
    seen = _count_pictures(monkeypatch)
    os.utime(tmp_path / "a.png", ns=(1, 1))
    Image.new("RGB", (16, 16), "green").save(tmp_path / "b.png")
    after = image_features(clip, tmp_path, ["a.png", "b.png"], tmp_path / "store", quiet=True)
    assert seen == [1] and after.row["a.png"] == before.row["a.png"]
    new = clip.encode_image([Image.open(tmp_path / "b.png")])[0]
    torch.testing.assert_close(after.table[after.row["b.png"]], new)


@pytest.mark.parametrize("lost", ["half a row", "half a line", "a line spoiled"])
def test_an_interrupted_pass_goes_on(
    lost: str, clip: Clip, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = image_features(clip, corpus, NAMES, tmp_path / "whole", quiet=True)
    image_features(clip, corpus, NAMES[:8], tmp_path / "cut", quiet=True)
    file = tmp_path / "cut" / ("features.f32" if lost == "half a row" else "index.jsonl")
    cut = file.read_bytes()[:-20]
    file.write_bytes(cut + b"\n" if lost == "a line spoiled" else cut)
    seen = _count_pictures(monkeypatch)
    found = image_features(clip, corpus, NAMES, tmp_path / "cut", quiet=True)
    assert seen == [5]
    for name in NAMES:
        torch.testing.assert_close(found.table[found.row[name]], whole.table[whole.row[name]])


def test_a_store_belongs_to_an_image_tower(
    clip: Clip, clip_folder: Path, other_clip_folder: Path, tmp_path: Path
) -> None:
    other = load_clip(other_clip_folder)
    assert feature_folder(clip, tmp_path) == feature_folder(load_clip(clip_folder), tmp_path)
    assert feature_folder(clip, tmp_path) != feature_folder(other, tmp_path)
    # Another text tower beside the same image tower needs no other features.
    for name in list(clip.checkpoint.weights):
        if not name.startswith("visual."):
            clip.checkpoint.weights[name] = clip.checkpoint.weights[name] + 1
    assert feature_folder(clip, tmp_path) == feature_folder(load_clip(clip_folder), tmp_path)
    clip.checkpoint.preprocess["mean"] = [0.4] * 3
    assert feature_folder(clip, tmp_path) != feature_folder(load_clip(clip_folder), tmp_path)


def test_shards_are_read_as_folders_are(clip: Clip, corpus: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name in NAMES[:3]:
            archive.add(corpus / name, name)
    plain = image_features(clip, corpus, NAMES[:3], tmp_path / "plain", quiet=True)
    packed = image_features(
        clip, tmp_path, [f"0.tar/{n}" for n in NAMES[:3]], tmp_path / "packed", quiet=True
    )
    torch.testing.assert_close(packed.table, plain.table)
    with pytest.raises(RequestError, match=r"0\.tar holds no 99\.png"):
        image_features(clip, tmp_path, ["0.tar/99.png"], tmp_path / "packed", quiet=True)


def test_a_damaged_shard_counts_as_pictures_that_cannot_be_read(
    clip: Clip, corpus: Path, tmp_path: Path
) -> None:
    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as archive:
            archive.add(corpus / NAMES[number], NAMES[number])
    (tmp_path / "1.tar").write_bytes((tmp_path / "1.tar").read_bytes()[:100])
    names = [f"{number}.tar/{NAMES[number]}" for number in range(2)]
    found = image_features(clip, tmp_path, names, tmp_path / "store", most_bad=0.5, quiet=True)
    assert list(found.row) == names[:1] and list(found.bad) == names[1:]
    with pytest.raises(
        RequestError, match=r"1 of 2 images .* 1\.tar/1\.png \(.*1\.tar: not a shard that can be read"
    ):
        image_features(clip, tmp_path, names, tmp_path / "store", quiet=True)


def _spoil(corpus: Path, folder: Path) -> None:
    """A copy of the corpus in which one picture is missing, one is cut off, and one is no picture."""
    for file in corpus.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "1.png").unlink()
    (folder / "2.png").write_bytes((corpus / "2.png").read_bytes()[:60])
    (folder / "5.png").write_text("no picture", "utf-8")


def test_bad_pictures_are_listed_and_passed_over_up_to_a_share(
    clip_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "corpus").mkdir()
    _spoil(corpus, tmp_path / "corpus")
    captions = tmp_path / "corpus" / "captions.json"
    with pytest.raises(
        RequestError, match=r"of 12 images cannot be read, the first of them .*--max-bad-images"
    ) as error:
        run(captions, captions.parent, str(clip_folder), tmp_path / "out", epochs=1, batch_size=4, quiet=True)
    assert "\n" not in str(error.value)
    result = run(captions, captions.parent, str(clip_folder), tmp_path / "out", max_bad_images=0.3, epochs=1,
                 batch_size=4, quiet=True)  # fmt: skip
    listed = [
        json.loads(line) for line in (tmp_path / "out" / "bad_images.jsonl").read_text("utf-8").splitlines()
    ]
    assert [entry["file_name"] for entry in listed] == ["1.png", "2.png", "5.png"]
    assert result["bad_images"] == 3


def test_a_cache_that_cannot_be_written_is_one_clear_line(
    clip_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / "file" / "x"))
    with pytest.raises(RequestError, match="set HF_ASSETS_CACHE"):
        run(corpus / "captions.json", corpus, str(clip_folder), tmp_path / "out", quiet=True)


def test_the_next_batch_is_opened_while_one_is_encoded(
    clip: Clip, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "_AT_ONCE", 5)
    seen = _count_pictures(monkeypatch)
    found = image_features(clip, corpus, NAMES, tmp_path, quiet=True)
    assert seen == [5, 5, 2] and [found.row[name] for name in NAMES] == list(range(12))
