"""Swap the text tower of CLIPSeg (transformers), put it back, and segment many expressions at one look at the image.

CLIPSeg's decoder reads two things of a CLIP: the image tower's activations, and the projected embedding of the
expression, not normalised (`CLIPSegForImageSegmentation.get_conditional_embeddings`). The text tower and its projection
are the slot; image tower and decoder stay as they are.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from integrations.fit import check_weights, refuse_misfit
from integrations.gate import GatedTextEncoder
from integrations.swap import Swap
from negclip_core.clip import Clip
from negclip_core.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import CLIPSegForImageSegmentation

__all__ = ["check_fit", "embeddings", "heat_maps", "read_by", "swap_text_encoder"]


class _Projected(nn.Module):
    """A text tower and its projection, answering as CLIPSeg's `text_model` does but with the pooled state projected."""

    def __init__(self, tower: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.tower, self.projection = tower, projection

    @property
    def config(self) -> Any:
        return self.tower.config

    def forward(self, input_ids: Tensor, **options: Any) -> Any:
        """`BaseModelOutputWithPooling`; its `pooler_output` is the embedding float [n, projection]."""
        found = self.tower(input_ids, **options)
        found.pooler_output = self.projection(found.pooler_output)
        return found


def check_fit(model: "CLIPSegForImageSegmentation", tokenizer: Any, encoder: Clip) -> None:
    """Make sure, changing nothing, that `encoder` fits a CLIPSeg.

    Raises:
        RequestError: the model is no CLIPSeg or is swapped already, or the encoder does not fit. CIDAS's models hold a
            ViT-B/16, so only text towers tuned from that one fit them.
    """
    clip = getattr(model, "clip", None)
    if clip is None or not hasattr(model, "decoder"):
        raise RequestError(f"{type(model).__name__}: expected a CLIPSegForImageSegmentation")
    if isinstance(clip.text_model, GatedTextEncoder | _Projected):
        raise RequestError(f"text_model of {type(model).__name__}: is swapped already; restore it first")
    patch, given = (
        clip.config.vision_config.patch_size,
        encoder.config.get("vision_cfg", {}).get("patch_size"),
    )
    if given not in (None, patch):
        raise RequestError(
            f"{encoder.name} does not fit {type(model).__name__}: tuned for an image tower of patch size {given}, the "
            f"model's has {patch}; CIDAS's CLIPSeg takes ViT-B-16 only"
        )
    refuse_misfit(f"text_model of {type(model).__name__}", clip.text_model.config, tokenizer, encoder,
                  clip.projection_dim)  # fmt: skip


def swap_text_encoder(
    model: "CLIPSegForImageSegmentation", tokenizer: Any, encoder: Clip, gate: bool = True
) -> Swap:
    """Put a CLIP's text tower and projection into a CLIPSeg, in its dtype and on its device.

    Args:
        tokenizer: the one of the model's processor.
        gate: send expressions without negation to the model's own text tower, so that their masks stay bit for bit
            what they were. False: the new tower reads every expression.

    Raises:
        RequestError: the encoder does not fit; then nothing has been changed.
    """
    check_fit(model, tokenizer, encoder)
    clip = model.clip
    whole = encoder.text_encoder(True, clip.config.text_config.num_hidden_layers).to(
        device=model.device, dtype=model.dtype
    )
    check_weights(encoder, whole)
    new = _Projected(whole.text_model, whole.text_projection)
    own = _Projected(clip.text_model, clip.text_projection)
    replacement = GatedTextEncoder(own, new, tokenizer) if gate else new
    return Swap(clip, {"text_model": replacement, "text_projection": nn.Identity()})


def read_by(
    model: "CLIPSegForImageSegmentation", tokenizer: Any, encoder: Clip | None, gate: bool = True
) -> AbstractContextManager[Any]:
    """A block within which expressions are read by an encoder as `swap_text_encoder` has it, or, None, by the model's own."""
    return nullcontext() if encoder is None else swap_text_encoder(model, tokenizer, encoder, gate)


@torch.no_grad()
def embeddings(model: "CLIPSegForImageSegmentation", processor: Any, expressions: Sequence[str]) -> Tensor:
    """What the decoder reads of expressions: float32 [expressions, d], not of unit length."""
    tokens = processor.tokenizer(
        list(expressions), padding="max_length", truncation=True, return_tensors="pt"
    )
    found: Tensor = model.clip.get_text_features(**tokens.to(model.device)).pooler_output
    return found.float()


@torch.no_grad()
def heat_maps(
    model: "CLIPSegForImageSegmentation", processor: Any, image: "Image", expressions: Sequence[str]
) -> Tensor:
    """How likely each pixel belongs to what each expression means; the image is encoded once for all of them.

    Args:
        processor: the model's `CLIPSegProcessor`.
        image: RGB; it is resized to the model's square, as the processor does.

    Returns:
        float32 [expressions, side, side] in [0, 1], side as the model's image tower has it.
    """
    pixels = processor(images=[image], return_tensors="pt").pixel_values.to(model.device, model.dtype)
    looked = model.clip.vision_model(pixels, output_hidden_states=True, interpolate_pos_encoding=True)
    activations = [
        looked.hidden_states[layer + 1].expand(len(expressions), -1, -1) for layer in model.extract_layers
    ]
    words = embeddings(model, processor, expressions)
    logits: Tensor = model.decoder(activations, words.to(model.dtype)).logits
    return logits.float().sigmoid()
