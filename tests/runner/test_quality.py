"""Drift between the start and the end of a sweep, repeats that lie apart, a warm-up that was too short."""

import dataclasses
import random

import pytest

from fewmark.core import Case, Deployment, Measurement, Sample, Status, Workload
from fewmark.engines.measuring.outliers import outliers, quality_flags
from fewmark.engines.measuring.policy import Policy
from fewmark.runner import Runner, RunSettings
from fewmark.runner.advice import result_advice
from fewmark.runner.drift_check import drift_advice, marked, worth_checking

SETTINGS = RunSettings(policy=Policy(max_repeats=3), drift_check=True)
CASE = Case(Deployment("dummy", "toy"), Workload(8, 2, batch_size=1))


def measured(*latencies, case=CASE, **fields):
    samples = [Sample(e2e_latency_s=value, output_tokens=2) for value in latencies]
    return Measurement(case, samples=samples, n_repeats=len(samples), **fields)


def cases(n):
    return [Case(CASE.deployment, Workload(8, 2, batch_size=1 + number)) for number in range(n)]


@pytest.mark.usefixtures("plugin")
def test_the_first_case_of_a_long_sweep_is_measured_again_beside_what_it_was(store):
    report = Runner(store, SETTINGS, quiet=True).run(cases(8))
    assert len(report.measurements) == 8 and report.n_left == 0 and report.ok
    (check,) = report.checks
    assert check.case == report.measurements[0].case and "drift-check" in check.flags and "drifted" not in check.flags
    assert check.extra["drift_of"] == report.measurements[0].measurement_id
    assert check.extra["drift"] == pytest.approx(0)
    assert store.count() == 9 and len(store.case_ids()) == 8
    assert report.to_dict()["drift"][0]["case_id"] == check.case.case_id
    assert Runner(store, SETTINGS, quiet=True).run(cases(8)).checks == ()


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
def test_a_short_sweep_and_one_that_does_not_want_it_go_without(store):
    assert Runner(store, SETTINGS, quiet=True).run(cases(3)).checks == ()
    assert Runner(store, dataclasses.replace(SETTINGS, drift_check=False), quiet=True).run(cases(20)).checks == ()


def test_what_is_worth_a_check():
    assert worth_checking(8, 1.0) and worth_checking(2, 1000.0)
    assert not worth_checking(7, 1.0) and not worth_checking(1, 1000.0)


@pytest.mark.parametrize(
    ("first", "again", "drifted"),
    [
        ((1.00, 1.01, 0.99), (1.20, 1.21, 1.19), True),
        ((1.20, 1.21, 1.19), (1.00, 1.01, 0.99), True),
        ((1.00, 1.01, 0.99), (1.03, 1.04, 1.02), False),  # less than 5%
        ((1.00, 1.40, 0.70), (1.20, 1.70, 0.90), False),  # less than is known
    ],
)
def test_a_drift_is_told_where_it_is_more_than_noise(first, again, drifted):
    check = marked(measured(*first), measured(*again))
    assert ("drifted" in check.flags) == drifted
    assert check.extra["drift"] == pytest.approx(sorted(again)[1] / sorted(first)[1] - 1)
    advice = list(drift_advice([check]))
    assert [item.code for item in advice] == ["drift"] * drifted and all(item.hint for item in advice)


def test_a_check_that_fails_is_told():
    check = marked(measured(1, 1, 1), measured(status=Status.CRASHED, error="it fell over"))
    (advice,) = drift_advice([check])
    assert advice.code == "drift-check-failed" and "fell over" in advice.message and "drift" not in check.extra


@pytest.mark.parametrize(
    ("latencies", "apart", "flags"),
    [
        ([1.0, 1.001, 1.002, 0.999, 2.0], [4], ["outlier"]),
        ([3.0, 1.001, 1.002, 0.999, 1.0], [0], ["warm-up"]),
        ([3.0, 1.001, 1.002, 0.999, 1.0, 0.998, 5.0], [0, 6], ["warm-up", "outlier"]),
        ([0.2, 1.001, 1.002, 0.999, 1.0], [0], ["outlier"]),
        ([1.0, 1.001, 1.002, 1.02], [], []),  # within the floor, on a very quiet machine
        ([1.0, 1.0, 9.0], [], []),  # too few to tell
        ([1.0, 1.3, 0.8, 1.1, 0.9, 1.5], [], []),
        ([], [], []),
    ],
)
def test_repeats_that_lie_apart(latencies, apart, flags):
    assert (outliers(latencies), quality_flags(latencies)) == (apart, flags)


def test_normal_repeats_are_seldom_called_apart():
    rng = random.Random(3)
    n = sum(bool(outliers([rng.gauss(1, 0.05) for _ in range(10)])) for _ in range(1000))
    assert n < 250  # of ten values that differ by chance alone


@pytest.mark.usefixtures("plugin")
def test_a_repeat_that_lies_apart_is_marked_and_kept(store):
    case = Case(Deployment("dummy", "toy"), Workload(8, 2, batch_size=1, options={"slow_run": 4}))
    policy = Policy(min_repeats=6, max_repeats=6, warmup=0)
    (found,) = Runner(store, RunSettings(policy=policy), quiet=True).run([case]).measurements
    assert "outlier" in found.flags and "warm-up" not in found.flags
    assert list(found.extra["outlier_repeats"]) == [3]
    assert found.n_repeats == 6 and max(found.values("e2e_latency_s")) == pytest.approx(0.02)


@pytest.mark.parametrize(("flag", "code"), [("outlier", "noisy-machine"), ("warm-up", "warming-up")])
def test_many_marks_are_advised_upon_and_few_are_not(flag, code):
    good = [measured(1, 1, 1) for _ in range(6)]
    assert not list(result_advice([*good, measured(1, flags=[flag])]))
    (advice,) = result_advice([*good, *[measured(1, flags=[flag])] * 4])
    assert advice.code == code and advice.hint


@pytest.mark.parametrize("provenance", ["measured", "projected"])
def test_a_busy_machine_is_told_of_whether_generations_are_cut_short_or_not(provenance):
    busy = [measured(1, 1, 1, provenance=provenance, extra={"other_cpus_busy": 5.0}) for _ in range(3)]
    calm = [measured(1, 1, 1, extra={"other_cpus_busy": 0.0}) for _ in range(3)]
    (advice,) = result_advice([*calm, *busy])
    assert advice.code == "busy-machine" and "3 of 6" in advice.message
    assert not list(result_advice([*calm, dataclasses.replace(busy[0], provenance="imported")]))
