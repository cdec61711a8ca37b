"""Subtract what is denied: e − n + a.

Source: Aggarwal et al., Seeing What's Not There: Negation Understanding Needs More Than Training, ICLR 2026, equation 1.
Here e is the text's embedding, n that of what it denies, and a the anchor, the mean embedding of neutral words: a
difference of embeddings leaves the region that embeddings lie in, and the anchor brings it back. Embeddings have unit
length. The paper names "neutral" and "balanced" as examples of its words; these are used.
"""

import numpy as np

from eval.encoders import Encoder
from negclip_core.language import Parse

__all__ = ["Correction", "anchor", "denied"]

_NEUTRAL = ["neutral", "balanced"]


def anchor(encoder: Encoder) -> np.ndarray:
    """The mean embedding of neutral words, float32 [d]."""
    mean: np.ndarray = encoder.texts(_NEUTRAL).mean(0)
    return mean


def denied(encoder: Encoder, parses: list[Parse]) -> np.ndarray:
    """The embedding of all that a text denies, in one phrase ("hats and dogs"): float32 [n, d] of unit length."""
    phrases = [" and ".join(parsed.negative_prompt.split(", ")) for parsed in parses]
    return encoder.texts(phrases)


class Correction:
    """e − n + a."""

    def __init__(self, encoder: Encoder, tuned: bool) -> None:
        self._encoder = encoder
        self._anchor = anchor(encoder)

    def __call__(self, parses: list[Parse]) -> np.ndarray:
        whole = self._encoder.texts([parsed.text for parsed in parses])
        return whole - denied(self._encoder, parses) + self._anchor
