"""Training-free corrections of a CLIP's text embeddings, to compare NegationCLIP with: one file each, found by looking here.

A rival's file holds

    class Correction:
        def __init__(self, encoder: Encoder, tuned: bool) -> None
        def __call__(self, parses: list[Parse]) -> np.ndarray      rows of texts that deny something, float32 [n, d]

made once for a CLIP; `tuned` says whether its text tower was fine-tuned for negation. What is denied comes from this
project's parser, the same for all, in place of a language model or rules of their own. A text that denies nothing keeps
the CLIP's own row: their authors leave those alone as well.
"""

from functools import cache, cached_property
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from eval.encoders import Encoder, ImageFeatures
from negclip_core.language import Parse, parse

if TYPE_CHECKING:
    from negclip_core.clip import Clip

__all__ = ["Rival", "rival_names"]


class _Correction(Protocol):
    def __call__(self, parses: list[Parse]) -> np.ndarray: ...


@cache
def rival_names() -> tuple[str, ...]:
    """The rivals there are, by file name with hyphens."""
    return tuple(sorted(module.name.replace("_", "-") for module in iter_modules(__path__)))


class Rival(Encoder):
    """A CLIP whose texts that deny something are corrected by the rival of that name (`rival_names`)."""

    def __init__(
        self, name: str, clip: "Clip", rival: str, tuned: bool, known: ImageFeatures | None = None
    ) -> None:
        super().__init__(name, clip, known)
        self._rival, self._tuned = rival, tuned

    def texts(self, texts: list[str]) -> np.ndarray:
        parses = [parse(text) for text in dict.fromkeys(texts)]
        rows = super().texts([parsed.text for parsed in parses])
        if denying := [row for row, parsed in enumerate(parses) if parsed.negative_prompt]:
            found = self._correct([parses[row] for row in denying])
            rows[denying] = found / np.linalg.norm(found, axis=1, keepdims=True)
        where = {parsed.text: row for row, parsed in enumerate(parses)}
        return rows[[where[text] for text in texts]]

    @cached_property
    def _correct(self) -> _Correction:
        module = import_module(f"{__name__}.{self._rival.replace('-', '_')}")
        return cast(_Correction, module.Correction(Encoder(self.name, self.clip), self._tuned))
