"""A NegationCLIP file of each ViT is loaded, trained a step, saved, and read by open_clip and transformers alike."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, build_model_from_openai_state_dict
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from negclip_core.clip import load_clip
from pipelines.convert import run as convert
from pipelines.train import run as train

TEXTS = ["a street with no cars", "a park", ""]
NARROW = {
    "layers": 2,
    "width": 128,
}  # all else is as published: pictures, patches, words, positions, heads of 64


def _file(name: str, dtype: torch.dtype, path: Path) -> Path:
    """A random CLIP as NegationCLIP's files are: OpenAI's state dict, all of it in one dtype."""
    config: dict[str, Any] = open_clip.get_model_config(name) or {}
    vision = CLIPVisionCfg(**{**config["vision_cfg"], **NARROW})
    text = CLIPTextCfg(**{**config["text_cfg"], **NARROW, "heads": 2})
    torch.manual_seed(0)
    model = CLIP(64, vision, text, quick_gelu=True)
    torch.save({key: tensor.to(dtype) for key, tensor in model.state_dict().items()}, path)
    return path


def _of_transformers(folder: Path, images: list[Image.Image]) -> tuple[Tensor, Tensor]:
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    ids = CLIPTokenizer.from_pretrained(folder)(
        TEXTS, padding="max_length", max_length=77, return_tensors="pt"
    ).input_ids
    pixels = CLIPImageProcessor.from_pretrained(folder)(images, return_tensors="pt").pixel_values
    texts, pictures = model.get_text_features(ids), model.get_image_features(pixels)
    return normalize(texts.pooler_output, dim=-1), normalize(pictures.pooler_output, dim=-1)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=["fp16", "fp32"])
@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336"])
def test_trained_saved_and_loaded_elsewhere(
    name: str, dtype: torch.dtype, corpus: Path, tmp_path: Path
) -> None:
    start = _file(name, dtype, tmp_path / "negationclip.pth")
    with torch.enable_grad():
        told = train(corpus / "captions.json", corpus, str(start), tmp_path / "trained", epochs=1, batch_size=12,
                     learning_rate=1e-3, quiet=True)  # fmt: skip
    assert len(told["validation_loss"]) == 1
    for layout, out in (("transformers", "hub"), ("openai", "openai.pth")):
        convert(str(tmp_path / "trained"), tmp_path / out, layout)

    images: list[Image.Image] = [Image.open(corpus / f"{number}.png") for number in (0, 5)]
    before, ours = load_clip(start), load_clip(tmp_path / "trained")
    texts, pictures = ours.encode_text(TEXTS), ours.encode_image(images)
    torch.testing.assert_close(pictures, before.encode_image(images))
    assert not torch.allclose(texts, before.encode_text(TEXTS), atol=1e-3)

    ids, pixels = (
        open_clip.get_tokenizer("ViT-B-32")(TEXTS),
        torch.stack([ours.preprocess(each) for each in images]),
    )
    openai = torch.load(tmp_path / "openai.pth", weights_only=True)
    of_folder = open_clip.create_model(f"local-dir:{tmp_path / 'trained'}")
    of_file = build_model_from_openai_state_dict(openai, cast_dtype=torch.float32).float()
    for model, apart in ((of_folder, 1e-5), (of_file, 1e-3)):  # the latter goes by way of float16
        model.eval()
        torch.testing.assert_close(model.encode_text(ids, normalize=True), texts, rtol=0, atol=apart)
        torch.testing.assert_close(model.encode_image(pixels, normalize=True), pictures, rtol=0, atol=apart)
    hub_texts, hub_pictures = _of_transformers(tmp_path / "hub", images)
    torch.testing.assert_close(hub_texts, texts, rtol=0, atol=1e-5)
    # Both libraries scale these pictures up in their own way.
    torch.testing.assert_close(hub_pictures, pictures, rtol=0, atol=1e-4)
