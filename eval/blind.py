"""Scorers that see no picture: what a task gives to whoever does not look.

A task on which one of them does better than chance can be won by other things than understanding: NegBench's multiple
choice by taking the first option, whatever the scores (its true caption stands first in every row), CREPE and CC-Neg by
how likely the sentence is.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from eval.arms import BLIND
from eval.choice import item_rng
from eval.encoders import Encoder, Part, Scorer
from eval.statistics import share

if TYPE_CHECKING:
    from negclip_core.clip import Clip

__all__ = ["blind_scorer", "wins"]

_WIDTH = 32
_GREY, _SIDE = (128, 128, 128), 64
_SURE = 0.999


class _Text(Encoder):
    """Scores a text by a CLIP's cosine with plain grey, whatever the picture. Rows of one number, so that equals are equal."""

    def __init__(self, name: str, clip: "Clip") -> None:
        super().__init__(name, clip)
        self._grey = clip.encode_image([Image.new("RGB", (_SIDE, _SIDE), _GREY)]).cpu().numpy()

    def texts(self, texts: list[str]) -> np.ndarray:
        found: np.ndarray = (super().texts(texts) * self._grey).sum(1, keepdims=True)
        return found

    def images(self, parts: list[Part]) -> np.ndarray:
        return np.ones((len(parts), 1), np.float32)


class _Constant(Scorer):
    """Scores everything alike."""

    def texts(self, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), 1), np.float32)

    def images(self, parts: list[Part]) -> np.ndarray:
        return np.ones((len(parts), 1), np.float32)


class _Random(Scorer):
    """Scores by rows drawn for each text and each part of a picture, which `seed` and their names fix."""

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name)
        self._seed = seed

    def texts(self, texts: list[str]) -> np.ndarray:
        return self._rows(texts)

    def images(self, parts: list[Part]) -> np.ndarray:
        return self._rows([f"{part.path.name} {part.box}" for part in parts])

    def _rows(self, names: list[str]) -> np.ndarray:
        return np.stack([item_rng(self._seed, name).standard_normal(_WIDTH, np.float32) for name in names])


def blind_scorer(name: str, clip: "Clip", seed: int) -> Scorer:
    """The blind arm of that name, one of `eval.arms.BLIND`; `clip` reads for "blind-text"."""
    if name == "blind-text":
        return _Text(name, clip)
    return _Constant(name) if name == "blind-constant" else _Random(name, seed)


def wins(
    arms: Mapping[str, Mapping[str, Mapping[str, float]]], chance: Mapping[str, float]
) -> list[dict[str, str]]:
    """The blind arms, and the metrics on which they do better than chance.

    Their whole 99.9 % interval (Wilson) lies above it: a run compares some thirty shares with chance, of which one in
    forty would pass with 95 % by luck.
    """
    return [
        {"arm": arm, "metric": metric}
        for arm in BLIND
        for metric, guessed in chance.items()
        if (row := arms.get(arm, {}).get(metric))
        and share(round(row["value"] * row["n"]), int(row["n"]), _SURE).low > guessed
    ]
