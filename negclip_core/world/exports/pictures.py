"""Pictures drawn to files, with what the annotations need to know of them."""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from negclip_core.files import atomic_write_bytes
from negclip_core.workers import workers
from negclip_core.world.catalog import Split
from negclip_core.world.contrast import contrast
from negclip_core.world.drawing import draw, visible_boxes
from negclip_core.world.referring import Expression
from negclip_core.world.scenes import Scene, sample_scene

__all__ = ["SIZE", "Drawn", "draw_all", "draw_contrasts", "draw_scenes", "stream", "write_picture"]

T = TypeVar("T")

SIZE = 64  # pixels a side
_SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_STREAMS = (
    "scenes",
    "contrasts",
    "captions",
    "referring",
    "questions",
    "existence",
    "prompts",
    "unmatched",
    "choices",
    "retrieval",
    "denials",
    "triples",
    "swaps",
    "singles",
    "geneval",
)


@dataclass(frozen=True)
class Drawn:
    """A picture in a file, and what is in it."""

    image_id: int
    file_name: str
    scene: Scene
    boxes: list[list[float]]  # x, y, width, height in pixels of what is visible, a row a thing
    runs: list[list[int]]  # COCO's uncompressed run lengths of the visible pixels, a row a thing
    phrase: Expression | None = None  # for pictures made for a negated phrase


def stream(name: str, split: Split, seed: int, index: int = 0) -> np.random.Generator:
    """The random numbers for one use, so that a file is the same whatever else is written."""
    return np.random.default_rng([seed, _SPLITS.index(split), _STREAMS.index(name), index])


def draw_scenes(folder: Path, split: Split, seed: int, count: int) -> Iterator[Drawn]:
    """Draw `count` scenes of the world as PNG files in `folder`, on all cores, in order."""
    return draw_all(partial(_scene, folder, split, seed), count)


def draw_contrasts(folder: Path, split: Split, seed: int, count: int, first_id: int = 1) -> Iterator[Drawn]:
    """Draw `count` pictures in which one thing is told from another of its kind by what it lacks."""
    return draw_all(partial(_contrast, folder, split, seed, first_id), count)


def draw_all(one: Callable[[int], T], count: int) -> Iterator[T]:
    """What `one` makes of 0, 1, ... `count` - 1, on all cores, in order."""
    with workers(max(1, min(os.cpu_count() or 1, count // 50))) as pool:
        yield from pool.map(one, range(count), chunksize=25)


def _scene(folder: Path, split: Split, seed: int, index: int) -> Drawn:
    scene = sample_scene(stream("scenes", split, seed, index))
    return _draw(scene, folder / f"{split}_{index:06d}.png", index + 1)


def _contrast(folder: Path, split: Split, seed: int, first_id: int, index: int) -> Drawn:
    scene, phrase = contrast(stream("contrasts", split, seed, index), split)
    return _draw(scene, folder / f"{split}_contrast_{index:06d}.png", first_id + index, phrase)


def _draw(scene: Scene, path: Path, image_id: int, phrase: Expression | None = None) -> Drawn:
    picture = draw(scene, SIZE)
    assert picture.instances is not None
    write_picture(Image.fromarray(picture.image), path)
    boxes = [[float(side) for side in box] for box in visible_boxes(picture, scene)]
    runs = [_run_lengths(picture.instances == i + 1) for i in range(len(scene.things))]
    return Drawn(image_id, path.name, scene, boxes, runs, phrase)


def write_picture(picture: Image.Image, path: Path) -> None:
    """Save a picture as PNG, whole or not at all."""
    png = io.BytesIO()
    picture.save(png, "PNG")
    atomic_write_bytes(path, png.getvalue())


def _run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's form: lengths of runs down the columns, the first of them of zeros."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths
