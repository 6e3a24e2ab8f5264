"""How many repeats are enough, and what every failure of an engine becomes."""

import json
import math
import random
import statistics

import numpy as np
import pytest

from fewmark.core import Case, Deployment, InputError, Measurement, Sample, Status, Workload
from fewmark.engines import Availability, CaseFailure
from fewmark.engines.measuring.policy import WARMUP_TOKENS, Outcome, Policy, case_seed, measure, median_half_width

WORK = Workload(8, 32, batch_size=2)


class Scripted:
    """An engine whose latencies are given; the last is repeated."""

    def __init__(self, *latencies, tokens=None, error=None):
        self.latencies, self.tokens, self.error = list(latencies), tokens, error
        self.calls = []

    @classmethod
    def probe(cls):
        return Availability(True)

    def load(self, deployment):
        pass

    def check(self, workload):
        pass

    def run(self, workload, *, seed):
        self.calls.append((workload.output_tokens, seed))
        if self.error is not None and workload.output_tokens == WORK.output_tokens:
            raise self.error
        latency = self.latencies.pop(0) if len(self.latencies) > 1 else self.latencies[0]
        tokens = workload.output_tokens if self.tokens is None else self.tokens
        return Sample(e2e_latency_s=latency, output_tokens=tokens)

    def close(self):
        pass

    def environment(self):
        return {}


@pytest.mark.parametrize("draw", [random.Random(1).gauss, lambda mu, s: mu + s * random.Random.expovariate(RNG, 1)])
@pytest.mark.parametrize("n", [5, 6, 8, 10])
def test_the_interval_of_the_median_covers_as_often_as_it_says(draw, n):
    true = 10.0 if draw.__name__ == "gauss" else 10.0 + math.log(2)
    inside = 0
    for _ in range(4000):
        values = [draw(10.0, 1.0) for _ in range(n)]
        inside += abs(statistics.median(values) - true) <= median_half_width(values, 0.95)
    assert 0.91 <= inside / 4000 <= 0.98


RNG = random.Random(2)


def test_the_half_width_scales_with_the_values_and_needs_three():
    values = [1.0, 1.1, 0.9, 1.05]
    assert median_half_width([10 * v + 3 for v in values]) == pytest.approx(10 * median_half_width(values))
    assert median_half_width(values, 0.99) > median_half_width(values, 0.9)
    assert median_half_width([1.0, 1.1]) is None


def test_a_steady_engine_is_measured_as_often_as_the_minimum_after_a_short_warmup():
    engine = Scripted(1.0)
    outcome = measure(engine, WORK, Policy(), seed=1)
    assert outcome.status is Status.OK and outcome.flags == [] and len(outcome.samples) == 3
    assert [tokens for tokens, _ in engine.calls] == [WARMUP_TOKENS, 32, 32, 32]
    assert len({seed for _, seed in engine.calls}) == 4  # fresh prompts each time, so that no prefix cache helps


def test_a_noisy_engine_is_repeated_until_it_is_precise():
    outcome = measure(Scripted(1.0, 1.3, 0.8, 1.0, 1.0, 1.0, 1.01), WORK, Policy(warmup=0), seed=1)
    assert 3 < len(outcome.samples) < 10
    values = [sample.e2e_latency_s for sample in outcome.samples]
    assert median_half_width(values) / statistics.median(values) <= 0.03
    assert median_half_width(values[:-1]) / statistics.median(values[:-1]) > 0.03


def test_what_stays_noisy_says_so():
    wild = Scripted(*(1.0 + 0.5 * (-1) ** i for i in range(20)))
    outcome = measure(wild, WORK, Policy(max_repeats=6), seed=1)
    assert len(outcome.samples) == 6 and outcome.flags == ["imprecise"]


def test_the_seed_alone_decides_the_prompts():
    runs = []
    for seed in (1, 1, 2):
        engine = Scripted(1.0)
        measure(engine, WORK, Policy(), seed)
        runs.append(engine.calls)
    assert runs[0] == runs[1] != runs[2]
    case = Case(Deployment("e", "m"), WORK)
    assert case_seed(1, case) == case_seed(1, Case(Deployment("e", "m"), Workload(8, 32, 2))) != case_seed(2, case)


def test_no_repeat_is_begun_that_would_pass_the_time_limit():
    class Slow(Scripted):
        def run(self, workload, *, seed):
            time.sleep(0.05)
            return super().run(workload, seed=seed)

    import time

    outcome = measure(Slow(1.0, 2.0), WORK, Policy(time_limit_s=0.001, warmup=0), seed=1)
    assert outcome.status is Status.OK and len(outcome.samples) == 1 and outcome.flags == ["imprecise"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError("full"), Status.OUT_OF_MEMORY),
        (RuntimeError("device lost"), Status.CRASHED),
        (CaseFailure(Status.OUT_OF_MEMORY, "no room"), Status.OUT_OF_MEMORY),
    ],
)
def test_failures_are_outcomes(error, status):
    outcome = measure(Scripted(1.0, error=error), WORK, Policy(), seed=1)
    assert outcome.status is status and str(error) in outcome.error and outcome.wall_s > 0


@pytest.mark.parametrize("tokens", [31, 33])
def test_another_number_of_tokens_than_asked_is_invalid(tokens):
    outcome = measure(Scripted(1.0, tokens=tokens), WORK, Policy(), seed=1)
    assert outcome.status is Status.INVALID and "32" in outcome.error and str(tokens) in outcome.error


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"e2e_latency_s": 0.0},
        {"e2e_latency_s": -1.0},
        {"e2e_latency_s": 1e300},
        {"e2e_latency_s": math.inf},
        {"e2e_latency_s": "1.0"},
        {"e2e_latency_s": True},
        {"e2e_latency_s": [1.0]},
        {"e2e_latency_s": 10**400},
        {"e2e_latency_s": 1.0, "ttft_s": 2.0},
        {"e2e_latency_s": 1.0, "ttft_s": -0.5},
        {"e2e_latency_s": 1.0, "power_w": -1},
        {"e2e_latency_s": 1.0, "token_times_s": (0.5, math.nan)},
        {"e2e_latency_s": 1.0, "token_times_s": (0.5, 0.4)},
        {"e2e_latency_s": 1.0, "token_times_s": (0.5, 1.4)},
        {"e2e_latency_s": 1.0, "token_times_s": "0.5"},
        {"e2e_latency_s": 1.0, "token_times_s": 0.5},
        {"e2e_latency_s": 1.0, "token_times_s": ("a",)},
    ],
    ids=repr,
)
def test_a_clock_that_cannot_be_right_is_invalid(told):
    engine = Scripted(1.0)
    engine.run = lambda workload, seed: Sample(output_tokens=32, **told)
    outcome = measure(engine, WORK, Policy(warmup=0), seed=1)
    assert outcome.status is Status.INVALID and outcome.samples == []


@pytest.mark.parametrize("sample", [None, 1.0, {"e2e_latency_s": 1.0}, Sample], ids=repr)
def test_what_is_no_sample_is_invalid(sample):
    engine = Scripted(1.0)
    engine.run = lambda workload, seed: sample
    outcome = measure(engine, WORK, Policy(warmup=0), seed=1)
    assert outcome.status is Status.INVALID and "no sample" in outcome.error


def test_numbers_of_numpy_are_numbers():
    engine = Scripted(1.0)
    engine.run = lambda workload, seed: Sample(
        output_tokens=np.int64(32),
        e2e_latency_s=np.float32(2.0),
        ttft_s=np.array(0.5),
        token_times_s=np.array([0.5, 2]),
    )
    outcome = measure(engine, WORK, Policy(warmup=0), seed=1)
    assert outcome.status is Status.OK
    sample = outcome.samples[0]
    assert (sample.e2e_latency_s, sample.ttft_s, sample.token_times_s) == (2.0, 0.5, (0.5, 2.0))
    assert json.loads(json.dumps(outcome.to_dict()))["samples"][0]["output_tokens"] == 32


@pytest.mark.parametrize("status", ["ok", "strange", None])
def test_a_failure_that_has_no_status_is_a_crash(status):
    engine = Scripted(1.0)

    def run(workload, seed):
        raise CaseFailure(status, "no reason")

    engine.run = run
    assert measure(engine, WORK, Policy(warmup=0), seed=1).status is Status.CRASHED


def test_an_outcome_becomes_a_measurement_that_survives_its_text():
    outcome = measure(Scripted(2.0), WORK, Policy(), seed=1)
    case = Case(Deployment("e", "m", accelerator_count=4), WORK)
    same = Outcome.from_dict(outcome.to_dict())
    measurement = same.to_measurement(case, startup_s=1.5, environment={"host": {"cpu_usable": 2}})
    assert measurement.median("throughput_tok_s") == pytest.approx(2 * 32 / 2.0)
    assert measurement.n_repeats == 3 and measurement.cost.startup_s == 1.5
    assert measurement.cost.accelerator_s == pytest.approx(4 * measurement.cost.wall_s)
    assert Measurement.from_dict(measurement.to_dict()) == measurement


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"status": "strange"},
        {"status": ["ok"]},
        {"status": "ok"},
        {"status": "ok", "samples": [{"speed": 1}]},
        {"status": "ok", "samples": [{"e2e_latency_s": "1"}]},
        {"status": "ok", "samples": 7},
        {"status": "ok", "samples": [7]},
        {"status": "crashed", "flags": [1]},
        {"status": "crashed", "flags": "imprecise"},
        {"status": "crashed", "error": {}},
        {"status": "crashed", "wall_s": "1"},
        {"status": "crashed", "wall_s": -1},
        {"status": "crashed", "energy_j": float("nan")},
        {"status": "crashed", "extra": [1]},
        {"status": "crashed", "extra": {"x": float("inf")}},
        {"status": "crashed", "provenance": "guessed"},
    ],
    ids=repr,
)
def test_a_malformed_outcome_is_refused(data):
    with pytest.raises(InputError):
        Outcome.from_dict(data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_repeats": 0},
        {"min_repeats": 5, "max_repeats": 4},
        {"target_half_width": float("nan")},
        {"confidence_level": 1},
        {"time_limit_s": 0},
        {"warmup": -1},
        {"max_repeats": 2.5},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InputError):
        Policy(**wrong)


def test_what_an_engine_says_of_itself_is_kept_for_each_repeat():
    class Telling(Scripted):
        def own_metrics(self):
            if len(self.calls) == 3:
                raise RuntimeError("nothing to tell")
            return {"ttft_s": len(self.calls) / 8, "tpot_s": math.nan}

    outcome = measure(Telling(1.0), WORK, Policy(min_repeats=3, max_repeats=3), seed=0)
    assert outcome.status is Status.OK and outcome.extra["own_metrics"] == {"ttft_s": [0.25, None, 0.5]}
    assert "own_metrics" not in measure(Scripted(1.0), WORK, Policy(), seed=0).extra
