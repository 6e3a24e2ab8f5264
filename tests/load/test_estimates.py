"""Quantiles and ranks agree with SciPy; intervals cover what they should, also where observations hang together."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fewmark.core.errors import InputError
from fewmark.load.batch_means import PHIS, autocorrelation, batch_sums, interval_of_sum, student_t_quantile
from fewmark.load.estimates import (
    Estimate,
    binomial_ranks,
    mean_estimate,
    percentile_estimates,
    ratio_estimate,
    runs_estimate,
    samples_for_percentile,
    share_estimate,
    wilson_interval,
)


def percentile(values, percent, **options) -> Estimate:
    return percentile_estimates(values, [percent], **options)[0]


def wandering(n: int, correlation_time: float, rng: np.random.Generator) -> list[float]:
    """A first-order autoregression beside independent skewed noise, mean 10."""
    kept = math.exp(-1 / correlation_time)
    steps = rng.standard_normal(n) * math.sqrt(1 - kept**2)
    value, out = rng.standard_normal(), []
    for step in steps:
        value = kept * value + step
        out.append(10 + value + rng.exponential() - 1)
    return out


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 19, 20, 101, 5000])
@pytest.mark.parametrize("p", [0.5, 0.6, 0.9, 0.95, 0.995])
def test_t_quantiles_are_scipys(degrees, p):
    assert student_t_quantile(p, degrees) == pytest.approx(
        stats.t.ppf(p, degrees), rel=1e-3 if degrees > 1000 else 1e-8
    )


@given(st.integers(1, 5000), st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 0.999]), st.sampled_from([0.8, 0.9, 0.99]))
def test_ranks_are_the_tightest_that_hold(n, p, level):
    low, high = binomial_ranks(n, p, level)
    count, tail = stats.binom(n, p), (1 - level) / 2
    assert count.cdf(low - 1) <= tail + 1e-9
    assert count.cdf(low) >= tail - 1e-9
    if high <= n:
        assert count.sf(high - 1) <= tail + 1e-9
    assert high == 0 or count.sf(high - 2) >= tail - 1e-9


def test_the_fewest_samples_for_an_upper_bound():
    assert [samples_for_percentile(p) for p in (50, 90, 95, 99)] == [5, 29, 59, 299]
    assert binomial_ranks(298, 0.99)[1] == 299  # none
    assert binomial_ranks(299, 0.99)[1] == 299


def test_wilson_is_scipys():
    interval = stats.binomtest(7, 20).proportion_ci(0.9, "wilson")
    assert wilson_interval(0.35, 20, 0.9) == pytest.approx((interval.low, interval.high))
    assert wilson_interval(1.0, 10)[1] == pytest.approx(1.0)


def test_too_few_samples_for_a_p99_give_a_bound_and_never_the_maximum():
    values = [float(x) for x in np.random.default_rng(0).permutation(71)]
    estimate = percentile(values, 99)
    assert estimate.value is None
    assert estimate.high is None
    assert estimate.low is not None
    assert estimate.low < 70
    assert "299" in estimate.note


def test_a_percentile_of_independent_values_is_their_order_statistic():
    values = list(np.random.default_rng(1).exponential(size=2000))
    for percent in (50, 90, 99):
        estimate = percentile(values, percent)
        assert estimate.value == sorted(values)[math.ceil(20 * percent) - 1]
        assert estimate.low < -math.log(1 - percent / 100) < estimate.high
        assert estimate.n_effective > 900


def test_the_gaps_of_a_stream_count_together():
    rng = np.random.default_rng(2)
    # a stream's gaps are all alike: 50 streams say no more than 50 numbers, however many gaps each has
    levels = rng.exponential(size=50)
    gaps = [float(level) for level in levels for _ in range(200)]
    alone = percentile(gaps, 50, clusters=[200] * 50)
    assert alone.n == 10_000
    assert alone.n_effective < 120
    assert alone.low <= math.log(2) <= alone.high


@pytest.mark.parametrize("share_of_run", [0.0005, 0.01, 0.08])
def test_mean_intervals_cover_also_where_values_hang_together(share_of_run):
    rng = np.random.default_rng(3)
    n, runs = 800, 300
    found = [mean_estimate(wandering(n, share_of_run * n, rng)) for _ in range(runs)]
    covered = sum(e.low <= 10 <= e.high for e in found) / runs
    assert 0.84 <= covered <= 0.96
    pooled = [stats.norm.ppf(0.95) * math.sqrt(2 / n)] * runs  # as if independent
    assert statistics.fmean(e.high - e.value for e in found) > pooled[0] * (0.95 if share_of_run < 0.001 else 2)


def test_the_interval_of_a_sum_integrates_over_the_correlation():
    batches = np.array([3.0, 4.0, 6.0, 5.0, 4.5, 2.0, 1.0, 2.5, 3.0, 4.0])
    k, ones = len(batches), np.ones(10)
    weights, scales = [], []
    for phi in PHIS:  # by the covariances themselves
        covariance = phi ** np.abs(np.subtract.outer(range(k), range(k))) / (1 - phi**2)
        inverse = np.linalg.inv(covariance)
        information = ones @ inverse @ ones
        errors = batches - ones @ inverse @ batches / information
        squares = errors @ inverse @ errors
        weights.append(squares ** (-(k - 1) / 2) / math.sqrt(np.linalg.det(covariance) * information))
        scales.append(k * math.sqrt(squares / (k - 1) / information))
    half = interval_of_sum(list(batches), 0.9)
    inside = stats.t(k - 1).cdf(half / np.array(scales)) * 2 - 1
    assert np.average(inside, weights=weights) == pytest.approx(0.9, abs=1e-4)


def test_effective_numbers_fall_with_correlation():
    rng = np.random.default_rng(4)
    independent = [mean_estimate(list(rng.standard_normal(1000) + 5)).n_effective for _ in range(20)]
    correlated = [mean_estimate(wandering(1000, 20, rng)).n_effective for _ in range(20)]
    assert statistics.fmean(independent) > 600
    assert statistics.fmean(correlated) < 150


def test_a_mean_of_few_has_no_interval_and_of_none_no_value():
    few = mean_estimate([1.0, 2.0, 3.0])
    assert (few.value, few.low, few.high) == (2.0, None, None)
    assert few.note
    assert mean_estimate([]).value is None
    assert mean_estimate([2.0] * 50).relative_half_width == 0.0


def test_a_ratio_weighs_by_its_denominators():
    assert ratio_estimate([1.0, 3.0], [1.0, 1.0]).value == 2.0
    assert ratio_estimate([1.0, 30.0], [1.0, 9.0]).value == 3.1
    assert ratio_estimate([0.0], [0.0]).value is None


def test_runs_are_told_apart_by_their_own_spread():
    values = [1.0, 1.2, 0.9, 1.1]
    estimate = runs_estimate(values)
    half = stats.t.ppf(0.95, 3) * statistics.stdev(values) / 2
    assert (estimate.low, estimate.high) == pytest.approx((1.05 - half, 1.05 + half))
    assert runs_estimate([1.0]).low is None
    assert "one run" in runs_estimate([1.0]).note


def test_shares_are_bounded_also_at_the_ends():
    all_good = share_estimate([True] * 50)
    assert all_good.value == 1.0
    assert 0.9 < all_good.low < 1.0
    assert share_estimate([]).value is None
    clumped = share_estimate([i // 40 % 2 == 0 for i in range(400)])
    assert clumped.n_effective < 100


@given(st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=200), st.integers(1, 20))
def test_batches_hold_everything_once(values, k):
    sums = batch_sums(values, k)
    assert len(sums) == k
    assert math.fsum(sums) == pytest.approx(math.fsum(values), abs=1e-3)


def test_autocorrelation_of_a_ramp_and_of_nothing():
    assert autocorrelation(list(range(100))) > 0.9
    assert autocorrelation([1.0] * 10) == 0.0
    assert autocorrelation([1.0, -1.0] * 50) < -0.9


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=300), st.sampled_from([50, 90, 95, 99]))
def test_percentiles_lie_inside_their_bounds(values, percent):
    estimate = percentile(values, percent)
    ends = [x for x in (estimate.low, estimate.value, estimate.high) if x is not None]
    assert ends == sorted(ends)
    if estimate.value is not None:
        assert len(values) >= samples_for_percentile(percent)


@pytest.mark.parametrize("call", [lambda: student_t_quantile(0.2, 3), lambda: student_t_quantile(0.9, 0)])
def test_quantiles_without_meaning_are_refused(call):
    with pytest.raises(InputError):
        call()


def test_clusters_must_hold_all_values():
    with pytest.raises(InputError):
        percentile([1.0, 2.0], 50, clusters=[1])
