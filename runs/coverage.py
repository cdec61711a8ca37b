"""How often the 95 % intervals of eval/statistics.py hold the truth, by simulation; prints the table of docs/results/statistics.md.

    python runs/coverage.py [TRIALS]

Every sample is drawn from a population whose truth is known. Intervals that take no resampling are cheap, and tried ten
times as often.
"""

import sys
from collections.abc import Callable
from functools import cache

import numpy as np

from eval.statistics import Estimate, paired_difference, share, summarise

_SIZES = (50, 100, 200, 500, 1000, 5000)
_MORE = 10

Sample = Callable[
    [np.random.Generator, int], tuple[Estimate, float]
]  # an estimate from n units, and the truth


@cache
def _wilson(successes: int, n: int) -> Estimate:
    return share(successes, n)


def _share(p: float | None) -> Sample:
    """A share of p, or of any size."""

    def sample(rng: np.random.Generator, n: int) -> tuple[Estimate, float]:
        truth = rng.random() if p is None else p
        return _wilson(int(rng.binomial(n, truth)), n), truth

    return sample


def _outcomes(only_first: float, only_second: float) -> Sample:
    """Pairs of right or wrong, of which these shares are right under one arm only."""

    def sample(rng: np.random.Generator, n: int) -> tuple[Estimate, float]:
        kind = rng.random(n)
        first, second = kind < only_first, (kind >= only_first) & (kind < only_first + only_second)
        both = (rng.random(n) < 0.5) & ~first & ~second
        return paired_difference(first | both, second | both), only_second - only_first

    return sample


def _overlap(rng: np.random.Generator, n: int, missed: float) -> np.ndarray:
    """Like IoU: nothing for what is missed, else mostly high."""
    return np.where(rng.random(n) < missed, 0.0, rng.beta(8, 2, n))


def _overlaps(rng: np.random.Generator, n: int) -> tuple[Estimate, float]:
    return paired_difference(_overlap(rng, n, 0.9), _overlap(rng, n, 0.1)), 0.8 * 0.8


def _skewed(rng: np.random.Generator, n: int) -> tuple[Estimate, float]:
    return summarise(rng.gamma(0.5, 2.0, n)), 1.0


_EACH, _ALIKE = 5, 0.6  # units of one item, and the share of them that go as it does


def _hanging(rng: np.random.Generator, n: int, p: float) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of n items, five of each, right with chance p, and their items."""
    groups = np.repeat(np.arange(n), _EACH)
    of_item = (rng.random(n) < p)[groups]
    return np.where(rng.random(len(groups)) < _ALIKE, of_item, rng.random(len(groups)) < p), groups


def _share_in_groups(p: float) -> Sample:
    def sample(rng: np.random.Generator, n: int) -> tuple[Estimate, float]:
        return summarise(*_hanging(rng, n, p)), p

    return sample


def _outcomes_in_groups(first: float, second: float) -> Sample:
    def sample(rng: np.random.Generator, n: int) -> tuple[Estimate, float]:
        (a, groups), (b, _) = _hanging(rng, n, first), _hanging(rng, n, second)
        return paired_difference(a, b, groups), second - first

    return sample


def _overlaps_in_groups(rng: np.random.Generator, n: int) -> tuple[Estimate, float]:
    groups = np.repeat(np.arange(n), _EACH)
    units = len(groups)
    a, b = (
        np.where(rng.random(units) < _ALIKE, _overlap(rng, n, missed)[groups], _overlap(rng, units, missed))
        for missed in (0.9, 0.1)
    )
    return paired_difference(a, b, groups), 0.8 * 0.8


_QUICK: dict[str, Sample] = {
    "share, any size": _share(None),
    "share, .50": _share(0.5),
    "share, .90": _share(0.9),
    "share, .98": _share(0.98),
    "difference of shares in pairs, .20 and .30 right under one arm only": _outcomes(0.2, 0.3),
    "- .00 and .40": _outcomes(0.0, 0.4),
    "- .05 and .15": _outcomes(0.05, 0.15),
    "- .01 and .03": _outcomes(0.01, 0.03),
    "- .02 and .02": _outcomes(0.02, 0.02),
}
_RESAMPLED: dict[str, Sample] = {
    "difference of overlaps (IoU) in pairs": _overlaps,
    "mean of skewed numbers (gamma, skewness 2.8)": _skewed,
}
# Five units of each of n items.
_QUICK_IN_GROUPS: dict[str, Sample] = {
    "share, .50, of units in groups": _share_in_groups(0.5),
    "- share, .90": _share_in_groups(0.9),
    "- difference of shares in pairs, .50 and .60": _outcomes_in_groups(0.5, 0.6),
    "- .90 and .92": _outcomes_in_groups(0.9, 0.92),
}
_RESAMPLED_IN_GROUPS: dict[str, Sample] = {"- difference of overlaps (IoU) in pairs": _overlaps_in_groups}


def main(trials: int) -> None:
    """Print a row for each kind of figure: in how many of a hundred samples of each size the interval holds the truth."""
    print("| 95 % interval of | " + " | ".join(f"n = {n:,}" for n in _SIZES) + " |")
    print("|---" * (len(_SIZES) + 1) + "|")
    kinds = _QUICK | _RESAMPLED | _QUICK_IN_GROUPS | _RESAMPLED_IN_GROUPS
    for number, (name, sample) in enumerate(kinds.items()):
        more = 1 if name in _RESAMPLED | _RESAMPLED_IN_GROUPS else _MORE
        cells = []
        for n in _SIZES:
            rng = np.random.default_rng([number, n])
            found = [sample(rng, n) for _ in range(trials * more)]
            cells.append(np.mean([estimate.low <= truth <= estimate.high for estimate, truth in found]))
        print(f"| {name} | " + " | ".join(f"{100 * cell:.1f}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
