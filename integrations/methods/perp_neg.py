"""Perp-Neg (Armandpour et al., arXiv 2304.04968): away from what is denied, as far as that is no part of what is asked.

The UNet is asked a third time, for what the prompt denies; the part of that direction which is perpendicular to the
prompt's own is subtracted before guidance (their algorithm 1, weight 1). It needs a guidance scale above 1. The host's
own text encoder reads the affirmative rest.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from negclip_core.language import parse

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from integrations.denied import Denied

SWAPS_TEXT_ENCODER = False
NEEDS_GUIDANCE = True

WEIGHT = 1.0


def arguments(prompt: str) -> dict[str, str]:
    return {"prompt": parse(prompt).affirmative}


def hooks(unet: "nn.Module", denied: "Denied") -> "Iterator[RemovableHandle]":
    """Ask the UNet for what is denied as well, and take it from the prompts' own predictions."""
    import torch

    count = len(denied.rows)

    def longer(value: Any) -> Any:
        """Whatever has a row for each row of the batch, with those of the prompts once more."""
        if isinstance(value, torch.Tensor) and value.ndim and len(value) == 2 * count:
            return torch.cat([value, value[count:]])
        if isinstance(value, dict):
            return {name: longer(part) for name, part in value.items()}
        return type(value)(longer(part) for part in value) if isinstance(value, tuple | list) else value

    def ask_thrice(unet: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if len(args[0]) != 2 * count:
            return None  # no guidance, nothing to combine
        kwargs = longer(kwargs)
        kwargs["encoder_hidden_states"][-count:] = denied.states
        if denied.pooled is not None:
            kwargs["added_cond_kwargs"]["text_embeds"][-count:] = denied.pooled
        return longer(args), kwargs

    def combine(unet: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        if len(output[0]) != 3 * count:
            return None
        free, wanted, away = output[0].chunk(3)
        rows = denied.rows[:, None, None, None]
        guided = wanted - (WEIGHT * _perpendicular(away - free, wanted - free)).where(rows, 0)
        return (torch.cat([free, guided]),)

    yield unet.register_forward_pre_hook(ask_thrice, with_kwargs=True)
    yield unet.register_forward_hook(combine, with_kwargs=True)


def _perpendicular(away: "Tensor", wanted: "Tensor") -> "Tensor":
    """The part of `away` float [n, c, h, w] that is perpendicular to `wanted`, for each row."""
    along = (away * wanted).sum((1, 2, 3), keepdim=True)
    return away - along / wanted.square().sum((1, 2, 3), keepdim=True).clamp_min(1e-12) * wanted
