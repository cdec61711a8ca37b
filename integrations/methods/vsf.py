"""Value sign flip (Guo & Du, arXiv 2508.10931): what is denied is read in cross-attention with its values negated.

The denied things' tokens join the prompt's as keys, and as values times -`SCALE`: where a picture's patch attends to a
denied thing, the thing is subtracted. Made for few-step hosts; it needs no guidance scale above 1. The authors' hosts have
no start token; CLIP's, which takes most of the attention, is left out, as is the padding. The host's own text encoder
reads the affirmative rest. In a batch, prompts that deny nothing may differ by rounding where another denies something.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from negclip_core.language import parse

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle

    from integrations.denied import Denied

SWAPS_TEXT_ENCODER = False
NEEDS_GUIDANCE = False

SCALE = 3.0


def arguments(prompt: str) -> dict[str, str]:
    return {"prompt": parse(prompt).affirmative}


def hooks(unet: "nn.Module", denied: "Denied") -> "Iterator[RemovableHandle]":
    """Let each cross-attention read what is denied after the prompt, with its values flipped."""
    import torch

    from integrations.denied import cross_attentions

    count = len(denied.rows)

    def read_more(attention: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        texts = kwargs["encoder_hidden_states"]
        away = denied.states.to(texts.dtype).repeat(len(texts) // count, 1, 1)
        bias = texts.new_zeros(len(texts), 1, texts.shape[1] + away.shape[1])
        never = torch.finfo(texts.dtype).min
        # Unasked rows of guidance read nothing more.
        bias[:, 0, texts.shape[1] :] = never
        bias[-count:, 0, texts.shape[1] :].masked_fill_(denied.words, 0)
        more = {"encoder_hidden_states": torch.cat([texts, away], 1), "attention_mask": bias}
        return args, {**kwargs, **more}

    def flip(values: Any, args: Any, output: Any) -> Any:
        own = output.shape[1] - denied.states.shape[1]
        return torch.cat([output[:, :own], -SCALE * output[:, own:]], 1)

    for attention in cross_attentions(unet):
        yield attention.register_forward_pre_hook(read_more, with_kwargs=True)
        yield attention.to_v.register_forward_hook(flip)
