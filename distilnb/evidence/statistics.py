"""Intervals over seeds, pairs and rows, and the number of pairs that a difference needs (notebooks 05 and 08)."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy import stats

MOST_PAIRS = 10**7  # because nobody will ever run more


class MeanInterval(NamedTuple):
    """A mean, its t interval and the p value of a two-sided test against 0; None where there are too few values."""

    mean: float | None
    low: float | None
    high: float | None
    p: float | None


def mean_interval(values: Sequence[float], level: float = 0.95) -> MeanInterval:
    """The mean with Student's t interval, over runs with different seeds or over differences within pairs.

    With few values the interval is rightly wide: with three it reaches 2.5 standard deviations to either side.
    """
    if len(values) < 2:
        return MeanInterval(float(values[0]) if len(values) else None, None, None, None)
    mean = float(np.mean(values))
    if np.std(values, ddof=1) <= 1e-9 * max(1.0, abs(mean)):  # all equal up to rounding
        return MeanInterval(mean, mean, mean, 0.0 if mean else 1.0)
    test = stats.ttest_1samp(values, 0.0)
    low, high = test.confidence_interval(level)
    return MeanInterval(mean, float(low), float(high), float(test.pvalue))


def half_width(spread: float, count: int, level: float = 0.95) -> float:
    """Half the width of the t interval of a mean of `count` values with standard deviation `spread`."""
    return float(stats.t.ppf((1 + level) / 2, count - 1)) * spread / count**0.5


def power(pairs: int, spread: float, effect: float, level: float = 0.95) -> float:
    """The probability that the interval of `pairs` pairs excludes 0 when the true difference is `effect`.

    `spread` is the standard deviation of the differences within pairs. The paired t statistic then follows the
    noncentral t distribution (Cohen 1988, chapter 2), and both of its tails beyond the critical value count.
    """
    if spread <= 1e-6 * abs(effect):
        return 1.0
    critical, shift = stats.t.ppf((1 + level) / 2, pairs - 1), abs(effect) / spread * pairs**0.5
    tails = stats.nct.sf(critical, pairs - 1, shift), stats.nct.cdf(-critical, pairs - 1, shift)
    return float(np.nansum(tails))  # a tail too thin for floating point is nan


def pairs_needed(spread: float, effect: float, level: float = 0.95, often: float = 0.8) -> int:
    """The least number of pairs that shows a true difference of `effect` in a share `often` of all repetitions.

    A half-width equal to the effect, a common rule, would show it only every second time. Raises ValueError for an
    effect of 0, which no number of pairs can tell from 0, and where more than ten million pairs would be needed.
    """
    if not effect:
        raise ValueError("no number of pairs tells an effect of 0 from 0")
    shown, high = partial(power, spread=spread, effect=effect, level=level), 2
    while shown(high) < often:
        high *= 2
        if high > MOST_PAIRS:
            raise ValueError(f"an effect of {effect:g} drowns in a spread of {spread:g}: no feasible number of pairs")
    return bisect_left(range(high), often, lo=high // 2 + 1, key=shown)


def bootstrap(statistic: Callable[..., float], *columns: np.ndarray, samples: int = 200) -> tuple[float, float]:
    """The 95 % percentile interval of `statistic` over resampled rows, which shows how much the choice of rows matters.

    The columns are resampled together. The interval does not include the spread over training seeds.
    """
    columns = tuple(np.asarray(column) for column in columns)
    if any(len(column) < 2 for column in columns):  # a single row has no other resample
        value = float(statistic(*columns))
        return value, value
    resampled = stats.bootstrap(
        columns,
        statistic,
        n_resamples=samples,
        batch=samples if statistic is np.mean else 1,  # the means of all resamples at once are many times faster
        vectorized=statistic is np.mean,
        paired=True,
        method="percentile",
        rng=0,
    )
    return float(resampled.confidence_interval.low), float(resampled.confidence_interval.high)


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """The similarity of two sets of hidden states of the same tokens, (tokens, dim) each; 1 if equal up to rotation.

    It is linear centred kernel alignment (Kornblith et al. 2019), which unlike a cosine does not need the same axes.
    """
    a, b = one - one.mean(0), other - other.mean(0)
    return float(np.linalg.norm(a.T @ b) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)))
