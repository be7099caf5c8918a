"""Intervals over runs with different seeds, how many runs an effect needs, and CKA (notebooks 04 and 08)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class MeanInterval(NamedTuple):
    """A mean, its t interval and the p value of a two-sided test against 0; None where values are too few to say."""

    mean: float | None
    low: float | None
    high: float | None
    p: float | None


def mean_interval(values: Sequence[float], level: float = 0.95) -> MeanInterval:
    """Student's t over runs with different seeds, or over differences within pairs of the same seed.

    With few values the interval is wide, as it should be: of three it is 2.5 standard deviations to either side.
    """
    if len(values) < 2:
        return MeanInterval(float(values[0]) if len(values) else None, None, None, None)
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    if spread <= 1e-9 * max(1.0, abs(mean)):  # all alike, rounding aside
        return MeanInterval(mean, mean, mean, 0.0 if mean else 1.0)
    reach = half_width(spread, len(values), level)
    test = stats.ttest_1samp(values, 0.0)
    return MeanInterval(mean, mean - reach, mean + reach, float(test.pvalue))


def half_width(spread: float, count: int, level: float = 0.95) -> float:
    """How far the t interval of a mean of `count` values reaches to either side; `spread` is their deviation."""
    return float(stats.t.ppf((1 + level) / 2, count - 1)) * spread / count**0.5


def pairs_needed(spread: float, effect: float, level: float = 0.95) -> int:
    """About how many pairs it takes until the interval around `effect` leaves out 0, if their spread stays the same.

    Raises ValueError for an effect of 0, which no number of pairs can tell from 0.
    """
    if not effect:
        raise ValueError("no number of pairs tells an effect of 0 from 0")
    pairs = 2
    while half_width(spread, pairs, level) > abs(effect):
        pairs += max(1, pairs // 1000)
    return pairs


def bootstrap_mean(values: np.ndarray, samples: int = 1000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean of (rows,) values over resampled rows: `bootstrap` for a score that is a mean."""
    values, draw = np.asarray(values, dtype=float), np.random.default_rng(seed)
    found = [values[draw.integers(0, len(values), len(values))].mean() for _ in range(samples)]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """How alike two sets of hidden states of the same tokens are, (tokens, dim) each: 1 for equal up to rotation.

    Linear centred kernel alignment (Kornblith et al. 2019): unlike a cosine it does not ask for the same axes.
    """
    a, b = one - one.mean(0), other - other.mean(0)
    return float(np.linalg.norm(a.T @ b) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)))
