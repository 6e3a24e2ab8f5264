"""The largest load that meets objectives: found, with its interval, in few probes, and stopped by its own forecast."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewmark.core.errors import InputError
from fewmark.load.estimates import Estimate
from fewmark.planning.frontier import FrontierSearch, FrontierTier, Probe, find_frontier
from fewmark.planning.latency_curve import LatencyCurves, Readings

NOISE = 0.01


def tpot(load: float) -> float:
    return 0.01 + 0.0001 * load


def ttft(load: float) -> float:
    return 0.05 + 0.0005 * load + 0.02 * max(load - 200, 0)


def estimate(value: float, sd: float = NOISE) -> Estimate:
    return Estimate(value, value * math.exp(-1.645 * sd), value * math.exp(1.645 * sd), 0.9)


def prober(seed: int = 0, **metrics):
    rng = np.random.default_rng(seed)

    def measure(load: float) -> Probe:
        return Probe(load, {name: estimate(of(load) * math.exp(rng.normal(0, NOISE))) for name, of in metrics.items()})

    return measure


def search(*tiers: dict[str, float], **options) -> FrontierSearch:
    return FrontierSearch([FrontierTier(f"t{i}", limits) for i, limits in enumerate(tiers)], 1, 1000, **options)


def test_a_straight_line_is_found_in_few_probes():
    found = search({"tpot_s": 0.03})
    (limit,) = find_frontier(found, prober(tpot_s=tpot))
    assert limit.where == "inside"
    assert limit.limit == pytest.approx(200, rel=0.06)
    assert limit.low <= limit.limit <= limit.high
    assert limit.is_certain
    assert len(found.probes) <= 7


def test_the_corner_of_a_queue_is_found():
    found = search({"ttft_s": 0.5})
    (limit,) = find_frontier(found, prober(ttft_s=ttft))
    assert limit.limit == pytest.approx(217, rel=0.06)  # 0.15 at the corner, then 20 ms for each more
    assert len(found.probes) <= 10


@pytest.mark.slow
def test_tiers_share_probes_and_the_tightest_metric_decides():
    found = search({"tpot_s": 0.025, "ttft_s": 5.0}, {"tpot_s": 0.035, "ttft_s": 0.4})
    tight, loose = find_frontier(found, prober(tpot_s=tpot, ttft_s=ttft))
    assert tight.limit == pytest.approx(150, rel=0.06)
    assert loose.limit == pytest.approx(212, rel=0.06)
    assert len(found.probes) <= 14


def test_a_limit_beyond_the_range_says_so():
    (above,) = find_frontier(search({"tpot_s": 10.0}), prober(tpot_s=tpot))
    assert (above.where, above.limit) == ("above", 1000)
    assert above.p_next_fails < 0.1
    (below,) = find_frontier(search({"tpot_s": 0.001}), prober(tpot_s=tpot))
    assert (below.where, below.limit) == ("below", 1)
    assert below.p_next_fails > 0.9


def test_one_step_more_fails_more_surely_the_further_it_is():
    near = search({"tpot_s": 0.03}, step=1.0)
    far = search({"tpot_s": 0.03}, step=60.0)
    for each in (near, far):
        for load in (100.0, 210.0):
            each.tell(prober(tpot_s=tpot)(load))
    assert near.limits()[0].p_next_fails < far.limits()[0].p_next_fails
    assert far.limits()[0].p_next_fails > 0.95


def test_a_load_that_the_server_cannot_serve_is_above_the_limit():
    found = search({"tpot_s": 1.0})

    def measure(load: float) -> Probe:
        return Probe(load, {}, failed=True) if load > 300 else prober(tpot_s=tpot)(load)

    (limit,) = find_frontier(found, measure)
    assert limit.where == "inside"
    assert 200 < limit.limit < 340


def test_a_fitted_models_prediction_saves_probes():
    plain, informed = [], []
    for seed in range(2):
        without = search({"tpot_s": 0.03}, random_state=seed)
        find_frontier(without, prober(seed, tpot_s=tpot))
        plain.append(len(without.probes))
        prior = {"tpot_s": lambda load: (tpot(load) * 1.05, 0.1)}
        helped = search({"tpot_s": 0.03}, prior=prior, random_state=seed)
        (limit,) = find_frontier(helped, prober(seed, tpot_s=tpot))
        informed.append(len(helped.probes))
        assert limit.limit == pytest.approx(200, rel=0.06)
    assert sum(informed) < sum(plain)


def test_probes_weigh_their_cost():
    cheap_low = search({"tpot_s": 0.03}, cost_s=lambda load: load**3)
    even = search({"tpot_s": 0.03})
    for each in (cheap_low, even):
        each.tell(prober(tpot_s=tpot)(31.0))
    assert cheap_low.ask() < even.ask()


def test_the_same_seed_asks_the_same():
    asked = []
    for _ in range(2):
        found = search({"tpot_s": 0.03}, random_state=4)
        find_frontier(found, prober(tpot_s=tpot))
        asked.append([probe.load for probe in found.probes])
    assert asked[0] == asked[1]


def test_the_budget_ends_the_search_and_says_that_it_is_not_certain():
    found = search({"tpot_s": 0.03}, max_probes=2)
    (limit,) = find_frontier(found, prober(tpot_s=tpot))
    assert len(found.probes) == 2
    assert not limit.is_certain


def test_curves_rise_and_pass_through_what_was_measured():
    loads = np.array([10.0, 100.0, 400.0])
    readings = Readings(loads, np.log([tpot(x) for x in loads]), np.full(3, 0.01), np.zeros(3, dtype=bool))
    curves = LatencyCurves(1, 1000).fit(readings, 100.0)
    at = np.array([curves.log_values(load) for load in (1, 10, 50, 100, 200, 400, 900)])
    assert (np.diff(at, axis=0) >= -1e-12).all()
    assert np.median(at[3]) == pytest.approx(math.log(tpot(100)), abs=0.02)
    drawn = curves.limits(math.log(tpot(100)))
    assert np.median(drawn) == pytest.approx(100, rel=0.05)
    # what a curve says of a load and where it meets a limit agree
    again = np.array([curves.limits(float(value))[i] for i, value in enumerate(at[3][:20])])
    assert again == pytest.approx(100, rel=1e-6)


def test_a_lower_bound_bounds_from_below():
    readings = Readings(np.array([100.0, 100.0]), np.log([0.001, 1.0]), np.full(2, 0.05), np.array([False, True]))
    free = LatencyCurves(1, 1000).fit(Readings(*(column[:1] for column in vars(readings).values())), 100.0)
    assert np.median(free.log_values(100.0)) == pytest.approx(math.log(0.001), abs=0.1)
    only_bound = Readings(np.array([100.0]), np.log([1.0]), np.array([0.05]), np.array([True]))
    assert np.quantile(LatencyCurves(1, 1000).fit(only_bound, 100.0).log_values(100.0), 0.05) > -0.2


@pytest.mark.parametrize(
    "make",
    [
        lambda: search(),
        lambda: search({}),
        lambda: search({"tpot_s": -1.0}),
        lambda: FrontierSearch([FrontierTier("t", {"tpot_s": 1.0})], 10, 5),
        lambda: search({"tpot_s": 1.0}, tolerance=0.0),
        lambda: search({"tpot_s": 1.0}).tell(Probe(5.0, {})),
        lambda: search({"tpot_s": 1.0}).tell(Probe(math.nan, {"tpot_s": estimate(1.0)})),
        lambda: search({"tpot_s": 1.0}).limits(),
    ],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(InputError):
        make()


@pytest.mark.slow
def test_a_search_that_noise_makes_hopeless_ends_by_its_own_forecast():
    rng = np.random.default_rng(0)

    def measure(load: float) -> Probe:  # 20% of noise on a curve that rises by a tenth from end to end
        return Probe(load, {"tpot_s": estimate(0.01 * (1 + load / 10_000) * math.exp(rng.normal(0, 0.2)), 0.2)})

    found = search({"tpot_s": 0.0105})
    (limit,) = find_frontier(found, measure)
    assert found.is_hopeless
    assert len(found.probes) < 10
    assert not limit.is_certain
