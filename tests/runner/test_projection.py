"""Projections on simulated machines whose truth is known: the growth, the error, the intervals, the rules."""

import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewmark.core import Case, Deployment, InputError, Measurement, Sample, Workload
from fewmark.runner.projection.decode_steps import of_measurement
from fewmark.runner.projection.kv_growth import fit_growth
from fewmark.runner.projection.projector import Projector, flexllmgen, mean_rule

TOY = Deployment("toy", "toy")
FULL, CUT = 256, 32
GRID = [Case(TOY, Workload(n, FULL, batch_size=b)) for n in (16, 64, 192, 640) for b in (1, 2, 4, 8)]
VALIDATED = [GRID[i] for i in (2, 5, 11, 12)]


def runs(case, tokens, n, growth, rng=None, visit=0.0, spikes=0.0):
    """n runs on one visit of a machine: a step costs 3 ms + 0.5 ms a sequence and grows with the KV cache."""
    rng = rng or np.random.default_rng(0)
    load, out = case.workload.load, []
    kv = case.workload.input_tokens + 1 + np.arange(tokens - 1)
    met = np.exp(visit * rng.standard_normal())
    for _ in range(n):
        step = (0.003 + 0.0005 * load + (growth[0] + growth[1] * load) * kv) * met
        step = step * np.exp(visit / 3 * rng.standard_normal()) * np.where(rng.random(len(kv)) < spikes, 4.0, 1.0)
        step *= np.exp((0.03 if visit else 0.0) * rng.standard_normal(len(kv)))
        times = np.concatenate([[0.005 + 1e-5 * load * case.workload.input_tokens], step]).cumsum()
        out.append(sample(times))
    return out


def sample(times):
    return Sample(
        e2e_latency_s=float(times[-1]),
        ttft_s=float(times[0]),
        output_tokens=len(times),
        token_times_s=tuple(map(float, times)),
    )


def sweep(growth, rng, visit, spikes):
    """(case, projected measurement, full, full again) of a deployment: the validated cells first."""
    projector = Projector()
    for case in [*VALIDATED, *(case for case in GRID if case not in VALIDATED)]:
        full, again = (Measurement(case, samples=runs(case, FULL, 2, growth, rng, visit, spikes)) for _ in range(2))
        if case in VALIDATED:
            projector.learn(full)
        short = runs(case, CUT, 3, growth, rng, visit, spikes)
        projection = projector.project(case.workload, short, case.case_id)
        projected = Measurement(case, samples=short, provenance="projected", projection=projection)
        projector.learn(projected)
        yield projected, full, again


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1e-6), st.floats(0, 2e-6))
def test_the_growth_of_a_step_is_recovered_from_a_few_full_runs(alone, by_load):
    measured = [Measurement(case, samples=runs(case, FULL, 1, (alone, by_load))) for case in VALIDATED]
    growth = fit_growth([of_measurement(m) for m in measured])
    for load in (1, 3, 8):
        slope, sd = growth.slope(load)
        assert slope == pytest.approx(alone + by_load * load, rel=0.05, abs=2e-7) and sd >= 0


@pytest.mark.parametrize("growth", [(0.0, 0.0), (1e-6, 5e-7), (2e-6, 2e-6)])
@pytest.mark.parametrize(("visit", "spikes"), [(0.003, 0.0), (0.01, 0.02), (0.1, 0.05)])
@pytest.mark.slow
def test_projections_are_as_near_as_the_machine_allows_and_the_intervals_hold(growth, visit, spikes):
    rng = np.random.default_rng(7)
    errors, naive, between, inside = [], [], [], []
    for _ in range(6):
        for projected, full, again in sweep(growth, rng, visit, spikes):
            actual = full.median("e2e_latency_s")
            low, high = projected.interval("e2e_latency_s")
            inside.append(low <= actual <= high)
            errors.append(abs(projected.median("e2e_latency_s") / actual - 1))
            naive.append(abs(statistics.median(mean_rule(s, FULL) for s in projected.samples) / actual - 1))
            between.append(abs(again.median("e2e_latency_s") / actual - 1))
    error, repeatability = np.median(errors), np.median(between)
    assert error <= max(0.03, repeatability + 0.01)
    assert np.mean(inside) >= 0.82
    assert error <= np.median(naive) + 0.002
    if growth[1] > 1e-6:
        assert error < np.median(naive) / 1.3


def test_single_long_steps_do_not_sway_what_is_projected():
    case = GRID[6]
    projector = Projector()
    for other in GRID:
        projector.learn(Measurement(other, samples=runs(other, FULL, 1, (1e-6, 1e-6))))
    calm = runs(case, CUT, 3, (1e-6, 1e-6))
    gaps = np.diff(calm[0].token_times_s)
    gaps[10] *= 30
    hit = [sample(np.concatenate([[calm[0].ttft_s], gaps]).cumsum()), *calm[1:]]
    before, after = (np.median(projector.project(case.workload, s, case.case_id).e2e_latency_s) for s in (calm, hit))
    assert after == pytest.approx(before, rel=0.03)
    assert abs(np.mean([mean_rule(s, FULL) for s in hit]) / np.mean([mean_rule(s, FULL) for s in calm]) - 1) > 0.2


def test_a_noisy_machine_widens_the_intervals():
    widths = []
    for visit in (0.003, 0.1):
        rng = np.random.default_rng(1)
        ends = [projected.interval("e2e_latency_s") for projected, *_ in sweep((1e-6, 1e-6), rng, visit, 0.0)]
        widths.append(np.median([high / low for low, high in ends]) - 1)
    assert widths[0] < 0.1 < 3 * widths[0] < widths[1]


def test_the_other_rules_are_what_they_say():
    one = sample(np.array([1.0, 1.5, 1.9, 2.2, 2.4]))
    assert mean_rule(one, 11) == pytest.approx(1.0 + 1.4 / 4 * 10)
    assert flexllmgen(one, 11) == pytest.approx(1.0 + 0.5 + 0.4 + (0.3 + 0.2) / 2 * 8)
    with pytest.raises(InputError, match="at least 4 tokens"):
        flexllmgen(sample(np.array([1.0, 1.5, 1.9])), 11)
    with pytest.raises(InputError, match="no such rule"):
        Projector("linear")
    for wrong in ([sample(np.array([1.0]))], runs(GRID[0], FULL, 1, (0, 0)), []):
        with pytest.raises(InputError, match="at least two tokens"):
            Projector().project(GRID[0].workload, wrong)


def test_without_a_time_of_each_token_the_totals_must_do():
    case = GRID[4]
    told = [Sample(e2e_latency_s=0.005 + 0.004 * 31, ttft_s=0.005, output_tokens=32)] * 2
    projection = Projector().project(case.workload, told)
    assert projection.e2e_latency_s[0] == pytest.approx(0.005 + 0.004 * 255, rel=0.02)
    assert projection.low_s < projection.e2e_latency_s[0] < projection.high_s
    with pytest.raises(InputError, match="no time of the first token"):
        Projector().project(case.workload, [Sample(e2e_latency_s=0.1, output_tokens=32)])


def test_a_learned_run_is_extended_with_its_visit_counted_once():
    rng = np.random.default_rng(3)
    growth, visit = (1e-6, 1e-6), 0.05
    projector = Projector()
    for other in GRID[4:]:
        projector.learn(Measurement(other, samples=runs(other, FULL, 2, growth, rng, visit)))
    short = Case(TOY, Workload(64, CUT, batch_size=1))
    run = Measurement(short, samples=runs(short, CUT, 3, growth, rng, visit))
    alone = projector.project(GRID[4].workload, run.samples, short.case_id)
    with pytest.raises(InputError, match="only a run that was learned"):
        projector.extend(run, GRID[4].workload)
    projector.learn(run)
    once, twice = projector.extend(run, GRID[4].workload), projector.project(GRID[4].workload, run.samples)
    assert once.e2e_latency_s == pytest.approx(alone.e2e_latency_s)
    assert (once.low_s, once.high_s) == pytest.approx((alone.low_s, alone.high_s))
    assert abs(twice.e2e_latency_s[0] / once.e2e_latency_s[0] - 1) > 1e-4
