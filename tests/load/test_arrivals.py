"""Planned send times: exact where the process is, in distribution where it is random."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewmark.core.errors import InputError
from fewmark.load.arrivals import ClosedLoop, OpenLoop, RateStage


def take(loop: OpenLoop, n: int, seed: int = 0) -> list[float]:
    return list(itertools.islice(loop.send_times(seed), n))


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_a_constant_process_is_exact():
    assert take(OpenLoop.constant(4.0, process="constant"), 5) == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_a_constant_rate_for_a_time_sends_rate_times_time():
    assert len(list(OpenLoop.constant(10.0, 3.0, process="constant").send_times())) == 30


def test_a_ramp_sends_its_kth_request_where_the_integral_of_the_rate_is_k():
    ramp = OpenLoop.ramp(1.0, 5.0, 10.0, process="constant")
    times = list(ramp.send_times())
    assert len(times) == ramp.expected_requests == 30
    for k, t in enumerate(times):
        assert t + 0.2 * t * t == pytest.approx(k, abs=1e-9)


def test_a_ramp_down_to_nothing_keeps_its_last_requests():
    times = list(OpenLoop((RateStage(10.0, 4.0, 0.0),), "constant").send_times())
    assert len(times) == 20
    assert times == sorted(times)
    assert times[-1] < 10


def test_steps_change_the_rate_at_once():
    loop = OpenLoop.steps([1.0, 10.0, 2.0], 5.0, process="constant")
    times = list(loop.send_times())
    assert [sum(start <= t < start + 5 for t in times) for start in (0, 5, 10)] == [5, 50, 10]
    assert [loop.rate_at(t) for t in (0.0, 4.9, 5.0, 14.9, 15.0)] == [1.0, 1.0, 10.0, 2.0, 0.0]


def test_a_stage_without_requests_passes():
    loop = OpenLoop((RateStage(1.0, 2.0, 2.0), RateStage(3.0, 0.0, 0.0), RateStage(1.0, 2.0, 2.0)), "constant")
    assert list(loop.send_times()) == [0.0, 0.5, 4.0, 4.5]


@pytest.mark.parametrize(
    ("process", "burstiness", "cv"),
    [("poisson", 1.0, 1.0), ("gamma", 1.0, 1.0), ("gamma", 0.25, 2.0), ("gamma", 4.0, 0.5)],
)
def test_random_gaps_have_the_mean_and_variation_that_were_asked_for(process, burstiness, cv):
    n = 40_000
    times = take(OpenLoop.constant(8.0, process=process, burstiness=burstiness), n, seed=3)
    between = gaps([0.0, *times])
    # standard error of the mean gap: cv·mean/√n
    assert statistics.fmean(between) == pytest.approx(1 / 8, rel=4 * cv / math.sqrt(n))
    assert statistics.pstdev(between) / statistics.fmean(between) == pytest.approx(cv, rel=0.04)


def test_poisson_counts_of_a_ramp_are_those_of_its_integral():
    ramp = OpenLoop.ramp(0.0, 20.0, 10.0, hold_s=5.0)
    counts = [len(list(ramp.send_times(seed))) for seed in range(200)]
    assert ramp.expected_requests == pytest.approx(200)
    assert statistics.fmean(counts) == pytest.approx(200, abs=4 * math.sqrt(200 / 200))
    assert statistics.variance(counts) == pytest.approx(200, rel=0.4)


def test_seeds_repeat_and_differ():
    loop = OpenLoop.constant(3.0)
    assert take(loop, 50, seed=1) == take(loop, 50, seed=1)
    assert take(loop, 50, seed=1) != take(loop, 50, seed=2)


@given(
    st.lists(
        st.tuples(st.floats(0.01, 100), st.floats(0, 50), st.floats(0, 50)).filter(lambda s: s[1] + s[2] > 0.1),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["constant", "poisson", "gamma"]),
    st.integers(0, 1000),
)
def test_times_rise_and_stay_inside_the_stages(stages, process, seed):
    loop = OpenLoop(tuple(RateStage(*stage) for stage in stages), process)
    times = list(itertools.islice(loop.send_times(seed), 500))
    assert times == sorted(times)
    assert all(0 <= t <= loop.duration_s * (1 + 1e-9) for t in times)


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.001, 1000), st.floats(0, 1))
def test_the_time_of_a_share_of_a_stage_inverts_its_integral(start, end, duration, share):
    stage = RateStage(duration, start, end)
    t = stage.time_of(share * stage.expected_requests)
    integral = start * t + (end - start) * t * t / (2 * duration)
    assert integral == pytest.approx(share * stage.expected_requests, rel=1e-6, abs=1e-6)


def test_streams_of_a_closed_loop_start_evenly_over_the_ramp():
    assert ClosedLoop(4, ramp_s=2.0).start_times() == (0.0, 0.5, 1.0, 1.5)
    assert ClosedLoop(3).start_times() == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClosedLoop(0),
        lambda: ClosedLoop(1, ramp_s=math.inf),
        lambda: OpenLoop.constant(0.0),
        lambda: OpenLoop.constant(math.nan),
        lambda: OpenLoop.constant(-1.0),
        lambda: OpenLoop.constant(math.inf),
        lambda: OpenLoop.constant(1.0, 0.0),
        lambda: OpenLoop.constant(1.0, process="uniform"),
        lambda: OpenLoop.constant(1.0, process="poisson", burstiness=2.0),
        lambda: OpenLoop.constant(1.0, process="gamma", burstiness=0.0),
        lambda: OpenLoop(()),
        lambda: OpenLoop((RateStage(math.inf, 1.0, 1.0), RateStage(1.0, 1.0, 1.0))),
        lambda: RateStage(math.inf, 1.0, 2.0),
        lambda: OpenLoop.constant(1.0).send_times(limit=10**9),
    ],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(InputError):
        make()
