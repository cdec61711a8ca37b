"""A CLIP as evaluation uses it: photographs decoded once, pictures encoded once for all arms with one image tower."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional as F

from eval.data import Box, cut_box
from negclip_core.images import open_image
from negclip_core.training.packed import pooled

if TYPE_CHECKING:
    from negclip_core.clip import Clip

__all__ = ["Encoder", "ImageFeatures", "Part", "Scorer", "image_tower"]

_AT_ONCE = 16  # pictures that are encoded together
ImageFeatures = dict[tuple[str, "Part"], np.ndarray]


@dataclass(frozen=True)
class Part:
    """An image, or a box of one."""

    path: Path
    box: Box | None = None


def image_tower(clip: "Clip") -> str:
    """A name for a CLIP's image tower: equal for equal weights and preprocessing."""
    digest = hashlib.sha256(repr((clip.config.get("vision_cfg"), clip.checkpoint.preprocess)).encode())
    for name, tensor in sorted(clip.checkpoint.weights.items()):
        if name.startswith("visual."):
            digest.update(name.encode())
            digest.update(tensor.float().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Scorer(ABC):
    """What a task of understanding asks, under the name of its arm: a text fits a picture as far as their rows' product says."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def texts(self, texts: list[str]) -> np.ndarray:
        """float32 [n, d]; equal texts get equal rows."""

    @abstractmethod
    def images(self, parts: list[Part]) -> np.ndarray:
        """float32 [n, d]."""

    def fits(self, images: Sequence[Path], options: Sequence[Sequence[str]]) -> np.ndarray:
        """How well each of n images fits each of its own k texts: float32 [n, k]."""
        seen = self.images([Part(image) for image in images])
        read = self.texts([text for own in options for text in own])
        found: np.ndarray = (read.reshape(len(images), -1, read.shape[1]) * seen[:, None]).sum(2)
        return found


class Encoder(Scorer):
    """A CLIP, which scores by cosine. `known` holds image features by tower and part; arms may share it."""

    def __init__(self, name: str, clip: "Clip", known: ImageFeatures | None = None) -> None:
        super().__init__(name)
        self.clip = clip
        self._known: ImageFeatures = {} if known is None else known
        self._tower = image_tower(clip)

    def texts(self, texts: list[str]) -> np.ndarray:
        """float32 [n, d] of unit length; equal texts get equal rows."""
        distinct = list(dict.fromkeys(texts))
        ids = self.clip.tokenizer(distinct).to(self.clip.device)
        with torch.no_grad():
            rows = _numpy(F.normalize(pooled(self.clip.model, ids).float(), dim=-1))
        where = {text: row for row, text in enumerate(distinct)}
        return rows[[where[text] for text in texts]]

    def images(self, parts: list[Part]) -> np.ndarray:
        """float32 [n, d] of unit length.

        Always `_AT_ONCE` are encoded together, copies of the first filling up the last batch, because a row's rounding
        depends on the shape of what is computed with it: so a picture's row is the same to the last bit however many others
        were known already.
        """
        missing = [part for part in dict.fromkeys(parts) if (self._tower, part) not in self._known]
        missing.sort(key=lambda part: str(part.path))  # so that one decoding serves all boxes of a photograph
        opened = _opened(missing)
        for start in range(0, len(missing), _AT_ONCE):
            batch = missing[start : start + _AT_ONCE]
            pictures = list(islice(opened, len(batch)))
            spare = _AT_ONCE - len(batch)
            rows = _numpy(self.clip.encode_image(pictures + pictures[:1] * spare))[: len(batch)]
            self._known.update({(self._tower, part): row for part, row in zip(batch, rows, strict=True)})
        return np.stack([self._known[(self._tower, part)] for part in parts])


def _opened(parts: list[Part]) -> Iterator[Image]:
    for path, group in groupby(parts, lambda part: part.path):
        picture = open_image(path)
        yield from (picture if part.box is None else cut_box(picture, part.box, path) for part in group)


def _numpy(features: Tensor) -> np.ndarray:
    return features.detach().float().cpu().numpy()
