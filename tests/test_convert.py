"""One CLIP from every layout to every other: the same tensors bit for bit, the same numbers from three libraries."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from negclip_core.checkpoints import Checkpoint, read_checkpoint, write_open_clip_folder
from negclip_core.clip import Clip, load_clip
from negclip_core.convert import LAYOUTS, architecture_of, write_checkpoint
from negclip_core.errors import RequestError
from pipelines.cli import app
from pipelines.convert import run

TEXTS = ["a street with no cars", "a park"]
NAMES = {
    "openai": "clip.pt",
    "open_clip": "open_clip",
    "transformers": "transformers",
    "comfyui": "clip_l.safetensors",
}


def mixed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As OpenAI's files are: matrices in half precision, norms and embeddings not."""
    halves = ("attn.in_proj", "attn.out_proj", "mlp.", "text_projection", "visual.proj", "conv1")
    return {
        name: tensor.half() if any(part in name for part in halves) else tensor
        for name, tensor in weights.items()
    }


@pytest.fixture(params=[True, False], ids=["quick_gelu", "gelu"])
def source(request: pytest.FixtureRequest, clip_folder: Path, tmp_path: Path) -> Path:
    """An open_clip folder of mixed dtypes, with heads of OpenAI's width."""
    own = read_checkpoint(clip_folder)
    folder = tmp_path / "source"
    config = {
        **own.config,
        "quick_gelu": request.param,
        "text_cfg": {**own.config["text_cfg"], "heads": 1},
        "vision_cfg": {**own.config["vision_cfg"], "head_width": 64},
    }
    write_open_clip_folder(
        folder, mixed(own.weights), config, preprocess=own.preprocess, made_by={},
        tokenizer_folder=clip_folder, dtype=None,
    )  # fmt: skip
    return folder


def converted(checkpoint: Checkpoint, out: Path, layout: str) -> Checkpoint:
    write_checkpoint(checkpoint, out / NAMES[layout], layout, {})
    return read_checkpoint(out / NAMES[layout])


@pytest.mark.parametrize(
    ("source", "first", "second"),
    [(quick_gelu, *pair) for quick_gelu in (True, False) for pair in product(LAYOUTS, LAYOUTS)
     if quick_gelu or not {"openai", "comfyui"} & set(pair)],
    indirect=["source"],
)  # fmt: skip
def test_there_and_back_nothing_changes(source: Path, tmp_path: Path, first: str, second: str) -> None:
    own = read_checkpoint(source)
    there = converted(own, tmp_path / "there", first)
    assert there.layout == first
    back = converted(converted(there, tmp_path / "further", second), tmp_path / "back", "open_clip")
    whole = "comfyui" not in (first, second)
    expected = [
        name for name in own.weights if whole or not (name.startswith("visual.") or name == "logit_scale")
    ]
    assert sorted(back.weights) == sorted(expected)
    for name in expected:
        assert torch.equal(back.weights[name], own.weights[name]), name
        assert back.dtypes[name] == own.dtypes[name], name


def test_three_libraries_say_the_same(source: Path, tmp_path: Path) -> None:
    import open_clip
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    own = load_clip(source)
    for layout in ("open_clip", "transformers"):
        write_checkpoint(own.checkpoint, tmp_path / layout, layout, {})
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'open_clip'}").eval()
    hub = CLIPModel.from_pretrained(tmp_path / "transformers", dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "transformers")
    processor = CLIPImageProcessor.from_pretrained(tmp_path / "transformers")
    ids = tokenizer(TEXTS, padding="max_length", max_length=77, return_tensors="pt").input_ids
    pixels = own.preprocess(picture)[None]
    torch.testing.assert_close(
        processor(picture, return_tensors="pt").pixel_values, pixels, rtol=1e-4, atol=1e-5
    )
    normal = torch.nn.functional.normalize
    with torch.no_grad():
        texts = [own.encode_text(TEXTS), theirs.encode_text(ids, normalize=True),
                 normal(hub.get_text_features(ids).pooler_output, dim=-1)]  # fmt: skip
        images = [own.encode_image([picture]), theirs.encode_image(pixels, normalize=True),
                  normal(hub.get_image_features(pixels).pooler_output, dim=-1)]  # fmt: skip
    for found in (texts, images):
        for other in found[1:]:
            torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-5)
    assert hub.logit_scale.exp().item() == pytest.approx(own.logit_scale)


@pytest.mark.parametrize("source", [True], indirect=True)
def test_a_text_tower_alone_is_a_model_of_its_own(source: Path, tmp_path: Path) -> None:
    from transformers import CLIPTextModelWithProjection

    write_checkpoint(load_clip(source).checkpoint, tmp_path / "clip_l.safetensors", "comfyui", {})
    alone = read_checkpoint(tmp_path / "clip_l.safetensors")
    write_checkpoint(alone, tmp_path / "tower", "transformers", {})
    CLIPTextModelWithProjection.from_pretrained(tmp_path / "tower")


def test_pictures_are_prepared_in_transformers_layout_as_before(tmp_path: Path) -> None:
    own = load_clip("miniature/clip")  # squashed, bilinear, and normalised in its own way
    write_checkpoint(own.checkpoint, tmp_path / "hub", "transformers", {})
    there = load_clip(tmp_path / "hub")
    assert there.checkpoint.preprocess == own.checkpoint.preprocess
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8))
    scores = [clip.encode_image([picture]) @ clip.encode_text(TEXTS).T for clip in (own, there)]
    assert torch.equal(*scores)
    write_checkpoint(there.checkpoint, tmp_path / "back", "open_clip", {})
    assert read_checkpoint(tmp_path / "back").preprocess == own.checkpoint.preprocess


@pytest.mark.parametrize(
    ("preprocess", "changes"),
    [
        ({}, {}),
        ({}, {"size": 16, "crop_size": 16}),  # as configs of old have it
        ({"resize_mode": "squash", "interpolation": "bilinear"}, {}),
        ({"mean": 0.5, "std": [0.5, 0.5, 0.25]}, {"do_convert_rgb": None}),
    ],
)
@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a processor"])
def test_what_transformers_keeps_of_an_image_processor_is_read(
    source: Path, tmp_path: Path, preprocess: dict[str, Any], changes: dict[str, Any], nested: bool
) -> None:
    from transformers import CLIPImageProcessor

    own = replace(read_checkpoint(source), preprocess=preprocess)
    write_checkpoint(own, tmp_path, "transformers", {})
    CLIPImageProcessor.from_pretrained(tmp_path).save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    written = json.loads(file.read_text("utf-8")) | changes
    if nested:
        (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": written}))
        written["resample"] = 0  # of the two, transformers reads the other
    file.write_text(json.dumps(written))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8))
    found, expected = load_clip(tmp_path), Clip("own", own, torch.device("cpu"))
    assert torch.equal(found.preprocess(picture), expected.preprocess(picture))
    assert bool(found.checkpoint.preprocess) == bool(preprocess), "empty where it is OpenAI's"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"resample": 1}, "resample 1"),
        ({"resample": [3]}, "unhashable"),
        ({"size": {"shortest_edge": 20}}, "size {'shortest_edge': 20} for pictures of 16 pixels"),
        ({"crop_size": 8}, "crop_size 8 for pictures of 16 pixels"),
        ({"do_normalize": False}, "do_normalize is false"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor 0.0078"),
        ({"image_mean": 0.5}, "not iterable"),
    ],
)
def test_an_image_processor_that_open_clip_has_not_is_refused(
    source: Path, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    write_checkpoint(read_checkpoint(source), tmp_path, "transformers", {})
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes))
    with pytest.raises(
        RequestError, match=r"preprocessor_config\.json prepares pictures as open_clip does not"
    ) as caught:
        read_checkpoint(tmp_path)
    assert line in str(caught.value)


@torch.no_grad()
def test_perceptrons_of_any_width_go_through_every_layout(clip_folder: Path, tmp_path: Path) -> None:
    import open_clip

    config = read_checkpoint(clip_folder).config
    text = {**config["text_cfg"], "heads": 1, "mlp_ratio": 3.37}
    vision = {**config["vision_cfg"], "head_width": 64, "mlp_ratio": 4.9231}
    model = CLIP(32, CLIPVisionCfg(**vision), CLIPTextCfg(**text), quick_gelu=True).eval()
    own = {**config, "text_cfg": text, "vision_cfg": vision}
    write_open_clip_folder(
        tmp_path / "own", model.state_dict(), own, preprocess={}, made_by={}, tokenizer_folder=clip_folder
    )
    clip = load_clip(tmp_path / "own")
    ids = clip.tokenizer(TEXTS)
    expected = clip.model.encode_text(ids)
    for layout in LAYOUTS:
        there = Clip(layout, converted(clip.checkpoint, tmp_path / layout, layout), torch.device("cpu"))
        assert torch.equal(there.model.encode_text(ids), expected)
        torch.testing.assert_close(there.text_encoder(projection=True)(ids).text_embeds, expected)
        if layout != "comfyui":  # the text tower alone
            write_checkpoint(there.checkpoint, tmp_path / "back" / layout, "open_clip", {})
            theirs = open_clip.create_model(f"local-dir:{tmp_path / 'back' / layout}").state_dict()
            assert all(torch.equal(theirs[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("part", "said", "line"),
    [
        ("", {"quick_gelu": False}, "GELU, since its readers take QuickGELU for granted"),
        ("text_cfg", {"heads": 2}, "heads that are not of width 64"),
        ("vision_cfg", {"head_width": 32}, "heads that are not of width 64"),
    ],
)
@pytest.mark.parametrize("source", [True], indirect=True)
def test_openais_layout_refuses_what_its_readers_take_otherwise(
    source: Path, tmp_path: Path, part: str, said: dict[str, Any], line: str
) -> None:
    own = read_checkpoint(source)
    (own.config[part] if part else own.config).update(said)
    with pytest.raises(RequestError, match=f"openai's layout cannot hold {line}.*; choose open_clip"):
        write_checkpoint(own, tmp_path / "clip.pt", "openai", {})
    assert not (tmp_path / "clip.pt").exists()
    for layout in ("open_clip", "transformers"):
        found = converted(own, tmp_path / layout, layout).config
        assert (found[part] if part else found).items() >= said.items()


@pytest.mark.parametrize(("layers", "quick_gelu"), [(12, True), (13, False)], ids=["clip_l", "clip_g"])
@torch.no_grad()
def test_weights_alone_have_the_activation_that_their_readers_take_for_granted(
    clip_folder: Path, tmp_path: Path, layers: int, quick_gelu: bool
) -> None:
    config = read_checkpoint(clip_folder).config
    text = {**config["text_cfg"], "heads": 1, "layers": layers}
    model = CLIP(32, CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**text), quick_gelu=quick_gelu).eval()
    own = {**config, "text_cfg": text, "quick_gelu": quick_gelu}
    write_open_clip_folder(
        tmp_path / "own", model.state_dict(), own, preprocess={}, made_by={}, tokenizer_folder=clip_folder
    )
    clip = load_clip(tmp_path / "own")
    there = Clip("there", converted(clip.checkpoint, tmp_path, "comfyui"), torch.device("cpu"))
    ids = clip.tokenizer(TEXTS)
    assert torch.equal(there.model.encode_text(ids), model.encode_text(ids))
    write_checkpoint(clip.checkpoint, tmp_path / "hub", "transformers", {})
    (tmp_path / "hub" / "model.safetensors").rename(tmp_path / "alone.safetensors")
    alone = Clip("alone", read_checkpoint(tmp_path / "alone.safetensors"), torch.device("cpu"))
    assert torch.equal(alone.model.encode_text(ids), model.encode_text(ids))
    clip.config["quick_gelu"] = not quick_gelu
    for layout in ("comfyui", "openai"):
        refused = rf"{layout}'s layout cannot hold (Quick)?GELU, since its readers take"
        with pytest.raises(RequestError, match=refused):
            write_checkpoint(clip.checkpoint, tmp_path / "other.safetensors", layout, {})
        assert not (tmp_path / "other.safetensors").exists()


def test_transformers_layout_refuses_pictures_that_it_cannot_prepare(source: Path, tmp_path: Path) -> None:
    own = replace(read_checkpoint(source), preprocess={"resize_mode": "longest"})
    with pytest.raises(
        RequestError, match="cannot hold pictures prepared with bicubic and longest; choose open_clip"
    ):
        write_checkpoint(own, tmp_path / "hub", "transformers", {})
    assert not (tmp_path / "hub").exists()


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["convert", "miniature/clip", str(tmp_path / "clip.safetensors"), "--to", "openai", "--json"]
    )
    document = json.loads(result.stdout)
    assert document.keys() == {"in", "out", "layout", "architecture", "tensors", "sha256"}
    assert document["sha256"] == load_clip(tmp_path / "clip.safetensors").sha256
    assert document["tensors"] == len(read_checkpoint(tmp_path / "clip.safetensors").weights)
    assert "openai's layout does not say how pictures are prepared" in result.stderr


@pytest.mark.parametrize(
    "name", ["ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-H-14", "ViT-bigG-14", "RN50"]
)
def test_architectures_are_known_by_their_sizes(name: str) -> None:
    import open_clip

    config = open_clip.get_model_config(name)
    assert config is not None
    assert architecture_of(config) == name


def test_what_cannot_be_written_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out, layout, message in (
        ("out", "onnx", "is not known; there are: openai"),
        ("out", "openai", "is one file; give it a name ending in"),
        ("clip.pt", "comfyui", r"ending in \.safetensors"),
        ("file", "transformers", "a file of that name is there"),
    ):
        with pytest.raises(RequestError, match=message):
            run(str(clip_folder), tmp_path / out, layout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_clips_own_tokenizer_goes_with_clips_own_words(tmp_path: Path) -> None:
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    import negclip_core.convert as convert

    config = {"text_cfg": {"vocab_size": 49408, "context_length": 77}}
    convert._write_tokenizer(Checkpoint({}, config, "openai", ""), tmp_path)
    written = CLIPTokenizer.from_pretrained(tmp_path)
    texts = ["a street with no cars", "isn't it? a café, 3 dogs"]
    ids = written(texts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    own = SimpleTokenizer()(texts)
    # Where a text ends, CLIP's own pads with zeros and transformers' with the end token: neither is read.
    ends = own.argmax(1)
    for row, end in enumerate(ends.tolist()):
        assert torch.equal(ids[row, : end + 1], own[row, : end + 1])
