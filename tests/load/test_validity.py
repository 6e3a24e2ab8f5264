"""Each reason by itself, in a run that is otherwise beyond doubt."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fewmark.load.arrivals import OpenLoop
from fewmark.load.records import ClockStep, LoadResult, RequestStatus, WorkerUse
from fewmark.load.statistics import run_statistics
from fewmark.load.validity import Action, Thresholds, Verdict, judge

from .made import closed_run, record

GOOD = closed_run(4, 400)


def changed(change, run: LoadResult = GOOD) -> LoadResult:
    return replace(run, records=tuple(change(i, r) for i, r in enumerate(run.records)))


def verdict(run: LoadResult, concurrency: int | None = 4, **options) -> Verdict:
    return judge(run, run_statistics(run, concurrency), concurrency, **options)


def codes(found: Verdict) -> set[str]:
    return {reason.code for reason in found.reasons}


def worker(cpu_s: float) -> WorkerUse:
    return WorkerUse(0, 0.0, 10.0, cpu_s, 100, 0.001)


def test_a_good_run_is_valid():
    found = verdict(replace(GOOD, workers=(worker(3.0),), clock_steps=(ClockStep(1.0, 0.0001),)))
    assert found.is_valid
    assert found.reasons == ()
    assert str(found) == "valid"


@pytest.mark.parametrize(
    ("run", "code", "action"),
    [
        (replace(GOOD, workers=(worker(3.0), worker(9.5))), "client_cpu", Action.MORE_WORKERS),
        (changed(lambda i, r: replace(r, planned_send_s=r.send_s - 0.05)), "lateness", Action.MORE_WORKERS),
        (replace(GOOD, clock_steps=(ClockStep(5.0, -0.02),)), "clock_step", Action.REPEAT),
        (closed_run(4, 400, idle=0.05), "idle_streams", Action.MORE_WORKERS),
        (
            changed(lambda i, r: replace(r, status=RequestStatus.HTTP_ERROR) if i % 20 == 0 else r),
            "failed_requests",
            Action.CHECK_SERVER,
        ),
        (
            changed(lambda i, r: replace(r, status=RequestStatus.SHORT, output_tokens_asked=40) if i % 20 == 0 else r),
            "short_answers",
            Action.CHECK_REQUESTS,
        ),
        (changed(lambda i, r: replace(r, output_tokens_asked=5)), "long_answers", Action.CHECK_REQUESTS),
        (changed(lambda i, r: replace(r, prompt_tokens=109)), "prompt_mismatch", Action.CHECK_REQUESTS),
        (closed_run(4, 30), "too_few_requests", Action.LONGER),
        (closed_run(4, 4), "no_steady_state", Action.LONGER),
        (closed_run(60, 125), "short_window", Action.LONGER),
    ],
)
def test_each_fault_makes_a_run_invalid_and_says_what_to_do(run, code, action):
    concurrency = 60 if code == "short_window" else 4
    found = verdict(run, concurrency)
    assert not found.is_valid
    assert code in codes(found)
    assert action in found.actions
    reason = next(r for r in found.reasons if r.code == code)
    assert reason.message in str(found)


def test_a_client_without_kernel_stamps_has_less_cpu_to_spare():
    busy = replace(GOOD, workers=(worker(8.0),))
    assert verdict(busy).is_valid
    user = changed(lambda i, r: replace(r, kernel_stamps=False), busy)
    assert codes(verdict(user)) == {"client_cpu", "user_stamps"}


def test_coalesced_chunks_and_missing_usage_are_warnings():
    found = verdict(changed(lambda i, r: replace(r, n_coalesced=3, completion_tokens=None)))
    assert found.is_valid
    assert codes(found) == {"coalesced", "no_usage"}
    assert found.actions == ()


def test_think_times_are_no_idle_streams():
    run = closed_run(4, 400, idle=0.05)
    assert verdict(run, thinks=True).is_valid


def test_an_open_loop_that_is_too_fast_is_invalid():
    free, records = 0.0, []
    rng = random.Random(1)
    for i, at in enumerate(OpenLoop.constant(12.0, 60.0).send_times(seed=2)):
        free = max(free, at) + rng.expovariate(10.0)
        records.append(record(at, free, [0.0], index=i))
    found = verdict(LoadResult(tuple(records), 0.0, 80.0), None)
    assert "oversaturated" in codes(found)
    assert Action.LOWER_LOAD in found.actions


def test_an_open_loops_requests_without_an_end_are_told():
    run = changed(
        lambda i, r: replace(r, status=RequestStatus.CANCELLED, end_s=None, last_token_s=None) if i >= 360 else r
    )
    assert "unfinished_requests" in codes(verdict(run, None))
    assert "unfinished_requests" not in codes(verdict(run, 40))


def test_latency_that_never_settles_is_told():
    records = [record(i * 0.1, i * 0.1 + 0.1 + i * 0.002, [0.02] * 10, index=i) for i in range(400)]
    assert "not_settled" in codes(verdict(LoadResult(tuple(records), 0.0, 60.0), None))


def test_thresholds_can_be_ones_own():
    run = replace(GOOD, workers=(worker(5.0),))
    assert not verdict(run, thresholds=Thresholds(worker_cpu_share=0.4)).is_valid
