"""What prompts deny, as a UNet host reads it: for methods that act inside the denoiser instead of on the prompt.

A batch of n prompts reaches the denoiser as n rows, or, with classifier-free guidance, as 2n of which the last n are the
prompts': diffusers puts the empty prompts first. Rows of prompts that deny nothing are left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from negclip_core.errors import RequestError
from negclip_core.language import parse

__all__ = ["Denied", "cross_attentions", "read_denied", "unet_of"]


@dataclass(frozen=True)
class Denied:
    """What n prompts deny, read by the host's own text encoder.

    states: float [n, tokens, width], the text states; pooled: float [n, width] where the host reads them;
    words: bool [n, tokens], where a denied thing's own tokens stand; rows: bool [n], whether a prompt denies anything.
    """

    states: Tensor
    pooled: Tensor | None
    words: Tensor
    rows: Tensor


def unet_of(pipe: Any) -> nn.Module:
    """The pipeline's UNet with cross-attention. Raises RequestError where the host denoises with something else."""
    unet: Any = getattr(pipe, "unet", None)
    if type(unet).__name__ != "UNet2DConditionModel":
        raise RequestError(
            f"{type(pipe).__name__}: this method acts in a UNet's cross-attention, and the host has none; "
            "expected Stable Diffusion 1.x, 2.x or XL"
        )
    return unet


def cross_attentions(unet: nn.Module) -> list[Any]:
    """The modules (diffusers' `Attention`) in which a UNet reads the text."""
    return [module for name, module in unet.named_modules() if name.endswith(".attn2")]


@torch.no_grad()
def read_denied(pipe: Any, prompts: Sequence[str]) -> Denied:
    """Encode what each prompt denies, as the pipeline encodes a prompt."""
    texts = [parse(prompt).negative_prompt for prompt in prompts]
    read = pipe.encode_prompt(
        prompt=texts,
        device=pipe._execution_device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=False,
    )
    states: Tensor = read[0]
    pooled: Tensor | None = read[2] if len(read) > 2 else None
    words = torch.zeros(states.shape[:2], dtype=torch.bool)
    for row, text in enumerate(texts):
        tokens = pipe.tokenizer(text, truncation=True, max_length=states.shape[1]).input_ids
        words[row, 1 : len(tokens) - 1] = True  # between the start and the end token
    rows = torch.tensor([bool(text) for text in texts])
    return Denied(states, pooled, words.to(states.device), rows.to(states.device))
