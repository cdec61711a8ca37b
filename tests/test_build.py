"""`negclip miniature build`: every part runs, fits the next, and is not done twice."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from negclip_core.errors import RequestError
from negclip_core.world.drawing import draw
from negclip_core.world.scenes import sample_scene
from pipelines.generate import Request
from pipelines.generate import run as generate
from pipelines.miniature.build import PARTS, Plan, run
from pipelines.score import run as score
from pipelines.segment import Request as Segmentation
from pipelines.segment import run as segment


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    assert set(run(folder, [], Plan.small(), quiet=True)) == set(PARTS)
    return folder


def test_what_is_built_draws_and_scores_in_pairs(built: Path, tmp_path: Path) -> None:
    request = Request(
        ("a street with no cars",), str(built / "stable-diffusion"), text_encoder=str(built / "negationclip"), compare=True,
        steps=2, out=tmp_path, quiet=True,
    )  # fmt: skip
    result = generate(request)
    assert [image["arm"] for image in result["images"]] == ["vanilla", "negationclip"]
    scores = score([result["images"][0]["path"]], ["a street"], str(built / "clip"),
                   ["vanilla", str(built / "negationclip")], "cpu")  # fmt: skip
    assert len(scores["arms"]) == 2


def test_few_steps_are_a_lora_of_the_pipeline_and_bring_their_settings(built: Path, tmp_path: Path) -> None:
    def record(**asked: Any) -> dict[str, Any]:
        result = generate(Request(("a street",), str(built / "stable-diffusion"), out=tmp_path, quiet=True,
                                  text_encoder=str(built / "negationclip"), **asked))  # fmt: skip
        with Image.open(result["images"][0]["path"]) as image:
            found: dict[str, Any] = json.loads(image.info["negclip"])
        return found

    few = record(lora=str(built / "few-steps"))
    assert (few["lora"], few["steps"], few["guidance_scale"]) == (str(built / "few-steps"), 4, 1.0)
    assert few["model_sha256"] != record(steps=4, guidance_scale=1.0)["model_sha256"]


@pytest.mark.parametrize("lora", ["missing", "empty folder", "another model", "no tensors"])
def test_what_is_no_lora_of_the_pipeline_is_refused(built: Path, tmp_path: Path, lora: str) -> None:
    path = tmp_path / "lora"
    if lora == "empty folder":
        path.mkdir()
    elif lora == "another model":
        path = built / "clip" / "open_clip_model.safetensors"
    elif lora == "no tensors":
        path = tmp_path / "lora.safetensors"
        path.write_bytes(b"no tensors at all")
    request = Request(
        ("a street",), str(built / "stable-diffusion"), str(path), out=tmp_path / "out", quiet=True
    )
    with pytest.raises(RequestError, match=str(path)):
        generate(request)
    assert not (tmp_path / "out").exists()


def test_what_is_built_segments_and_sharpens(built: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(draw(sample_scene(np.random.default_rng(0)), 64).image).save(picture)
    asked: dict[str, Any] = {
        "model": str(built / "clipseg"),
        "text_encoder": str(built / "negationclip"),
        "quiet": True,
    }
    for refine in (None, "sam", "sam-proposals"):
        request = Segmentation(picture, ("the man without a hat",), compare=True, refine=refine, threshold=0.01,
                               sam=str(built / "sam") if refine else None, out=tmp_path / "masks", **asked)  # fmt: skip
        masks = segment(request)["masks"]
        assert [row["arm"] for row in masks] == ["vanilla", "negationclip"]


def test_the_pipeline_folder_is_one_that_diffusers_loads_by_itself(built: Path) -> None:
    index = json.loads((built / "stable-diffusion" / "model_index.json").read_text("utf-8"))
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert {value[0] for key, value in index.items() if isinstance(value, list) and value[0]} <= {
        "diffusers",
        "transformers",
    }
    assert not list((built / "stable-diffusion").rglob("*.bin"))


def test_finished_parts_are_left_alone(built: Path) -> None:
    weights = built / "stable-diffusion" / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.stat().st_mtime_ns
    run(built, ["unet", "stable-diffusion"], Plan.small(), quiet=True)
    assert weights.stat().st_mtime_ns == before


def test_another_plan_is_refused(built: Path) -> None:
    with pytest.raises(RequestError, match=r"holds a build with another plan; give another --out"):
        run(built, [], Plan(), quiet=True)


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"part 'vae' is not known; there are: text-tower, clip, autoencoder, unet"
    ):
        run(tmp_path / "out", ["vae"], Plan.small(), quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_part_that_needs_another_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for part, missing in (
        ("clip", "text-tower"),
        ("few-steps", "stable-diffusion"),
        ("unet", "text-tower, autoencoder"),
    ):
        with pytest.raises(
            RequestError, match=rf"--part {part}: it is made from {missing}, not in .*; add --part"
        ):
            run(out, [part], Plan.small(), quiet=True)
    assert not out.exists()


def test_what_needs_peft_is_refused_before_hours_of_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RequestError, match=r"few-steps needs PEFT; pip install 'negclip\[lora\]'"):
        run(tmp_path / "out", [], Plan.small(), quiet=True)
    assert not (tmp_path / "out").exists()


def test_parts_are_built_in_the_order_that_they_need(tmp_path: Path) -> None:
    found = run(tmp_path, ["clip", "text-tower"], Plan.small(), quiet=True)
    assert list(found) == ["text-tower", "clip"]
    assert (tmp_path / "clip" / "open_clip_model.safetensors").is_file()
