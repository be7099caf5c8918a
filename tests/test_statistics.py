"""Intervals and the number of pairs: against scipy, simulation and the values of statsmodels."""

import numpy as np
import pytest
from scipy import stats

from distilnb.evidence import statistics
from distilnb.evidence.statistics import mean_interval, pairs_needed, power

# (spread, effect) → what statsmodels' TTestPower().solve_power(effect / spread, power=0.8, alpha=0.05) rounds up to
STATSMODELS = {(0.2, 0.31): 6, (0.5, 0.31): 23, (1.0, -0.31): 84, (7.05, 2.96): 47, (2.64, 0.31): 572}


def test_paired_intervals_are_those_of_scipy():
    one, other = [0.71, 0.64, 0.69, 0.75], [0.70, 0.66, 0.61, 0.70]
    ours, theirs = mean_interval(np.subtract(other, one)), stats.ttest_rel(other, one)
    interval = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high, ours.p) == pytest.approx((interval.low, interval.high, theirs.pvalue))
    assert ours.mean == pytest.approx(np.mean(other) - np.mean(one))
    assert mean_interval([1.0, 2.0, 3.0], level=0.5).high < mean_interval([1.0, 2.0, 3.0]).high


def test_few_pairs_say_little_and_say_so():
    assert mean_interval([]) == (None, None, None, None)
    assert mean_interval([-0.5]) == (-0.5, None, None, None)
    assert mean_interval([0.0, 0.0]) == (0.0, 0.0, 0.0, 1.0)
    assert mean_interval([0.2, 0.2, 0.2])[3] == 0.0
    assert mean_interval([0.2, 0.2, 0.2001]).low < 0.2  # close is not equal


def test_a_t_interval_covers_the_truth_as_often_as_it_says():
    """2,000 draws of 3 pairs around a true effect of 1: 95 % of the intervals hold it, to within 1.5 points."""
    intervals = [mean_interval(row) for row in np.random.default_rng(0).normal(1.0, 2.0, size=(2000, 3))]
    assert np.mean([i.low <= 1.0 <= i.high for i in intervals]) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("case", STATSMODELS)
def test_the_number_of_pairs_is_that_of_statsmodels_and_the_least(case):
    pairs = pairs_needed(*case)
    assert pairs == STATSMODELS[case]
    assert power(pairs, *case) >= 0.8 > power(pairs - 1, *case)


@pytest.mark.parametrize("pairs, spread, effect", [(3, 1.0, 1.5), (8, 2.0, -2.3), (23, 0.5, 0.31), (5, 1.0, 0.01)])
def test_power_is_how_often_a_simulated_interval_leaves_out_nothing(pairs, spread, effect):
    """20,000 experiments: a share is known to within 1 point (three standard errors)."""
    draws = np.random.default_rng(1).normal(effect, spread, size=(20_000, pairs))
    shown = stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05
    assert power(pairs, spread, effect) == pytest.approx(shown.mean(), abs=0.011)


def test_a_half_width_equal_to_the_effect_shows_it_every_second_time():
    spread, pairs = 0.5, 13
    assert power(pairs, spread, statistics.half_width(spread, pairs)) == pytest.approx(0.5, abs=0.03)


def test_what_no_number_of_pairs_can_show_is_refused():
    for effect in (0.0, 1e-6):
        with pytest.raises(ValueError, match="pairs"):
            pairs_needed(1.0, effect)
    assert pairs_needed(0.0, 0.3) == pairs_needed(1e-9, 0.3) == 2, "without any spread two pairs say it"


def test_the_bootstrap_interval_is_that_of_a_binomial():
    """400 rows at 80 %: the standard error is 2 %, so 95 % is 0.80 ± 0.039 (tolerance for 500 resamples: 0.01)."""
    right = np.arange(400) % 5 > 0
    interval = statistics.bootstrap(np.mean, right, samples=500)
    assert interval == pytest.approx((0.761, 0.839), abs=0.01)
    assert interval == statistics.bootstrap(np.mean, right, samples=500)
    assert statistics.bootstrap(np.mean, np.ones(7)) == (1.0, 1.0)
    assert statistics.bootstrap(np.mean, np.ones(1)) == (1.0, 1.0)


def test_the_bootstrap_draws_whole_rows():
    """Two equal columns stay equal row by row, whatever is drawn."""
    column = np.random.default_rng(2).normal(size=50)
    assert statistics.bootstrap(lambda a, b: float(np.abs(a - b).max()), column, column) == (0.0, 0.0)


def test_cka_sees_neither_rotation_nor_scale_nor_shift_and_tells_strangers_apart():
    """The reason to prefer it to a cosine, which asks for the same axes."""
    draw = np.random.default_rng(0)
    states, strangers = draw.normal(size=(2, 500, 8))
    turn, _ = np.linalg.qr(draw.normal(size=(8, 8)))
    assert statistics.linear_cka(states, 3 * states @ turn + 5) == pytest.approx(1)
    assert statistics.linear_cka(states, strangers) < 0.05
    half = np.concatenate([states[:, :4], strangers[:, 4:]], axis=1)
    assert statistics.linear_cka(states, half) == pytest.approx(0.5, abs=0.05)
