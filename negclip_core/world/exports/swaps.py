"""Winoground's form: two pictures and two captions of the same words, in which colours, or what people wear, are swapped."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from negclip_core.world.catalog import ATTRIBUTES, KINDS, PLACES, Split, catalog
from negclip_core.world.drawing import draw
from negclip_core.world.exports.pictures import SIZE, draw_all, stream, write_picture
from negclip_core.world.language import preposition
from negclip_core.world.layout import arrange
from negclip_core.world.negation import worn
from negclip_core.world.scenes import VARIANTS, Scene, Thing

__all__ = ["draw_swaps"]

_COLOUR_SHARE = 0.6
_SAY_PLACE = 0.5
_NOWHERE = (0.0, 0.0, 0.0, 0.0)
# Cups are left out: they stand on what the other thing may be.
_COLOURED = [kind for kind in KINDS if kind not in ("person", "cup") and catalog()["kinds"][kind]["colours"]]


@dataclass(frozen=True)
class _Swap:
    """Two scenes, each with its caption."""

    scenes: tuple[Scene, Scene]
    captions: tuple[str, str]
    tag: str


def draw_swaps(folder: Path, split: Split, seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Draw `count` pairs as PNG files in `folder`; the rows of Winoground's examples.jsonl, whose "tag" is "colour" or "worn".

    The pictures of a pair have the same things in the same place; what tells them apart is swapped.
    """
    return draw_all(partial(_pair, folder, split, seed), count)


def _pair(folder: Path, split: Split, seed: int, index: int) -> dict[str, Any]:
    rng = stream("swaps", split, seed, index)
    swap = None
    while swap is None:
        swap = (_colours if rng.random() < _COLOUR_SHARE else _clothes)(rng)
    names = [f"{split}_swap_{index:06d}_{side}" for side in (0, 1)]
    for name, scene in zip(names, swap.scenes, strict=True):
        write_picture(Image.fromarray(draw(scene, SIZE, instances=False).image), folder / f"{name}.png")
    first, second = swap.captions
    return {"id": index, "image_0": names[0], "image_1": names[1], "caption_0": first, "caption_1": second, "tag": swap.tag}  # fmt: skip


def _colours(rng: np.random.Generator) -> _Swap | None:
    """ "a red car and a blue bus", "a blue car and a red bus"."""
    place = str(rng.choice(PLACES))
    kinds = [str(kind) for kind in rng.permutation(_COLOURED) if kind in catalog()["places"][place]["things"]][:2]  # fmt: skip
    shared = [c for c in catalog()["kinds"][kinds[0]]["colours"] if c in catalog()["kinds"][kinds[1]]["colours"]]  # fmt: skip
    if len(shared) < 2:
        return None
    colours = dict(zip(kinds, (str(colour) for colour in rng.permutation(shared)[:2]), strict=True))
    things = [Thing(kind, colour, _NOWHERE, variant=_variant(rng)) for kind, colour in colours.items()]
    scene = arrange(rng, place, things, _variant(rng))
    if scene is None:
        return None
    swapped = dict(zip(kinds, reversed(colours.values()), strict=True))
    other = replace(scene, things=tuple(replace(thing, colour=swapped[thing.kind]) for thing in scene.things))
    tail = _tail(rng, place)
    first, second = (" and ".join(f"a {said[kind]} {kind}" for kind in kinds) + tail for said in (colours, swapped))  # fmt: skip
    return _Swap((scene, other), (first, second), "colour")


def _clothes(rng: np.random.Generator) -> _Swap | None:
    """ "a man with a hat and a woman with glasses", "a man with glasses and a woman with a hat"."""
    place = str(rng.choice(PLACES))
    fitting = [a for a in ATTRIBUTES if place in catalog()["outdoors"] or not catalog()["attributes"][a].get("outdoors")]  # fmt: skip
    pair = [str(attribute) for attribute in rng.permutation(fitting)[:2]]
    who = [str(noun) for noun in rng.permutation(["man", "woman"])]
    colours = rng.choice(catalog()["kinds"]["person"]["colours"], 2)
    looks = [(str(colour), noun, _variant(rng)) for colour, noun in zip(colours, who, strict=True)]
    spots, backdrop, tail = int(rng.integers(1 << 32)), _variant(rng), _tail(rng, place)
    scenes, captions = [], []
    for attributes in (pair, pair[::-1]):
        people = [
            Thing("person", colour, _NOWHERE, frozenset({attribute}), noun, variant=variant)
            for attribute, (colour, noun, variant) in zip(attributes, looks, strict=True)
        ]
        scene = arrange(np.random.default_rng(spots), place, people, backdrop)
        if scene is None:
            return None
        scenes.append(scene)
        said = (f"a {noun} with {worn(a).phrase}" for a, noun in zip(attributes, who, strict=True))
        captions.append(" and ".join(said) + tail)
    return _Swap((scenes[0], scenes[1]), (captions[0], captions[1]), "worn")


def _variant(rng: np.random.Generator) -> int:
    return int(rng.integers(VARIANTS))


def _tail(rng: np.random.Generator, place: str) -> str:
    return f" {preposition(place)} the {place}" if rng.random() < _SAY_PLACE else ""
