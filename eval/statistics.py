"""Intervals and paired tests, on SciPy: what a share, a difference and a pair of arms can be said to show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = [
    "Estimate",
    "McNemar",
    "detectable",
    "holm",
    "mcnemar",
    "paired_difference",
    "share",
    "sign_flips",
    "summarise",
]

_RESAMPLES = 2_000


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
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def mcnemar(first: Sequence[int] | np.ndarray, second: Sequence[int] | np.ndarray) -> McNemar:
    """McNemar's exact test on paired outcomes, 0 or 1 each, [n]: the binomial test on the pairs that disagree.

    p is 1 where none disagrees. Raises ValueError for unequal lengths.
    """
    a, b = _pair(first, second)
    only_first, only_second = int((a > b).sum()), int((b > a).sum())
    disagreeing = only_first + only_second
    p = float(stats.binomtest(only_first, disagreeing).pvalue) if disagreeing else 1.0
    return McNemar(only_first, only_second, p)


def summarise(values: Sequence[float] | np.ndarray, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """The mean of n values: Wilson's interval where all are 0 or 1, else a bootstrap interval (BCa).

    Raises:
        ValueError: there are no values, or one is not finite.
    """
    x = _finite(values)
    if np.isin(x, (0.0, 1.0)).all():
        return share(int(x.sum()), len(x), confidence)
    return _bootstrap_mean(x, confidence, seed)


def paired_difference(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Mean of second − first over n pairs.

    The interval is the bias-corrected accelerated bootstrap (Efron 1987) over pairs; where all values are 0 or 1 it is
    Agresti and Min's, which covers where few pairs or none disagree, and the bootstrap does not
    (docs/results/statistics.md).

    Raises:
        ValueError: unequal lengths, no pairs, or values that are not finite.
    """
    a, b = _pair(first, second)
    differences = _finite(b - a)
    if np.isin([a, b], (0.0, 1.0)).all():
        return _difference_of_shares(differences, confidence)
    return _bootstrap_mean(differences, confidence, seed)


def sign_flips(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray, seed: int = 0
) -> float:
    """Two-sided p of a paired permutation test: how often a mean difference as large comes of swapping pairs at random.

    Exact for few pairs, else from 2,000 swaps. Raises ValueError for unequal lengths, or values that are not finite.
    """
    a, b = _pair(first, second)
    differences = _finite(b - a)
    if len(differences) < 2 or not differences.any():
        return 1.0
    # In batches, so that memory holds 200 swaps at a time and not all of them.
    found = stats.permutation_test(
        (differences,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=_RESAMPLES, batch=200, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.pvalue)


def detectable(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray, power: float = 0.8
) -> float:
    """The smallest mean difference that so many pairs, spread as these are, would show at the 5 % level with `power`."""
    a, b = _pair(first, second)
    spread = float(np.std(b - a, ddof=1)) if len(a) > 1 else float("inf")
    return float((stats.norm.ppf(0.975) + stats.norm.ppf(power)) * spread / np.sqrt(len(a)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    left = len(p_values) - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(left * np.asarray(p_values, float)[order]))
    return [float(p) for p in corrected]


def _difference_of_shares(differences: np.ndarray, confidence: float) -> Estimate:
    """The mean of differences of yes-or-no outcomes, -1, 0 or 1 each.

    Agresti and Min 2005, Statistics in Medicine 24: a normal interval with half a pair more in each of the four cells;
    neither SciPy nor statsmodels has one for paired shares.
    """
    n = len(differences) + 2
    only_first, only_second = (differences < 0).sum() + 0.5, (differences > 0).sum() + 0.5
    mean = (only_second - only_first) / n
    spread = np.sqrt(((only_first + only_second) / n - mean**2) / n)
    low, high = np.clip(stats.norm.interval(confidence, mean, spread), -1.0, 1.0)
    return Estimate(float(differences.mean()), float(low), float(high), len(differences))


def _bootstrap_mean(x: np.ndarray, confidence: float, seed: int) -> Estimate:
    mean = float(x.mean())
    # All alike: there is nothing to resample, and BCa's acceleration is 0 / 0.
    if np.ptp(x) == 0:
        return Estimate(mean, mean, mean, len(x))
    # In batches, so that memory holds 200 resamples at a time and not all of them.
    found = stats.bootstrap(
        (x,), np.mean, confidence_level=confidence, n_resamples=_RESAMPLES, method="BCa", batch=200,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = (float(bound) for bound in found.confidence_interval)
    return Estimate(mean, low, high, len(x))


def _pair(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs need two lists of one length, got {list(a.shape)} and {list(b.shape)}")
    return a, b


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    x = np.asarray(values, float)
    if x.size == 0:
        raise ValueError("no values: nothing to estimate")
    if not np.isfinite(x).all():
        raise ValueError(f"{int((~np.isfinite(x)).sum())} of {x.size} values are not finite")
    return x
