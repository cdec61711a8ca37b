"""What each thing in a scene is, as numbers: the supervision of the image tower."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from negclip_core.world.catalog import ATTRIBUTES, COLOURS, KINDS, PLACES
from negclip_core.world.scenes import Scene

__all__ = ["FACTS", "MOST_THINGS", "ThingTable", "table"]

MOST_THINGS = 10  # the arrays below have one row a thing, padded to this many

_KIND = {kind: i for i, kind in enumerate(KINDS)}
_COLOUR = {colour: i for i, colour in enumerate(COLOURS)}


def _fact_names() -> list[str]:
    """Everything that can be said of one thing, in the order of the columns of `ThingTable.facts`."""
    names = list(KINDS)
    names += [f"{colour} {kind}" for kind in KINDS for colour in COLOURS]
    for noun in ("man", "woman"):
        names += (
            [noun] + [f"{noun} with {a}" for a in ATTRIBUTES] + [f"{noun} without {a}" for a in ATTRIBUTES]
        )
    names += [f"{colour}" for colour in COLOURS]
    names += ["seated", *(f"seat {kind}" for kind in KINDS), *(f"free {kind}" for kind in KINDS)]
    return names


FACTS: tuple[str, ...] = tuple(_fact_names())
_FACT = {name: i for i, name in enumerate(FACTS)}


@dataclass(frozen=True)
class ThingTable:
    """One row a scene, one slot a thing (`MOST_THINGS` slots)."""

    place: Tensor  # int64 [n]
    kind: Tensor  # int64 [n, things], -1 where there is no thing
    colour: Tensor  # int64 [n, things], -1 for none
    facts: Tensor  # bool [n, things, len(FACTS)]

    def seen(self, rows: Tensor, thing: Tensor) -> Tensor:
        """Bool [n, things]: the things of each of the scenes `rows`, or the one with the index `thing` where >= 0."""
        index = torch.arange(self.kind.shape[1])
        return torch.where(thing[:, None] < 0, self.kind[rows] >= 0, index == thing[:, None])


def _facts(scene: Scene, index: int) -> list[str]:
    thing = scene.things[index]
    facts = [thing.kind]
    if thing.colour:
        facts += [f"{thing.colour} {thing.kind}", thing.colour]
    if thing.kind == "person":
        facts.append(thing.gender)
        for attribute in ATTRIBUTES:
            word = "with" if attribute in thing.attributes else "without"
            facts.append(f"{thing.gender} {word} {attribute}")
        if thing.sits_on is not None:
            facts.append("seated")
    elif any(other.sits_on == index for other in scene.things):
        facts.append(f"seat {thing.kind}")
    else:
        facts.append(f"free {thing.kind}")
    return facts


def table(scenes: list[Scene]) -> ThingTable:
    """The facts of every thing of every scene."""
    n = len(scenes)
    kind = np.full((n, MOST_THINGS), -1, np.int64)
    colour = np.full((n, MOST_THINGS), -1, np.int64)
    facts = np.zeros((n, MOST_THINGS, len(FACTS)), bool)
    for row, scene in enumerate(scenes):
        for slot, thing in enumerate(scene.things[:MOST_THINGS]):
            kind[row, slot] = _KIND[thing.kind]
            colour[row, slot] = _COLOUR.get(thing.colour, -1)
            facts[row, slot, [_FACT[name] for name in _facts(scene, slot)]] = True
    place = torch.tensor([PLACES.index(scene.place) for scene in scenes])
    return ThingTable(place, *(torch.from_numpy(each) for each in (kind, colour, facts)))
