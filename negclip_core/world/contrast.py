"""Scenes made for a negated phrase: two of a kind, where only one has what the phrase denies of the other."""

from dataclasses import replace
from typing import Any

import numpy as np

from negclip_core.world.catalog import ATTRIBUTES, KINDS, PLACES, Split, catalog
from negclip_core.world.layout import arrange
from negclip_core.world.negation import owned
from negclip_core.world.referring import SEATS, Expression, referring
from negclip_core.world.scenes import Scene, sample_scene

__all__ = ["FAMILIES", "contrast"]

_Pair = tuple[str, list[dict[str, Any]]]  # a kind, and how each of the two differs from any of that kind

FAMILIES = {"attribute": 0.4, "two": 0.15, "colour": 0.25, "occupied": 0.2}
# Cups are left out: a table has room for two things only.
_COLOURED = [kind for kind in KINDS if len(catalog()["kinds"][kind]["colours"]) > 1 and kind != "cup"]
_MOST_OTHERS = 2  # things beside the two, so that both are easily seen


def contrast(rng: np.random.Generator, split: Split, family: str | None = None) -> tuple[Scene, Expression]:
    """A scene, and a negated phrase of `split` for one thing in it, with another of its kind for contrast."""
    names = list(FAMILIES)
    while True:
        chosen = family or names[int(rng.choice(len(names), p=list(FAMILIES.values())))]
        scene = _scene(rng, split, chosen)
        if scene is None:
            continue
        for index in rng.permutation(len(scene.things)):
            phrase = referring(scene, int(index), rng, split, negated=True)
            if phrase is not None and phrase.family == chosen:
                return scene, phrase


def _scene(rng: np.random.Generator, split: Split, family: str) -> Scene | None:
    """A scene with two things that differ as `family` asks, or None where the draw did not come out."""
    if family in ("attribute", "two"):
        made = _attribute(rng, split, count=2 if family == "two" else 1)
    else:
        made = (_colour if family == "colour" else _occupied)(rng, split)
    if made is None:
        return None
    kind, changes = made
    outdoors = any("umbrella" in change.get("attributes", ()) for change in changes)
    places = [
        p
        for p in PLACES
        if kind in catalog()["places"][p]["things"] and (p in catalog()["outdoors"] or not outdoors)
    ]
    place = places[int(rng.integers(len(places)))]
    scene = sample_scene(rng, place, require=frozenset({kind, "person"} if family == "occupied" else {kind}))
    pattern = next(thing for thing in scene.things if thing.kind == kind)
    others = [thing for thing in scene.things if thing.kind != kind][:_MOST_OTHERS]
    if family == "occupied":
        # Nobody stands about: with one person and two seats, one seat is free.
        person = next(thing for thing in scene.things if thing.kind == "person")
        others = [person, *(thing for thing in others if thing.kind != "person")][:_MOST_OTHERS]
    pair = [replace(pattern, variant=int(rng.integers(1 << 16)), **change) for change in changes]
    empty = [replace(thing, box=(0.0, 0.0, 0.0, 0.0), sits_on=None) for thing in [*pair, *others]]
    return arrange(rng, place, empty, variant=scene.variant)


def _one_of(rng: np.random.Generator, found: list[Any]) -> Any:
    return found[int(rng.integers(len(found)))] if found else None


def _attribute(rng: np.random.Generator, split: Split, count: int) -> _Pair | None:
    """Two men or two women: one lacks what the other has."""
    noun = _one_of(rng, ["man", "woman"])
    order = [str(name) for name in rng.permutation(ATTRIBUTES)]
    denied, rest = frozenset(order[:count]), order[count:]
    if not owned(split, [("noun_attribute", noun, attribute) for attribute in sorted(denied)]):
        return None
    alike = [frozenset(a for a in rest if a != "umbrella" and rng.random() < 0.4) for _ in range(2)]
    worn = (alike[0], alike[1] | denied)
    colours = catalog()["kinds"]["person"]["colours"]
    return "person", [{"gender": noun, "attributes": a, "colour": _one_of(rng, colours)} for a in worn]


def _colour(rng: np.random.Generator, split: Split) -> _Pair | None:
    """Two of a kind in two colours."""
    kind = _one_of(rng, _COLOURED)
    first, second = (str(c) for c in rng.permutation(catalog()["kinds"][kind]["colours"])[:2])
    if not owned(split, [("kind_colour", kind, second)]):
        return None
    return kind, [{"colour": first}, {"colour": second}]


def _occupied(rng: np.random.Generator, split: Split) -> _Pair | None:
    """Two seats; whether just one of them is taken is left to chance."""
    seat = _one_of(rng, [seat for seat in SEATS if owned(split, [("kind_occupied", seat)])])
    return (seat, [{}, {}]) if seat else None
