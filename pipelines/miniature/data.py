"""The pictures the miniature's models are trained on: drawn once, kept as arrays, read by index.

A split is a folder of shards; a shard is drawn by one process and renamed into place when it is whole, so that an
interrupted drawing goes on with the shards that are missing. Scene `i` of a split is `scene(split, i)`.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from negclip_core.files import atomic_write_text
from negclip_core.workers import workers
from negclip_core.world.catalog import Split
from negclip_core.world.drawing import draw
from negclip_core.world.scenes import Scene, Thing, sample_scene

__all__ = ["SIZE", "Pictures", "pictures", "scene"]

SIZE = 64  # pixels a side
_SHARD = 2000  # pictures
_SPLIT_SEEDS: dict[Split, int] = {"train": 11, "validation": 12, "test": 13}


def scene(split: Split, index: int) -> Scene:
    """Scene number `index` of a split: the same on every machine."""
    return sample_scene(np.random.default_rng([_SPLIT_SEEDS[split], index]))


@dataclass(frozen=True)
class Pictures:
    """Drawn pictures and which thing each pixel shows."""

    folder: Path  # of this split
    split: Split
    images: np.ndarray  # uint8 [n, SIZE, SIZE, 3]
    instances: np.ndarray  # uint8 [n, SIZE, SIZE], 0 = backdrop, i + 1 = things[i]

    def scenes(self) -> list[Scene]:
        """The facts of every picture, in order; sampled on all cores and kept beside them the first time."""
        store = self.folder / f"scenes-{len(self.images)}.json"
        if not store.exists():
            starts = range(0, len(self.images), _SHARD)
            with workers() as pool:
                shards = pool.map(_scenes, [self.split] * len(starts), starts)
                everything = [asdict(each) for shard in shards for each in shard][: len(self.images)]
            atomic_write_text(store, json.dumps(everything, default=sorted))
        return [_scene(record) for record in json.loads(store.read_text("utf-8"))]


def _scene(record: dict[str, Any]) -> Scene:
    things = (
        Thing(**thing | {"box": tuple(thing["box"]), "attributes": frozenset(thing["attributes"])})
        for thing in record["things"]
    )
    return Scene(**record | {"things": tuple(things)})


def _scenes(split: Split, start: int) -> list[Scene]:
    return [scene(split, start + i) for i in range(_SHARD)]


def _draw_shard(folder: Path, split: Split, number: int) -> None:
    target = folder / f"{number:05d}.npz"
    drawn = [draw(scene(split, number * _SHARD + i), SIZE) for i in range(_SHARD)]
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(
            file,
            images=np.stack([picture.image for picture in drawn]),
            instances=np.stack([picture.instances for picture in drawn if picture.instances is not None]),
        )
    temporary.rename(target)


def pictures(folder: Path, split: Split, count: int, *, quiet: bool = False) -> Pictures:
    """`count` pictures of a split, drawn on all cores where `folder` does not hold them yet."""
    folder = folder / split
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(-(-count // _SHARD))
    missing = [number for number in numbers if not (folder / f"{number:05d}.npz").exists()]
    if missing:
        with workers() as pool:
            jobs = [pool.submit(_draw_shard, folder, split, number) for number in missing]
            for job in tqdm(jobs, desc=f"drawing {split} pictures", unit="shard", disable=quiet):
                job.result()
    shards = [np.load(folder / f"{number:05d}.npz") for number in numbers]
    return Pictures(
        folder,
        split,
        np.concatenate([shard["images"] for shard in shards])[:count],
        np.concatenate([shard["instances"] for shard in shards])[:count],
    )
