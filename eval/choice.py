"""Choosing among options by score: ties are broken at random and counted, and what is not a number is refused.

A scorer that says the same of everything must get chance, not full marks because the answer stood first.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np

from negclip_core.errors import RequestError

__all__ = ["chunks", "item_rng", "pick", "places", "refuse_nan", "sampled"]


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T")
Item = TypeVar("Item", bound=_Identified)


def chunks(items: list[Item], size: int, done: set[str]) -> Iterator[list[Item]]:
    """The items in order, `size` at a time, without the chunks of which every item is done.

    A chunk's members never change, so that what is computed for it is the same to the last bit in a resumed run.
    """
    for start in range(0, len(items), size):
        chunk = items[start : start + size]
        if not done.issuperset(item.id for item in chunk):
            yield chunk


def item_rng(seed: int, item: str) -> np.random.Generator:
    """Random numbers of one item: the same in whichever order, and however often interrupted, items are scored."""
    return np.random.default_rng([seed, zlib.crc32(item.encode())])


def pick(scores: Sequence[float], rng: np.random.Generator) -> tuple[int, bool]:
    """The index of the highest score, and whether others share it; among those one is drawn."""
    best = max(scores)
    winners = [index for index, score in enumerate(scores) if score == best]
    return winners[int(rng.integers(len(winners)))], len(winners) > 1


def places(scores: Sequence[float], rng: np.random.Generator) -> list[int]:
    """The place of each score, 0 for the highest; equal ones stand in an order that is drawn."""
    drawn = rng.permutation(len(scores))
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], drawn[index]))
    found = [0] * len(scores)
    for place, index in enumerate(order):
        found[index] = place
    return found


def refuse_nan(scores: np.ndarray, arm: str, item: str) -> None:
    """Raise RequestError if a score is not a finite number."""
    if not np.isfinite(scores).all():
        raise RequestError(
            f"arm {arm}: the score of {item} is not a finite number; its weights are broken or overflow in half precision"
        )


def sampled(items: list[T], limit: int | None, seed: int) -> list[T]:
    """The items in an order drawn by `seed`, at most `limit`; a larger limit keeps those of a smaller one."""
    order = np.random.default_rng(seed).permutation(len(items))
    return [items[int(index)] for index in order[:limit]]
