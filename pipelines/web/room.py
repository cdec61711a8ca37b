"""What the page works with: the models that were asked for, loaded once and used by one request at a time."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from negclip_core.images import open_image
from pipelines import generate, segment
from pipelines.score import load_pair, similarities
from pipelines.shelf import Shelf
from pipelines.web.examples import EXPRESSION, TEXTS, write_examples

if TYPE_CHECKING:
    from negclip_core.clip import Clip
    from pipelines.host import Host

__all__ = ["Room", "shown_name"]

_PROMPT = "a street with no cars"


def shown_name(arm: str) -> str:
    """What the page calls an arm."""
    return "NegationCLIP" if arm == "negationclip" else arm


@dataclass(frozen=True)
class Room:
    """The models, as the commands' options name them, on a torch device; and a folder to write to."""

    model: str
    lora: str | None
    text_encoder: str | None
    segmenter: str
    clip: str
    device: str
    folder: Path
    shelf: Shelf = field(default_factory=Shelf)
    busy: Lock = field(default_factory=Lock)  # a swap changes a model in place

    @property
    def host(self) -> "Host":
        """What pictures are drawn with."""
        from pipelines.host import load_host

        return self.shelf.get(load_host, self.model, self.device, True, self.lora)

    @property
    def clips(self) -> "dict[str, Clip]":
        """What photographs and texts are compared with, by arm."""
        return load_pair(self.clip, self.text_encoder, self.device, self.shelf)

    @cached_property
    def examples(self) -> list[Path]:
        """The pictures of the examples, drawn when they are first asked for."""
        return write_examples(self.folder / "examples")

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for one request's files; gone after the block."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            yield Path(name)

    def open(self) -> None:
        """Do one small thing with each model, so that all are loaded and known to fit.

        Raises:
            RequestError: as the commands do for such models.
        """
        photograph = self.examples[0]
        similarities([open_image(photograph)], TEXTS, self.clips)
        with self.scratch() as out:
            generate.run(self.drawing(_PROMPT, out, steps=1), self.shelf)
            segment.run(self.segmenting(photograph, EXPRESSION, out), self.shelf)

    def drawing(
        self,
        prompt: str,
        out: Path,
        *,
        method: str = "encoder",
        gate: bool = True,
        count: int = 1,
        steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int = 0,
    ) -> generate.Request:
        """The request of `negclip generate --compare` with the page's models."""
        from integrations.methods import find_method

        encoder = self.text_encoder if find_method(method).SWAPS_TEXT_ENCODER else None
        return generate.Request(
            (prompt,), self.model, self.lora, encoder, method, gate, True, count, steps, guidance_scale,
            out=out, seed=seed, device=self.device, quiet=True,
        )  # fmt: skip

    def segmenting(
        self, photograph: Path, expression: str, out: Path, refine: str | None = None
    ) -> segment.Request:
        """The request of `negclip segment --compare` with the page's models."""
        return segment.Request(
            photograph, (expression,), self.segmenter, compare=True, refine=refine, out=out, device=self.device,
            quiet=True,
        )  # fmt: skip
