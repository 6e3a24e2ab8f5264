"""The steady window: load reached, warm-up over, load gone; and queues that grow without end."""

from __future__ import annotations

import random

import numpy as np
import pytest

from fewmark.load.arrivals import OpenLoop
from fewmark.load.records import RequestStatus
from fewmark.load.steady_state import rising_p, saturation, steady_window, warm_up

from .made import closed_run, record


def test_a_closed_loops_window_begins_when_every_stream_has_come_round_and_ends_with_the_load():
    run = closed_run(concurrency=10, n=200, ttft=0.1, tpot=0.02, tokens=11)  # 0.3 s a request
    window = steady_window(run.records, 10, run.ended_s)
    assert window is not None
    # ten have ended when the last stream's first request is at its end; nine of ten are in flight nearly to the end
    assert window.start_s == pytest.approx(0.57)
    assert window.end_s == pytest.approx(run.ended_s - 0.27 + 0.03, abs=0.031)
    assert window.n_before == 10
    assert window.n_before + window.n_inside + window.n_after == 200
    assert window.settled


def test_requests_without_an_end_are_in_flight_until_the_run_is_stopped():
    run = closed_run(2, 40)
    stopped = run.ended_s + 5
    hung = [
        record(run.ended_s, None, status=RequestStatus.CANCELLED, index=40 + i, end_s=None, last_token_s=None)
        for i in range(2)
    ]
    window = steady_window([*run.records, *hung], 2, stopped)
    assert window is not None
    assert window.end_s == stopped


def test_an_open_loops_window_runs_from_the_first_end_to_the_last_planned_send():
    records = [record(float(i), i + 0.5, [0.1] * 5, index=i) for i in range(30)]
    window = steady_window(records)
    assert window is not None
    assert (window.start_s, window.end_s) == (1.0, 29.0)
    assert window.n_inside == 28


@pytest.mark.parametrize("concurrency", [3, None])
def test_nothing_is_steady_where_nothing_ended(concurrency):
    failed = [record(0.0, None, status=RequestStatus.REFUSED, end_s=None, send_s=None)] * 5
    assert steady_window(failed, concurrency) is None
    assert steady_window([], concurrency) is None


def test_a_load_that_never_came_round_has_no_window():
    run = closed_run(8, 8)
    assert steady_window(run.records, 8, run.ended_s) is None


def test_a_warm_up_is_cut_and_a_steady_series_is_not():
    rng = random.Random(0)
    steady = [1 + rng.gauss(0, 0.1) for _ in range(400)]
    assert warm_up(steady) == (0, True)
    warming = [x + (2.0 if i < 50 else 0.0) for i, x in enumerate(steady)]
    cut, settled = warm_up(warming)
    assert settled
    assert 50 <= cut <= 80


def test_a_series_that_never_settles_says_so():
    assert warm_up([i + random.Random(i).random() for i in range(400)]) == (200, False)


def test_a_steady_but_correlated_series_is_seldom_cut():
    rng = np.random.default_rng(0)
    cuts = []
    for _ in range(100):
        value, series = rng.standard_normal(), []
        for step in rng.standard_normal(500):
            value = 0.9 * value + 0.436 * step
            series.append(value)
        cuts.append(warm_up(series))
    assert sum(cut > 0 for cut, _ in cuts) <= 10
    assert sum(not settled for _, settled in cuts) <= 2


def served(rate: float, capacity: float, seconds: float = 60.0):
    """Requests of a Poisson process that one server ends one after the other."""
    free, out = 0.0, []
    rng = random.Random(1)
    for i, at in enumerate(OpenLoop.constant(rate, seconds).send_times(seed=2)):
        free = max(free, at) + rng.expovariate(capacity)
        out.append(record(at, free, [0.0], index=i))
    return out


def test_a_queue_that_grows_is_told():
    found = saturation(served(12.0, 10.0))
    assert found.oversaturated
    assert found.offered_req_s == pytest.approx(12, rel=0.1)
    assert found.completed_req_s == pytest.approx(10, rel=0.1)
    assert found.backlog_growth > 0.05


@pytest.mark.parametrize("rate", [2.0, 5.0, 8.0])
def test_a_queue_that_does_not_grow_is_not(rate):
    assert saturation(served(rate, 10.0)).oversaturated is False


def test_a_server_that_ends_nothing_more_is_over_saturated():
    records = served(8.0, 10.0)
    cut = [
        r if i < 100 else record(r.send_s, None, status=RequestStatus.TIMEOUT, end_s=None, index=i)
        for i, r in enumerate(records)
    ]
    assert saturation(cut).oversaturated


def test_a_closed_loop_cannot_be_over_saturated():
    run = closed_run(4, 100)
    assert saturation(run.records, 4).oversaturated is None


def test_a_rise_is_told_from_chance():
    assert rising_p(list(range(20))) < 1e-6
    assert rising_p(list(range(20, 0, -1))) > 0.999
    assert rising_p([3.0] * 20) == 1.0
    assert 0.05 < rising_p([random.Random(1).random() for _ in range(20)]) <= 1
