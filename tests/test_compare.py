"""`negclip compare`: pictures, masks and scores of two text encoders on one page."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from negclip_core.errors import RequestError
from pipelines import score
from pipelines.compare import Request, run

NEGATED = "a street with no cars"


@pytest.fixture
def settings(other_clip_folder: Path, clip_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return {"text_encoder": str(other_clip_folder), "clip": str(clip_folder), "out": tmp_path / "out", "device": "cpu",
            "quiet": True}  # fmt: skip


def test_prompts_are_drawn_in_pairs_and_scored(pipeline_folder: Path, settings: dict[str, Any]) -> None:
    result = run(Request((NEGATED,), model=str(pipeline_folder), **settings))
    assert [image["arm"] for image in result["generate"]["images"]] == ["vanilla", "negationclip"]
    assert result["score"]["texts"] == [NEGATED, "a street"]
    assert result["score"]["images"] == [image["path"] for image in result["generate"]["images"]]
    assert list(result["score"]["arms"]) == ["vanilla", "negationclip"]
    # What draws is what scores.
    pair = ["vanilla", settings["text_encoder"]]
    alone = score.run(result["score"]["images"], result["score"]["texts"], settings["clip"], pair, "cpu")
    assert list(result["score"]["arms"].values()) == list(alone["arms"].values())
    page = Path(result["page"]).read_text("utf-8")
    assert NEGATED in page
    assert page.count("data:image/png;base64,") == 1
    json.dumps(result)


def test_expressions_are_found_in_every_picture(
    clipseg_folder: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for path in paths:
        Image.fromarray(np.full((24, 32, 3), 128, dtype=np.uint8)).save(path)
    things = (str(paths[0]), "the man without a hat", str(paths[1]))
    result = run(Request(things, model=str(clipseg_folder), **settings))
    assert result["generate"] is None
    assert [each["image"] for each in result["segment"]] == [str(path) for path in paths]
    assert all(
        {mask["arm"] for mask in each["masks"]} == {"vanilla", "negationclip"} for each in result["segment"]
    )
    assert result["score"]["images"] == [str(path) for path in paths]
    assert Path(result["page"]).read_text("utf-8").count("data:image/png;base64,") == 2


def test_what_cannot_be_compared_is_refused(
    clipseg_folder: Path, pipeline_folder: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "same.png")
    both = tuple(str(tmp_path / name / "same.png") for name in ("a", "b"))
    with pytest.raises(RequestError, match="no text"):
        run(Request(both[:1], **settings))
    with pytest.raises(RequestError, match="same name"):
        run(Request((*both, "the dog"), **settings))
    with pytest.raises(RequestError, match="no picture"):
        run(Request((NEGATED,), refine="sam", **settings))
    with pytest.raises(RequestError, match=r"photo\.jpg: no such file"):
        run(Request((str(tmp_path / "photo.jpg"), "the dog"), model=str(clipseg_folder), **settings))
    # Nothing is made before the last picture and the scores are known to be fine.
    lost = (both[0], str(tmp_path / "photo.jpg"), "the dog")
    with pytest.raises(RequestError, match=r"photo\.jpg: no such file"):
        run(Request(lost, model=str(clipseg_folder), **settings))
    clip = settings["clip"]
    for text_encoder, said in (
        (None, f"--clip {clip}: no NegationCLIP is known for it; name one with --text-encoder"),
        ("miniature/negationclip", f"--text-encoder is scored beside --clip {clip}: name the CLIP"),
        ("nonesuch", "no model called 'nonesuch'"),
    ):
        asked = settings | {"text_encoder": text_encoder}
        with pytest.raises(RequestError, match=re.escape(said)):
            run(Request((NEGATED,), model=str(pipeline_folder), **asked))
        with pytest.raises(RequestError, match=re.escape(said)):
            run(Request((both[0], "the dog"), model=str(clipseg_folder), **asked))
    assert not (tmp_path / "out").exists()
