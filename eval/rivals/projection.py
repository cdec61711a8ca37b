"""Subtract what of the denied is in the text: e − λ (⟨e, n⟩ n / ⟨n, n⟩ − a).

Source: Aggarwal et al., Seeing What's Not There: Negation Understanding Needs More Than Training, ICLR 2026, equation 2;
the correction that Ku, Transferring Negation Understanding from LLMs to CLIP via Content-Aware Embedding Correction,
puts on CLIP and NegCLIP with other ways to find what is denied.
e, n and a are those of `difference`; of n only the part that e already has along it is taken away. λ is 1.9 for CLIP
and 0.3 for a CLIP fine-tuned on negation, as the authors chose them on 5 % of NegBench's COCO questions.
"""

import numpy as np

from eval.encoders import Encoder
from eval.rivals.difference import anchor, denied
from negclip_core.language import Parse

__all__ = ["Correction"]

_VANILLA, _TUNED = 1.9, 0.3


class Correction:
    """e − λ (⟨e, n⟩ n − a) for n of unit length."""

    def __init__(self, encoder: Encoder, tuned: bool) -> None:
        self._encoder = encoder
        self._anchor = anchor(encoder)
        self._strength = np.float32(_TUNED if tuned else _VANILLA)

    def __call__(self, parses: list[Parse]) -> np.ndarray:
        whole = self._encoder.texts([parsed.text for parsed in parses])
        away = denied(self._encoder, parses)
        along = (whole * away).sum(1, keepdims=True)
        found: np.ndarray = whole - self._strength * (along * away - self._anchor)
        return found
