"""An open-vocabulary detector as verifier."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from negclip_core.captions.batches import Batches
from negclip_core.captions.language_models import named_picture
from negclip_core.captions.synthesis import Claim
from negclip_core.detector import AT_ONCE, Detector

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["DetectorVerifier"]


class DetectorVerifier:
    """A detector by hub id or folder, which looks at the pictures in `folder`. Used with `async with`.

    `threshold`: the score from 0 to 1 from which a box counts as the thing; None for that of the model's authors. At most
    `concurrency` pictures, and never more than 8, are looked at together.
    """

    def __init__(
        self, name: str, device: str, folder: Path, threshold: float | None, concurrency: int
    ) -> None:
        self.name, self.device, self.folder = name, device, folder
        self.threshold, self.at_once = threshold, min(concurrency, AT_ONCE)
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> "DetectorVerifier":
        """Raises RequestError where there is no such detector, or it cannot be loaded."""
        self.detector = Detector.load(self.name, self.device)
        if self.threshold is not None:
            self.detector.threshold = self.threshold
        self.batches = await self._closing.enter_async_context(Batches(self.name, self._find, self.at_once))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    @property
    def version(self) -> str:
        """What its answers depend on: the sum of its files and the threshold."""
        return f"{self.detector.version} {self.detector.threshold:g}"

    async def present(self, image: Mapping[str, Any], claim: Claim, rng: np.random.Generator) -> bool | None:
        """See `Verifier`. Raises RequestError for a picture that is not there or cannot be read.

        Where no hat is found, the man wears none; where one is, that does not say whose it is.
        """
        if claim.how not in ("there", "worn"):
            return None
        name = image["file_name"]
        picture = await asyncio.to_thread(named_picture, self.folder, name)
        found = await self.batches.ask((name, claim.thing), (picture, claim.thing))
        return None if found and claim.how == "worn" else found

    def _find(self, asked: "list[tuple[Image, str]]") -> list[bool]:
        return self.detector.finds([picture for picture, _ in asked], [thing for _, thing in asked])
