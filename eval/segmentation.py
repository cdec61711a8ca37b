"""Find what expressions mean, for an evaluation: one segmenter, the text encoder of an arm in its slot."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL.Image import Image

if TYPE_CHECKING:
    from negclip_core.clip import Clip

__all__ = ["Finder", "Segments"]


class Segments(Protocol):
    """A segmenter: a CLIPSeg with its processor, and what it says of its heat maps."""

    @property
    def model(self) -> Any:
        """A CLIPSegForImageSegmentation."""
        ...

    @property
    def processor(self) -> Any:
        """Its CLIPSegProcessor."""
        ...

    @property
    def threshold(self) -> float:
        """From which heat on a pixel belongs to the mask."""
        ...

    @property
    def presence(self) -> float:
        """How hot the hottest pixel must be, or the image shows nothing of the kind."""
        ...

    def heat(self, image: Image, expressions: Sequence[str]) -> list[np.ndarray]:
        """A heat map float32 [height, width] in [0, 1] of the image's size for each expression."""
        ...


@dataclass(frozen=True)
class Finder:
    """An arm on a segmenter. With a `sam`, Segment Anything sharpens the masks."""

    name: str
    segmenter: Segments
    encoder: "Clip | None"  # None: the segmenter's own text tower
    gate: bool = True
    sam: Any = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A block within which the arm's text encoder is in its slot: a swap costs more than an image does."""
        from integrations.clipseg import read_by

        model, processor = self.segmenter.model, self.segmenter.processor
        with read_by(model, processor.tokenizer, self.encoder, self.gate):
            yield

    def find(self, image: Image, expressions: Sequence[str]) -> list[tuple[np.ndarray, float]]:
        """A mask bool [height, width] for each expression, and how hot its hottest pixel was; within `reading`."""
        segmenter = self.segmenter
        heats = segmenter.heat(image, expressions)
        masks = self._refined(image, heats) if self.sam is not None else self._plain(heats)
        return [
            (mask if heat.max() >= segmenter.presence else mask & False, float(heat.max()))
            for mask, heat in zip(masks, heats, strict=True)
        ]

    def _plain(self, heats: list[np.ndarray]) -> list[np.ndarray]:
        return [heat >= self.segmenter.threshold for heat in heats]

    def _refined(self, image: Image, heats: list[np.ndarray]) -> list[np.ndarray]:
        from integrations.segment_anything import Look

        look = Look(self.sam, image)
        return [look.refine(heat, self.segmenter.threshold) for heat in heats]
