"""Intervals and paired tests, on SciPy: what a share, a difference and a pair of arms can be said to show.

Units that belong together (five captions of one picture, two things that one prompt denies) say less than as many that do
not. Where `groups` say which do, their spread is that of the groups: intervals of shares count as many units as would
be worth as much if each stood by itself (n over the design effect, never more than n; Kish 1965, Korn and Graubard
1998), numbers are resampled group by group, and tests swap whole groups.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = [
    "Estimate",
    "McNemar",
    "are_outcomes",
    "detectable",
    "holm",
    "mcnemar",
    "paired_difference",
    "share",
    "sign_flips",
    "summarise",
]

_RESAMPLES = 2_000
# Of a permutation test; the second where the first leave p near the least they can tell.
_SWAPS = (2_000, 20_000)
_NEAR = 0.01

Numbers = Sequence[float] | np.ndarray
Groups = Sequence[int] | np.ndarray | None  # the group of each unit; None where each stands by itself


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval, from n observations; the three are equal where all observations are."""

    value: float
    low: float
    high: float
    n: int

    def as_json(self) -> dict[str, float]:
        """{"value", "low", "high"}, rounded to what the last digit can mean."""
        return {name: round(getattr(self, name), 6) for name in ("value", "low", "high")}


@dataclass(frozen=True)
class McNemar:
    """Of n pairs of yes-or-no outcomes, those that disagree, and the exact two-sided p-value."""

    only_first: int
    only_second: int
    p: float


def share(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """A share with Wilson's interval (Wilson 1927), which stays within [0, 1] and holds for shares near its ends.

    Raises:
        ValueError: n is 0, or `successes` is not within 0 … n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a share of {successes} of {n}: expected n >= 1 and 0 <= successes <= n")
    return _wilson(successes / n, n, n, confidence)


def mcnemar(first: Numbers, second: Numbers, groups: Groups = None) -> McNemar:
    """McNemar's exact test on paired outcomes, 0 or 1 each, [n]: of all ways to swap groups, those that differ as much.

    Where each pair stands by itself that is the binomial test on those that disagree. p is 1 where none disagrees.
    Raises ValueError for unequal lengths.
    """
    a, b = _pair(first, second)
    sums = _sums(b - a, _together(groups, len(a)))
    return McNemar(int((a > b).sum()), int((b > a).sum()), _share_of_swaps(np.rint(sums).astype(int)))


def summarise(values: Numbers, groups: Groups = None, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """The mean of n values: Wilson's interval where all are 0 or 1, else a bootstrap interval (BCa).

    Raises:
        ValueError: there are no values, or one is not finite.
    """
    x = _finite(values)
    together = _together(groups, len(x))
    if are_outcomes(x):
        return _wilson(float(x.mean()), len(x), _worth(x, together), confidence)
    return _bootstrap_mean(x, together, confidence, seed)


def paired_difference(
    first: Numbers, second: Numbers, groups: Groups = None, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Mean of second − first over n pairs.

    The interval is the bias-corrected accelerated bootstrap (Efron 1987) over pairs; where all values are 0 or 1 it is
    Agresti and Min's, which covers where few pairs or none disagree, and the bootstrap does not
    (docs/results/statistics.md).

    Raises:
        ValueError: unequal lengths, no pairs, or values that are not finite.
    """
    a, b = _pair(first, second)
    differences, together = _finite(b - a), _together(groups, len(a))
    if are_outcomes(a, b):
        mean, error = _shares_apart(differences, together)
        low, high = np.clip(stats.norm.interval(confidence, mean, error), -1.0, 1.0)
        return Estimate(float(differences.mean()), float(low), float(high), len(differences))
    return _bootstrap_mean(differences, together, confidence, seed)


def sign_flips(first: Numbers, second: Numbers, groups: Groups = None, seed: int = 0) -> float:
    """Two-sided p of a paired permutation test: how often a mean difference as large comes of swapping groups at random.

    Exact for few groups, else from 2,000 swaps, or 20,000 where p is below .01. Raises ValueError for unequal lengths, or
    values that are not finite.
    """
    a, b = _pair(first, second)
    sums = _sums(_finite(b - a), _together(groups, len(a)))
    p = 1.0
    for swaps in _SWAPS if len(sums) > 1 and sums.any() else ():
        # In batches, so that memory holds 200 swaps at a time and not all of them.
        found = stats.permutation_test(
            (sums,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True,
            n_resamples=swaps, batch=200, rng=np.random.default_rng(seed),
        )  # fmt: skip
        p = float(found.pvalue)
        if p > _NEAR:
            break
    return p


def detectable(first: Numbers, second: Numbers, groups: Groups = None, power: float = 0.8) -> float:
    """The smallest mean difference that so many pairs, spread as these are, would show at the 5 % level with `power`."""
    a, b = _pair(first, second)
    differences, together = b - a, _together(groups, len(a))
    if are_outcomes(a, b):
        _, error = _shares_apart(differences, together)
    else:
        sums = _sums(differences - differences.mean(), together)
        error = math.sqrt(np.var(sums, ddof=1) * len(sums)) / len(a) if len(sums) > 1 else math.inf
    return float((stats.norm.ppf(0.975) + stats.norm.ppf(power)) * error)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    left = len(p_values) - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(left * np.asarray(p_values, float)[order]))
    return [float(p) for p in corrected]


def are_outcomes(*values: np.ndarray) -> bool:
    """Whether all are 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def _together(groups: Groups, n: int) -> np.ndarray | None:
    """The number of each unit's group, from 0 on; None where each is a group of its own."""
    if groups is None:
        return None
    names, numbers = np.unique(np.asarray(groups), return_inverse=True)
    if numbers.shape != (n,):
        raise ValueError(f"expected a group for each of {n} values, got {list(numbers.shape)}")
    return None if len(names) == n else numbers


def _sums(x: np.ndarray, together: np.ndarray | None) -> np.ndarray:
    return x if together is None else np.bincount(together, x)


def _worth(x: np.ndarray, together: np.ndarray | None) -> float:
    """How many values that each stand by themselves these are worth: n over the design effect."""
    if together is None:
        return len(x)
    sums, spread = _sums(x - x.mean(), together), float(x.var())
    if spread == 0 or len(sums) < 2:  # nothing shows how alike they are: as alike as can be
        return len(sums)
    effect = len(sums) / (len(sums) - 1) * float((sums**2).sum()) / (len(x) * spread)
    few = (stats.norm.ppf(0.975) / stats.t.ppf(0.975, len(sums) - 1)) ** 2  # the effect is an estimate itself
    return float(few * len(x) / max(1.0, effect))


def _wilson(p: float, n: int, worth: float, confidence: float) -> Estimate:
    z = float(stats.norm.ppf((1 + confidence) / 2))
    middle, half = p + z * z / (2 * worth), z * math.sqrt(p * (1 - p) / worth + z * z / (4 * worth * worth))
    low, high = ((middle + side) / (1 + z * z / worth) for side in (-half, half))
    return Estimate(p, max(0.0, low) if p else 0.0, min(1.0, high) if p < 1 else 1.0, n)


def _shares_apart(differences: np.ndarray, together: np.ndarray | None) -> tuple[float, float]:
    """The middle and the standard error of a mean of differences of yes-or-no outcomes, -1, 0 or 1 each.

    Agresti and Min 2005, Statistics in Medicine 24: a normal interval with half a pair more in each of the four cells;
    neither SciPy nor statsmodels has one for paired shares.
    """
    worth = _worth(differences, together)
    each, n = worth / len(differences), worth + 2
    only_first, only_second = ((differences * sign > 0).sum() * each + 0.5 for sign in (-1, 1))
    mean = float(only_second - only_first) / n
    return mean, math.sqrt((float(only_first + only_second) / n - mean**2) / n)


def _share_of_swaps(sums: np.ndarray) -> float:
    """Of all signs that whole numbers [groups] can be given, the share that brings a sum as far from 0 as theirs."""
    least = abs(int(sums.sum()))
    chances = np.ones(1)  # of each sum, from the lowest to the highest
    for size, count in zip(*np.unique(np.abs(sums[sums != 0]), return_counts=True), strict=True):
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, steps)
    return min(1.0, 2 * float(chances[len(chances) // 2 + least :].sum())) if least else 1.0


def _bootstrap_mean(x: np.ndarray, together: np.ndarray | None, confidence: float, seed: int) -> Estimate:
    mean = float(x.mean())
    # All alike: there is nothing to resample, and BCa's acceleration is 0 / 0.
    if np.ptp(x) == 0:
        return Estimate(mean, mean, mean, len(x))
    sums = _sums(x, together)
    if len(sums) < 2:  # one group: nothing says how others would be
        return Estimate(mean, float(x.min()), float(x.max()), len(x))
    sizes = np.ones(len(x)) if together is None else np.bincount(together)
    # In batches, so that memory holds 200 resamples at a time and not all of them.
    found = stats.bootstrap(
        (sums, sizes), lambda s, m, axis: s.sum(axis=axis) / m.sum(axis=axis), paired=True, vectorized=True,
        confidence_level=confidence, n_resamples=_RESAMPLES, method="BCa", batch=200, rng=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = (float(bound) for bound in found.confidence_interval)
    return Estimate(mean, low, high, len(x))


def _pair(first: Numbers, second: Numbers) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs need two lists of one length, got {list(a.shape)} and {list(b.shape)}")
    return a, b


def _finite(values: Numbers) -> np.ndarray:
    x = np.asarray(values, float)
    if x.size == 0:
        raise ValueError("no values: nothing to estimate")
    if not np.isfinite(x).all():
        raise ValueError(f"{int((~np.isfinite(x)).sum())} of {x.size} values are not finite")
    return x
