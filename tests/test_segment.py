"""`negclip segment`: masks of the image's size, in pairs, from any picture that people have."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from negclip_core.errors import RequestError
from negclip_core.files import sha256_file
from negclip_core.images import open_image
from pipelines.segment import Request, run

NEGATED, PLAIN = "the man without a hat", "the man in a red shirt"


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def ask(photograph: Path, clipseg_folder: Path, other_clip_folder: Path, tmp_path: Path) -> Any:
    def run_with(*expressions: str, **changes: Any) -> dict[str, Any]:
        settings: dict[str, Any] = {"image": photograph, "model": str(clipseg_folder), "text_encoder": str(other_clip_folder),
                    "out": tmp_path / "out", "quiet": True, "device": "cpu"}  # fmt: skip
        return run(Request(expressions=expressions, **(settings | changes)))

    return run_with


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_masks_come_in_pairs_and_fit_the_image(ask: Any) -> None:
    result = ask(NEGATED, PLAIN, compare=True)
    assert [(row["arm"], row["expression"]) for row in result["masks"]] == [
        ("vanilla", NEGATED), ("vanilla", PLAIN), ("negationclip", NEGATED), ("negationclip", PLAIN),
    ]  # fmt: skip
    for row in result["masks"]:
        mask = pixels(row["path"])
        assert mask.shape == (48, 40)
        assert set(np.unique(mask)) <= {0, 255}
        assert row["area_fraction"] == pytest.approx((mask > 0).mean())
        assert np.array_equal(coco.decode(row["rle"]) > 0, mask > 0)
    vanilla, negation = (
        [row for row in result["masks"] if row["arm"] == arm] for arm in ("vanilla", "negationclip")
    )
    # The gate: what does not negate is vanilla's, bit for bit.
    assert np.array_equal(pixels(vanilla[1]["path"]), pixels(negation[1]["path"]))
    assert vanilla[0]["score"] != negation[0]["score"]
    assert Image.open(result["overlay"]).width > 2 * 256


def test_a_mask_says_what_made_it(ask: Any) -> None:
    row = ask(NEGATED)["masks"][0]
    record = json.loads(Image.open(row["path"]).text["negclip"])  # type: ignore[attr-defined]
    assert record["expression"] == NEGATED
    assert record.keys() >= {"image_sha256", "model_sha256", "text_encoder_sha256", "threshold", "made_by"}
    assert record["sam"] is None and record["sam_sha256"] is None
    assert ask(NEGATED)["masks"][0]["path"] == row["path"]


def test_what_is_nowhere_gives_an_empty_mask(ask: Any, clipseg_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(clipseg_folder, tmp_path / "calibrated")
    (folder / "negclip.json").write_text(json.dumps({"presence": 0.9999}), "utf-8")
    row = ask(PLAIN, model=str(folder), threshold=0.001)["masks"][0]
    assert not row["found"] and row["box"] is None and row["area_fraction"] == 0
    assert not pixels(row["path"]).any()
    assert ask(PLAIN, threshold=0.001)["masks"][0]["found"]


def test_box_and_threshold_follow_the_heat(ask: Any) -> None:
    tight, wide = (ask(PLAIN, threshold=value)["masks"][0] for value in (0.999, 0.001))
    assert tight["area_fraction"] <= wide["area_fraction"] == 1
    assert wide["box"] == [0, 0, 40, 48]


@pytest.mark.parametrize("way", ["sam", "sam-proposals"])
def test_sam_takes_part(ask: Any, published_sam: Path, way: str) -> None:
    result = ask(NEGATED, PLAIN, compare=True, refine=way, sam=str(published_sam), threshold=0.001)
    assert len(result["masks"]) == 4
    assert all(pixels(row["path"]).shape == (48, 40) for row in result["masks"])
    record = json.loads(Image.open(result["masks"][0]["path"]).text["negclip"])  # type: ignore[attr-defined]
    assert record["sam"] == str(published_sam)
    assert record["sam_sha256"] == sha256_file(published_sam / "model.safetensors")


def test_without_proposals_nothing_is_found(
    ask: Any, published_sam: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("integrations.segment_anything.Look.proposals", [])
    row = ask(PLAIN, refine="sam-proposals", sam=str(published_sam), threshold=0.001)["masks"][0]
    assert not row["found"] and row["area_fraction"] == 0


def test_a_large_photograph_is_worked_at_smaller_and_answered_whole(ask: Any, tmp_path: Path) -> None:
    Image.new("RGB", (2600, 1300), "white").save(tmp_path / "large.png")
    row = ask(PLAIN, image=tmp_path / "large.png")["masks"][0]
    assert pixels(row["path"]).shape == (1300, 2600)


def half_red(mode: str = "RGB", size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Red above, blue below."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (0, size[1] // 2, *size))
    return image.convert(mode)


@pytest.mark.parametrize("mode, suffix", [("RGB", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("P", "gif"), ("RGBA", "webp")])  # fmt: skip
def test_colours_are_read_from_every_mode(tmp_path: Path, mode: str, suffix: str) -> None:
    half_red(mode).save(tmp_path / f"x.{suffix}")
    read = np.asarray(open_image(tmp_path / f"x.{suffix}")).astype(int)
    assert read.shape == (20, 40, 3)
    assert abs(read[2, 5] - [255, 0, 0]).max() < 40
    assert abs(read[17, 5] - [0, 0, 255]).max() < 40


def test_sixteen_bits_are_scaled_and_transparency_is_white(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 32896, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(open_image(tmp_path / "deep.png")).tolist()[0][0] == [128, 128, 128]
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    assert np.asarray(open_image(tmp_path / "clear.png")).tolist()[0][0] == [255, 255, 255]


def test_a_turned_photograph_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees
    half_red().save(tmp_path / "turned.jpg", exif=exif)
    assert open_image(tmp_path / "turned.jpg").size == (20, 40)


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    half_red().save(tmp_path / "x.gif", save_all=True, append_images=[Image.new("RGB", (40, 20), "lime")])
    assert np.asarray(open_image(tmp_path / "x.gif"))[2, 5].tolist() == [255, 0, 0]


def damaged(folder: Path, kind: str) -> Path:
    path = folder / "bad.png"
    half_red(size=(400, 300)).save(path)
    content = bytearray(path.read_bytes())
    if kind == "cut":
        content = content[: len(content) // 2]
    elif kind == "text":
        content = bytearray(b"not a picture")
    elif kind == "empty":
        content = bytearray()
    elif kind == "lies about its size":
        content[16:24] = (60000).to_bytes(4, "big") * 2
    elif kind == "no area":
        content[16:20] = (0).to_bytes(4, "big")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["cut", "text", "empty", "lies about its size", "no area"])
def test_what_is_no_picture_is_refused(ask: Any, tmp_path: Path, kind: str) -> None:
    with pytest.raises(RequestError, match=r"bad\.png: expected a picture"):
        ask(PLAIN, image=damaged(tmp_path, kind))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "expressions, changes, says",
    [
        ((), {}, "expression is empty"),
        ((" ",), {}, "expression is empty"),
        ((PLAIN, PLAIN), {}, "given twice"),
        ((PLAIN,), {"refine": "magic"}, "sam or sam-proposals"),
        ((PLAIN,), {"sam": "x"}, "does nothing without --refine"),
        ((PLAIN,), {"threshold": 1.5}, "between 0 and 1"),
        ((PLAIN,), {"model": "nothing-such"}, "no model called"),
        ((PLAIN,), {"image": Path("nowhere.png")}, "no such file"),
        (("a man with no hat " * 30,), {}, "the negation"),
    ],
)
def test_bad_requests_are_refused(
    ask: Any, tmp_path: Path, expressions: tuple[str, ...], changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(RequestError, match=says):
        ask(*expressions, **changes)
    assert not (tmp_path / "out").exists()


def test_an_encoder_that_does_not_fit_is_refused(ask: Any, wide_clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="width 64 expected, 96 given"):
        ask(NEGATED, text_encoder=str(wide_clip_folder))
    assert not (tmp_path / "out").exists()
