"""The gate: a text encoder that sends a prompt with a negation to NegationCLIP and every other to the host's own.

Both run on the whole batch and rows are picked afterwards, because the arithmetic of a row can depend on how many
rows are computed with it: so a row without negation is bit for bit the host's own.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn

from negclip_core.errors import RequestError
from negclip_core.language import has_negation

__all__ = ["GatedTextEncoder", "negates"]


# What accelerate leaves on a module that it offloads, and takes away again from the one where it finds it.
_OF_HOOKS = ("_hf_hook", "_old_forward")


def negates(decoded: str) -> bool:
    """Whether a prompt negates, given as CLIP's tokenizer decodes it: in lower case, with spaces around punctuation."""
    spaced = decoded.replace("</w>", " ")  # a tokenizer that was deep-copied forgets how its words end
    joined = re.sub(r"(?<=\w) (?='\w)", "", spaced)  # "isn 't" -> "isn't"
    # A hyphen may have joined two words ("car-free") or stood between two phrases ("a street - no cars").
    return has_negation(joined) or (" - " in joined and has_negation(joined.replace(" - ", "-")))


class GatedTextEncoder(nn.Module):
    """Takes the place of a host's text encoder, and answers as it would.

    Made with one, it is of the host's own class as well: diffusers sorts a pipeline's parts by their classes (`from_pipe`
    leaves out one of another class, `save_pretrained` too, and LoRA's unloading fails on it). What it has not itself,
    such as the embeddings that textual inversion adds to, is the host's own.
    """

    def __new__(cls, vanilla: nn.Module, encoder: nn.Module, tokenizer: Any) -> "GatedTextEncoder":
        kind = type(vanilla)
        own: type[GatedTextEncoder] = type(f"Gated{kind.__name__}", (cls, kind), {})
        return nn.Module.__new__(own)

    def __init__(self, vanilla: nn.Module, encoder: nn.Module, tokenizer: Any) -> None:
        nn.Module.__init__(self)  # not the host's class's, which would make another text tower
        self.vanilla = vanilla
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.training = vanilla.training

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "vanilla" or name in _OF_HOOKS:
                raise
            return getattr(self.vanilla, name)

    @property
    def config(self) -> Any:
        return self.vanilla.config

    @property
    def dtype(self) -> torch.dtype:
        return next(self.vanilla.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.vanilla.parameters()).device

    def get_input_embeddings(self) -> Any:
        return self.vanilla.get_input_embeddings()  # type: ignore[operator]  # a Tensor, to a Module's stubs

    def forward(self, input_ids: Tensor, *args: Any, **options: Any) -> Any:
        """What the host's own encoder returns, with the rows of prompts that negate taken from NegationCLIP.

        Args:
            input_ids: int [n, length].
        """
        own = self.vanilla(input_ids, *args, **options)
        texts = self.tokenizer.batch_decode(self._to_the_end(input_ids), skip_special_tokens=True)
        rows = [negates(text) for text in texts]
        if not any(rows):
            return own
        place = next(self.encoder.parameters()).device
        if place.type == "meta":  # offloaded layer by layer; hooks bring what goes in to where they compute
            place = input_ids.device
        moved = [value.to(place) if isinstance(value, Tensor) else value for value in args]
        options = {
            name: value.to(place) if isinstance(value, Tensor) else value for name, value in options.items()
        }
        swapped = self.encoder(input_ids.to(place), *moved, **options)
        if isinstance(own, tuple):
            return tuple(_pick(rows, a, b) for a, b in zip(own, swapped, strict=True))
        return type(own)(**{name: _pick(rows, own[name], swapped[name]) for name in own})

    def _to_the_end(self, input_ids: Tensor) -> list[list[int]]:
        """Each row's tokens before its first end token: some hosts pad with words ("!", SDXL's second tokenizer)."""
        end = self.tokenizer.eos_token_id
        rows: list[list[int]] = input_ids.tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]

    def save_pretrained(self, *args: Any, **options: Any) -> None:
        raise RequestError(
            "a swapped text encoder cannot be saved with its host: restore the host's own first"
        )


def _pick(rows: list[bool], own: Any, swapped: Any) -> Any:
    """The rows of `swapped` where `rows` says so, else those of `own`; both [n, ...], or tuples of such, or None."""
    if isinstance(own, tuple):
        return tuple(_pick(rows, a, b) for a, b in zip(own, swapped, strict=True))
    if own is None:
        return None
    mask = torch.tensor(rows, device=own.device).view(-1, *[1] * (own.ndim - 1))
    return torch.where(mask, swapped.to(own.device, own.dtype), own)
