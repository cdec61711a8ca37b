"""Draw pictures for an evaluation: the same noise for a prompt and seed under every arm, in batches of one shape."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from eval.judges import Judge
from integrations.arms import Arm
from negclip_core.files import atomic_path

__all__ = ["Painter", "pixels", "save"]


@dataclass(frozen=True)
class Painter:
    """An arm on a host, with the judge of its pictures; they are kept in `folder` below `out`."""

    name: str
    arm: Arm
    pipe: Any  # a diffusers pipeline
    model: str
    judge: Judge
    out: Path
    folder: str
    rest: bool = False  # whether it draws from the affirmative rest instead of the prompt
    second: Judge | None = None  # asked the same, for how far the two agree

    def draw(
        self, texts: Sequence[str], seeds: Sequence[int], batch: int, steps: int, guidance_scale: float
    ) -> list[Image.Image]:
        """One picture for each text and seed, at most `batch` of them, denoised together.

        The batch is filled up to `batch` with copies of the first, because a row's rounding depends on the shape of
        what is computed with it: so a picture is the same bit for bit however many more were wanted.
        """
        spare = batch - len(texts)
        with self.arm.applied(self.pipe, num_inference_steps=steps, guidance_scale=guidance_scale) as draw:
            drawn = draw([*texts, *[texts[0]] * spare], [*seeds, *[seeds[0]] * spare])
        return drawn[: len(texts)]


def save(picture: Image.Image, path: Path, record: dict[str, Any]) -> None:
    """Write a PNG whose text holds prompt, seed, arm and model by themselves, and all of `record` as JSON."""
    text = PngInfo()
    for name in ("prompt", "seed", "arm", "model"):
        text.add_itxt(name, str(record[name]))
    text.add_itxt("negclip", json.dumps(record, ensure_ascii=False, sort_keys=True))
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=text)


def pixels(path: Path) -> np.ndarray:
    """uint8[h, w, 3] of a picture that `save` wrote."""
    with Image.open(path, formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB"))
