"""Normalized attention guidance (Chen et al., arXiv 2505.21179): away from what is denied, in cross-attention's output.

Where prompts are read, attention is computed for what they deny as well. Its output z- is extrapolated away from,
scale * z+ - (scale - 1) * z-, kept to at most `TAU` times the L1 norm of z+, and blended with z+ by `ALPHA` (equations 7
to 10; values of the authors' for Stable Diffusion XL). It needs no guidance scale above 1. The host's own text encoder
reads the affirmative rest.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from negclip_core.language import parse

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from integrations.denied import Denied

SWAPS_TEXT_ENCODER = False
NEEDS_GUIDANCE = False

SCALE, TAU, ALPHA = 5.0, 2.5, 0.5


def arguments(prompt: str) -> dict[str, str]:
    return {"prompt": parse(prompt).affirmative}


def hooks(unet: "nn.Module", denied: "Denied") -> "Iterator[RemovableHandle]":
    """Ask each cross-attention for what is denied as well, and guide its output before it is projected."""
    import torch

    from integrations.denied import cross_attentions

    count = len(denied.rows)

    def ask_both(attention: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        hidden, texts = args[0], kwargs["encoder_hidden_states"]
        more = {"encoder_hidden_states": torch.cat([texts, denied.states.to(texts.dtype)])}
        return (torch.cat([hidden, hidden[-count:]]), *args[1:]), {**kwargs, **more}

    def combine(projection: Any, args: Any) -> Any:
        output = args[0]
        rest, wanted, away = output.split([len(output) - 2 * count, count, count])
        return (torch.cat([rest, _guide(wanted, away, denied)]), *args[1:])

    for attention in cross_attentions(unet):
        yield attention.register_forward_pre_hook(ask_both, with_kwargs=True)
        yield attention.to_out[0].register_forward_pre_hook(combine)


def _guide(wanted: "Tensor", away: "Tensor", denied: "Denied") -> "Tensor":
    """Attention's output float [n, tokens, width], guided in the rows that deny something."""
    further = SCALE * wanted - (SCALE - 1) * away
    norm = wanted.abs().sum(-1, keepdim=True)
    grown = further.abs().sum(-1, keepdim=True) / norm.clamp_min(1e-7)
    further = further * (grown.clamp_max(TAU) / grown.clamp_min(1e-7))
    return (ALPHA * further + (1 - ALPHA) * wanted).where(denied.rows[:, None, None], wanted)
