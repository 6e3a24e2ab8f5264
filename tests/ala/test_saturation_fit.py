"""The batched fit: true parameters, SciPy's answers, and a status for everything that is not determined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from fewmark.core.errors import InputError
from fewmark.models.ala.curve import fit_saturation, group_rows, saturation

BATCHES = np.array([1.0, 2, 4, 8, 16, 32, 64])


def fit_one(batch, throughput, **options):
    batch, throughput = np.asarray(batch, float), np.asarray(throughput, float)
    return fit_saturation(*group_rows(batch, throughput, np.zeros(len(batch), np.intp), 1), **options)


@settings(max_examples=60, deadline=None)
@given(
    a=st.floats(1, 1e4),
    b=st.floats(0.005, 0.8),
    over=st.floats(1.001, 3),
)
def test_recovers_the_parameters_of_exact_curves(a, b, over):
    c = a * over
    fits = fit_one(BATCHES, saturation(BATCHES, a, b, c))
    assert fits.status[0] == "converged"
    np.testing.assert_allclose(fits.parameters[0], [a, b, c], rtol=1e-5)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(4, 7), noise=st.floats(0.01, 0.3))
def test_is_never_worse_than_scipy_and_agrees_where_scipy_finds_the_same_optimum(seed, n, noise):
    rng = np.random.default_rng(seed)
    x = BATCHES[:n]
    y = saturation(x, 900, rng.uniform(0.05, 0.4), 1000) * rng.lognormal(0, noise, n)
    ours = fit_one(x, y)
    start = [max(np.ptp(y), 1e-5), 1 / np.ptp(x), y.max()]
    try:
        scipy = curve_fit(saturation, x, y, p0=start, bounds=(0, np.inf))[0]
    except RuntimeError:
        return
    loss = ((saturation(x, *scipy) - y) ** 2).sum()
    if not ours.successful[0]:
        return
    own = ((saturation(x, *ours.parameters[0]) - y) ** 2).sum()
    assert own <= loss * (1 + 2e-8) + 1e-9 * (y**2).sum()
    if ours.status[0] == "converged" and loss < own * (1 + 1e-6):
        np.testing.assert_allclose(saturation(x, *ours.parameters[0]), saturation(x, *scipy), rtol=1e-2, atol=1)


def test_rows_weigh_as_often_as_they_occur():
    x = np.array([1.0, 1, 1, 8, 16, 16, 64])
    y = np.array([90.0, 100, 130, 500, 700, 720, 980])
    ours = fit_one(x, y)
    scipy = curve_fit(saturation, x, y, p0=[900, 0.02, 900], bounds=(0, np.inf), ftol=1e-14, xtol=1e-14, gtol=1e-14)[0]
    np.testing.assert_allclose(ours.parameters[0], scipy, rtol=1e-5)


def test_groups_do_not_touch_each_other():
    rng = np.random.default_rng(3)
    batch, group = np.tile(BATCHES, 20), np.repeat(np.arange(20), len(BATCHES))
    y = saturation(batch, 100 + 50.0 * group, 0.05, 120 + 60.0 * group) * rng.lognormal(0, 0.05, len(batch))
    together = fit_saturation(*group_rows(batch, y, group, 20))
    alone = np.vstack([fit_one(BATCHES, y[group == g]).parameters for g in range(20)])
    np.testing.assert_allclose(together.parameters, alone, rtol=1e-9)


def test_falling_throughput_is_flat():
    fits = fit_one([1, 8, 16, 64], [500, 400, 300, 200])
    assert fits.status[0] == "flat"
    assert fits.a[0] == 0
    assert fits.c[0] == pytest.approx(350)


def test_saturated_from_the_second_batch_on_is_a_step():
    fits = fit_one([1, 16, 32, 64], [100, 500, 480, 490])
    assert fits.status[0] == "step"
    np.testing.assert_allclose(saturation([1, 16, 32, 64], *fits.parameters[0]), [100, 490, 490, 490], rtol=1e-4)


@pytest.mark.parametrize("y", [[10, 20, 40, 80], [10, 30, 70, 150]], ids=["straight", "convex"])
def test_without_saturation_the_fit_is_unsuccessful_or_a_line_on_request(y):
    x = np.array([1.0, 2, 4, 8])
    assert fit_one(x, y).status[0] == "not-converged"
    assert np.isnan(fit_one(x, y).parameters).all()
    assert not fit_one(x, y).successful[0]
    line = fit_one(x, y, fitting="line")
    assert line.status[0] == "not-converged"
    assert line.successful[0]
    np.testing.assert_allclose(
        saturation(x, *line.parameters[0]), np.polyval(np.polyfit(x, y, 1), x), rtol=1e-2, atol=0.3
    )


def test_one_batch_size_gives_a_constant_through_the_mean():
    fits = fit_one([16, 16], [90, 110])
    assert fits.status[0] == "one-batch"
    assert (fits.a[0], fits.b[0]) == (1.0, 0.001)
    assert saturation(16, *fits.parameters[0]) == pytest.approx(100)


@pytest.mark.parametrize("repeats", [1, 3])
def test_of_the_curves_through_two_points_the_one_nearest_to_the_start_is_taken(repeats):
    x, y = np.array([1.0] + [64.0] * repeats), np.array([100.0] + [1000.0] * repeats)
    fits = fit_one(x, y)
    assert fits.status[0] == "two-batches"
    np.testing.assert_allclose(saturation([1, 64], *fits.parameters[0]), [100, 1000])
    low, high = np.percentile(y, [10, 90])
    b = np.geomspace(1e-3, 1, 100_001)
    a = 900 / (np.exp(-b) - np.exp(-64 * b))
    c = 100 + a * np.exp(-b)
    assert fits.b[0] == pytest.approx(b[np.argmin((a - (high - low)) ** 2 + (c - high) ** 2)], rel=1e-3)


def test_two_batch_sizes_without_a_rise_are_flat():
    assert fit_one([1, 64], [100, 90]).status[0] == "flat"
    assert fit_one([1, 64], [100, 90]).c[0] == pytest.approx(95)


def test_the_literal_search_agrees_on_determined_groups_and_fails_without_saturation():
    x, y = BATCHES, saturation(BATCHES, 950, 0.07, 1000) * np.random.default_rng(0).lognormal(0, 0.1, len(BATCHES))
    literal, ours = fit_one(x, y, fitting="search"), fit_one(x, y)
    np.testing.assert_allclose(literal.parameters, ours.parameters, rtol=1e-3)
    assert fit_one([1, 2, 4, 8], [10, 30, 70, 150], fitting="search").status[0] == "not-converged"


def test_unknown_fitting_is_refused():
    with pytest.raises(InputError, match="optimum"):
        fit_one([1, 2, 4], [1, 2, 2.5], fitting="best")
