"""The swap into CLIPSeg: it fits or it is refused, it reads expressions that negate and no others, and it is undone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from integrations.clipseg import heat_maps, swap_text_encoder
from negclip_core.clip import Clip, load_clip
from negclip_core.errors import RequestError

NEGATED, PLAIN = "the man without a hat", "the man in a red shirt"


@pytest.fixture
def model(clipseg_folder: Path) -> Any:
    from transformers import CLIPSegForImageSegmentation

    return CLIPSegForImageSegmentation.from_pretrained(clipseg_folder).eval()


@pytest.fixture(scope="module")
def processor(clipseg_folder: Path) -> Any:
    from transformers import CLIPSegProcessor

    return CLIPSegProcessor.from_pretrained(clipseg_folder)


@pytest.fixture(scope="module")
def encoder(other_clip_folder: Path) -> Clip:
    return load_clip(other_clip_folder)


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8))


def test_one_look_at_the_image_gives_what_the_model_gives(
    model: Any, processor: Any, photograph: Image.Image
) -> None:
    inputs = processor(text=[NEGATED, PLAIN], images=[photograph] * 2, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits.sigmoid()
    assert torch.allclose(heat_maps(model, processor, photograph, [NEGATED, PLAIN]), expected, atol=1e-4)


def test_the_image_is_encoded_once(model: Any, processor: Any, photograph: Image.Image) -> None:
    looks: list[int] = []
    model.clip.vision_model.register_forward_hook(lambda *_: looks.append(1))
    heat_maps(model, processor, photograph, [NEGATED, PLAIN, "the dog"])
    assert len(looks) == 1


def test_only_expressions_that_negate_are_read_by_the_new_tower(
    model: Any, processor: Any, encoder: Clip, photograph: Image.Image
) -> None:
    before = heat_maps(model, processor, photograph, [NEGATED, PLAIN])
    with swap_text_encoder(model, processor.tokenizer, encoder):
        gated = heat_maps(model, processor, photograph, [NEGATED, PLAIN])
    with swap_text_encoder(model, processor.tokenizer, encoder, gate=False):
        bare = heat_maps(model, processor, photograph, [NEGATED, PLAIN])
    assert torch.equal(gated[1], before[1])
    assert not torch.allclose(gated[0], before[0])
    assert torch.allclose(gated[0], bare[0])
    assert not torch.allclose(bare[1], before[1])


def test_the_new_tower_gives_the_encoders_own_embedding_unnormalised(
    model: Any, processor: Any, encoder: Clip
) -> None:
    ids = processor.tokenizer([NEGATED], padding="max_length", return_tensors="pt")
    with swap_text_encoder(model, processor.tokenizer, encoder), torch.no_grad():
        read = model.clip.get_text_features(**ids).pooler_output
        expected = encoder.model.encode_text(ids.input_ids)
    assert torch.allclose(read, expected, atol=1e-5)


def test_restoring_puts_the_very_same_modules_back(model: Any, processor: Any, encoder: Clip) -> None:
    own = {name: (id(p), p.clone()) for name, p in model.named_parameters()}
    swap = swap_text_encoder(model, processor.tokenizer, encoder)
    with pytest.raises(RequestError, match="swapped already"):
        swap_text_encoder(model, processor.tokenizer, encoder)
    swap.restore()
    swap.restore()
    now = dict(model.named_parameters())
    assert now.keys() == own.keys()
    assert all(id(now[name]) == key and torch.equal(now[name], value) for name, (key, value) in own.items())


def test_an_encoder_of_another_width_is_refused_and_nothing_changed(
    model: Any, processor: Any, wide_clip_folder: Path
) -> None:
    own = model.clip.text_model
    with pytest.raises(RequestError, match="width 64 expected, 96 given"):
        swap_text_encoder(model, processor.tokenizer, load_clip(wide_clip_folder))
    assert model.clip.text_model is own
