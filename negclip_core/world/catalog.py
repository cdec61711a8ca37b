"""The world's facts: which places there are, what stands in them, in which colours (`catalog.json`, `splits.json`).

The splits name whole combinations (a place with a thing absent from it, a noun with an attribute it lacks, a thing
with a colour it does not have) that no training caption may negate.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from negclip_core.captions.phrasings import Absence

__all__ = ["ATTRIBUTES", "COLOURS", "KINDS", "PLACES", "Split", "absence", "catalog", "split_of"]

Split = Literal["train", "validation", "test"]


def _read(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files(__package__).joinpath(name).read_text("utf-8"))
    return table


@cache
def catalog() -> dict[str, Any]:
    """The whole of `catalog.json`."""
    return _read("catalog.json")


PLACES: tuple[str, ...] = tuple(catalog()["places"])
KINDS: tuple[str, ...] = tuple(catalog()["kinds"])
ATTRIBUTES: tuple[str, ...] = tuple(catalog()["attributes"])
COLOURS: tuple[str, ...] = ("red", "blue", "yellow", "white", "black", "brown", "orange")


def absence(kind: str) -> Absence:
    """The absence of any thing of this kind."""
    return Absence(kind, kind, catalog()["kinds"][kind]["plural"])


@cache
def _owners() -> dict[tuple[str, ...], Split]:
    owners: dict[tuple[str, ...], Split] = {}
    for relation, splits in _read("splits.json").items():
        for split, members in splits.items():
            for member in members:
                combination = (relation, *member) if isinstance(member, list) else (relation, member)
                owners[combination] = split
    return owners


def split_of(relation: str, *parts: str) -> Split:
    """The split that owns a combination, "train" where none claims it.

    `relation` is "place_kind", "noun_attribute", "kind_colour" or "kind_occupied".
    """
    return _owners().get((relation, *parts), "train")
