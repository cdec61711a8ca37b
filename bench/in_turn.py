"""Time several ways of doing one thing, in turn, so that the shares of a machine that others use cancel out in ratios."""

import time
from collections.abc import Callable, Mapping

__all__ = ["in_turn"]


def in_turn(ways: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of `runs` calls of each way, after one of each that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(runs + 1):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            if number:
                times[name].append(time.perf_counter() - start)
    return times
