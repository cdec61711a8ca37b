"""Find what expressions mean in an image: one CLIPSeg, the text encoder of an arm in its slot, and Segment Anything beside it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL.Image import Image

if TYPE_CHECKING:
    from integrations.segment_anything import Look
    from negclip_core.clip import Clip

__all__ = ["PROPOSED", "REFINED", "WAYS", "Finder", "Segments"]

REFINED, PROPOSED = WAYS = ("sam", "sam-proposals")


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
    """An arm on a segmenter.

    `way` says what Segment Anything does: None, nothing; "sam", it sharpens the heat map's parts; "sam-proposals", it
    proposes masks, of which each expression gets the one whose cut-outs it fits best, as `looker`'s image tower sees them.
    """

    name: str
    segmenter: Segments
    encoder: "Clip | None"  # None: the segmenter's own text tower
    gate: bool = True
    sam: Any = None
    way: str | None = None
    looker: "Clip | None" = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A block within which the arm's text encoder is in its slot: a swap costs more than an image does."""
        from integrations.clipseg import read_by

        model, processor = self.segmenter.model, self.segmenter.processor
        with read_by(model, processor.tokenizer, self.encoder, self.gate):
            yield

    def look(self, image: Image) -> "Look | None":
        """What Segment Anything sees of an image, for every arm that has the same one; None where it has no part."""
        if self.way is None:
            return None
        from integrations.segment_anything import Look

        return Look(self.sam, image)

    def find(
        self,
        image: Image,
        expressions: Sequence[str],
        threshold: float | None = None,
        look: "Look | None" = None,
    ) -> list[tuple[np.ndarray, float]]:
        """A mask bool [height, width] for each expression, and how hot its hottest pixel was; within `reading`.

        Args:
            threshold: heat from which a pixel belongs to the mask; the segmenter's own where it is None.
            look: of the same image, where another arm has one already.
        """
        heats, look = self.segmenter.heat(image, expressions), look or self.look(image)
        threshold = self.segmenter.threshold if threshold is None else threshold
        if look is None:
            masks = [heat >= threshold for heat in heats]
        elif self.way == PROPOSED:
            masks = self._chosen(image, expressions, look)
        else:
            masks = [look.refine(heat, threshold) for heat in heats]
        return [
            (mask if heat.max() >= self.segmenter.presence else mask & False, float(heat.max()))
            for mask, heat in zip(masks, heats, strict=True)
        ]

    def _chosen(self, image: Image, expressions: Sequence[str], look: "Look") -> list[np.ndarray]:
        from torch.nn import functional as F

        from integrations.clipseg import embeddings
        from integrations.segment_anything import choose

        if not look.proposals:
            return [np.zeros((image.height, image.width), dtype=bool)] * len(expressions)
        assert self.looker is not None, "proposals are chosen by an image tower"
        texts = embeddings(self.segmenter.model, self.segmenter.processor, expressions)
        fits = choose(self.looker, image, look.proposals, F.normalize(texts, dim=-1))
        return [look.proposals[best] for best in fits.argmax(1).tolist()]
