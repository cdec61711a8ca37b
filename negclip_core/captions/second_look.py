"""Vanilla CLIP's look at a written caption: whether it fits the picture much less than the caption it was made from.

CLIP hardly hears a negation, so what it sees is the rest: a caption that was lost, or speaks of something else.
"""

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from negclip_core.captions.batches import Batches
from negclip_core.clip import load_clip
from negclip_core.errors import RequestError
from negclip_core.models import arms_of
from negclip_core.training.features import image_features, kept_features

__all__ = ["ClipLook"]

_TEXTS = 64  # encoded together at most


class ClipLook:
    """See `SecondLook`. Used with `async with`.

    Args:
        clip: its vanilla arm, or the CLIP itself where it has no arms.
        names: of all pictures in `folder`; each is encoded once, and not again by a later run.
        most: by how much the cosine with the picture may fall.
    """

    def __init__(
        self, clip: str, device: str, folder: Path, names: Iterable[str], most: float, quiet: bool
    ) -> None:
        self.name, self.device, self.folder, self.names = clip, device, folder, list(names)
        self.most, self.quiet = most, quiet
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> "ClipLook":
        """Raises RequestError where there is no such CLIP, or a picture that cannot be read."""
        self.clip = load_clip(arms_of(self.name)["vanilla"].source, device=self.device)
        if "vision_cfg" not in self.clip.config:
            raise RequestError(f"--clip {self.name}: has no image tower; name a whole CLIP")
        store = kept_features(self.clip)
        self.features = image_features(
            self.clip, self.folder, self.names, store, most_bad=1.0, quiet=self.quiet
        )
        for name, why in self.features.bad.items():
            raise RequestError(f"{self.folder / name}: cannot be read ({why}); --images names their folder")
        self.batches = await self._closing.enter_async_context(Batches(self.name, self._encode, _TEXTS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    @property
    def version(self) -> str:
        """What its look depends on: the sum of the CLIP's file and how far the cosine may fall."""
        return f"{self.clip.sha256} {self.most:g}"

    async def falls(self, image: Mapping[str, Any], caption: str, text: str) -> bool:
        """See `SecondLook`."""
        picture = self.features.table[self.features.row[image["file_name"]]].numpy()
        before, after = [float(picture @ await self.batches.ask(t, t)) for t in (caption, text)]
        return before - after > self.most

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        return [*self.clip.encode_text(texts).cpu().numpy()]
