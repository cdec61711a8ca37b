"""GenEval's form (Ghosh et al. 2023, arXiv 2310.11513): prompts that ask for one thing or two, and what must be there."""

from itertools import permutations
from typing import Any

import numpy as np

from negclip_core.captions.phrasings import article
from negclip_core.world.catalog import KINDS, PLACES, Split, catalog
from negclip_core.world.exports.pictures import stream
from negclip_core.world.negation import likely

__all__ = ["geneval"]

_MOST = 100  # prompts a tag, as in GenEval's own file

_Asked = tuple[tuple[str, str], ...]  # colour, or "", and kind


def geneval(split: Split, seed: int, count: int) -> list[dict[str, Any]]:
    """Different prompts of the tags single_object, two_object, colors and color_attr, at most `count` and 100 a tag.

    Two things are such as are often in one place; as in GenEval no person has a colour, and two things have two colours.
    Tags that say how many, or where, are not written.
    """
    rng = stream("geneval", split, seed)
    return [
        _row(tag, asked) for tag, found in _every().items() for asked in _some(rng, found, min(count, _MOST))
    ]


def _every() -> dict[str, list[_Asked]]:
    pairs = [pair for pair in permutations(KINDS, 2) if any({*pair} <= {*likely(place)} for place in PLACES)]
    return {
        "single_object": [(("", kind),) for kind in KINDS],
        "two_object": [(("", first), ("", second)) for first, second in pairs],
        "colors": [((colour, kind),) for kind in KINDS for colour in _colours(kind)],
        "color_attr": [
            ((one, first), (other, second))
            for first, second in pairs
            for one in _colours(first)
            for other in _colours(second)
            if one != other
        ],
    }


def _colours(kind: str) -> list[str]:
    return [] if kind == "person" else catalog()["kinds"][kind]["colours"]


def _some(rng: np.random.Generator, found: list[_Asked], count: int) -> list[_Asked]:
    return [found[index] for index in rng.permutation(len(found))[:count]]


def _row(tag: str, asked: _Asked) -> dict[str, Any]:
    nouns = [f"{colour} {kind}".strip() for colour, kind in asked]
    return {
        "tag": tag,
        "include": [
            {"class": kind, "count": 1} | ({"color": colour} if colour else {}) for colour, kind in asked
        ],
        "prompt": f"a photo of {' and '.join(f'{article(noun)} {noun}' for noun in nouns)}",
    }
