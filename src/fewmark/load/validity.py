"""Whether a run's numbers may be believed: reasons with their thresholds, and what to do next for each.

An invalid run is data and is kept; it is not learned from, and is measured again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fewmark.load.records import FINISHED, LoadResult, RequestRecord, RequestStatus
from fewmark.load.statistics import RunStatistics

MAX_SAID: Final = 200  # letters of an error that are quoted


class Action(StrEnum):
    """What to do about a reason."""

    MORE_WORKERS = "more workers"
    LONGER = "longer"
    REPEAT = "repeat"
    LOWER_LOAD = "lower load"
    CHECK_REQUESTS = "check the requests"
    CHECK_SERVER = "check the server"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a run may have at most (or, where said, at least) to be valid.

    Parameters
    ----------
    worker_cpu_share, worker_cpu_share_user_stamps : float
        CPU time of the busiest worker over the run's time, with receive times of the kernel and without.
    lateness_s, lateness_share : float
        The 99th percentile of how late requests were sent: the larger of a time and a share of the mean TTFT (of the
        mean e2e latency where nothing was streamed).
    idle_share : float
        Closed loop: the share of the time that a stream had nothing in flight, think times apart.
    failed_share, short_share, mismatch_share : float
        Of requests: failed; with fewer tokens than asked; with another number of prompt tokens than asked.
    unfinished_share : float
        Of an open loop's requests: without an end when the run was stopped.
    min_requests : int
        At least so many in the steady window.
    min_turns : float
        At least so many mean e2e latencies in the steady window.
    clock_step_s : float
        Of the real-time clock.
    coalesced_share : float
        Of chunks whose own time is not known, as they came in one read with a later one. A warning.
    """

    worker_cpu_share: float = 0.9
    worker_cpu_share_user_stamps: float = 0.7
    lateness_s: float = 0.010
    lateness_share: float = 0.05
    idle_share: float = 0.02
    failed_share: float = 0.01
    short_share: float = 0.01
    mismatch_share: float = 0.01
    unfinished_share: float = 0.05
    min_requests: int = 40
    min_turns: float = 3.0
    clock_step_s: float = 0.001
    coalesced_share: float = 0.1


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a run is not valid, or what to know about it.

    Parameters
    ----------
    code : str
    message : str
        With the number that was found and its threshold.
    action : Action
    is_fatal : bool
        Whether it makes the run invalid; otherwise a warning.
    value, threshold : float or None
    """

    code: str
    message: str
    action: Action
    is_fatal: bool = True
    value: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Valid or not, and why."""

    reasons: tuple[Reason, ...] = ()

    @property
    def is_valid(self) -> bool:
        """Whether no reason is fatal."""
        return not any(reason.is_fatal for reason in self.reasons)

    @property
    def actions(self) -> tuple[Action, ...]:
        """What to do next, each once, for the fatal reasons."""
        return tuple(dict.fromkeys(reason.action for reason in self.reasons if reason.is_fatal))

    def __str__(self) -> str:
        word = "valid" if self.is_valid else "invalid"
        return "; ".join([word, *(f"{reason.message} → {reason.action}" for reason in self.reasons)])


def judge(
    result: LoadResult,
    statistics: RunStatistics,
    concurrency: int | None = None,
    thresholds: Thresholds | None = None,
    thinks: bool = False,
) -> Verdict:
    """The verdict on a run.

    Parameters
    ----------
    result : LoadResult
    statistics : RunStatistics
        Of the same run.
    concurrency : int or None
        Streams of a closed loop; None for an open loop.
    thresholds : Thresholds, optional
    thinks : bool
        Whether conversations pause by plan, so that idle streams are meant.
    """
    limits = thresholds or Thresholds()
    return Verdict(
        (
            *_requests(result, statistics, limits, concurrency),  # first: failures keep a client from its work
            *_client(result, statistics, limits, concurrency, thinks),
            *_steadiness(statistics, limits),
        )
    )


def _client(
    result: LoadResult, statistics: RunStatistics, limits: Thresholds, concurrency: int | None, thinks: bool
) -> Iterator[Reason]:
    received = [
        record for record in result.records if record.first_byte_s is not None or record.first_chunk_s is not None
    ]
    kernel = bool(received) and all(record.kernel_stamps for record in received)
    limit = limits.worker_cpu_share if kernel else limits.worker_cpu_share_user_stamps
    busiest = max(
        (use.cpu_s / (use.ended_s - use.started_s) for use in result.workers if use.ended_s > use.started_s), default=0
    )
    if busiest > limit:
        message = f"a worker of the client used {busiest:.0%} of its CPU (at most {limit:.0%})"
        yield Reason("client_cpu", message, Action.MORE_WORKERS, True, busiest, limit)
    lateness = _percentile_99(result.lateness_s)
    first = statistics.estimates.get("ttft_s") or statistics.estimates.get("e2e_latency_s")
    allowed = max(limits.lateness_s, limits.lateness_share * (first.value if first and first.value else 0.0))
    if lateness is not None and lateness > allowed:
        message = f"requests were sent up to {lateness * 1e3:.1f} ms late (99%; at most {allowed * 1e3:.1f} ms)"
        yield Reason("lateness", message, Action.MORE_WORKERS, True, lateness, allowed)
    idle = statistics.idle_share
    if concurrency and not thinks and idle is not None and idle > limits.idle_share:
        message = f"streams were idle {idle:.1%} of the time between requests (at most {limits.idle_share:.0%})"
        yield Reason("idle_streams", message, Action.MORE_WORKERS, True, idle, limits.idle_share)
    step = max((abs(step.step_s) for step in result.clock_steps), default=0.0)
    if step > limits.clock_step_s:
        message = f"the clock was set by {step * 1e3:.1f} ms during the run (at most {limits.clock_step_s * 1e3:g} ms)"
        yield Reason("clock_step", message, Action.REPEAT, True, step, limits.clock_step_s)
    chunks = sum(record.n_chunks for record in result.records)
    coalesced = sum(record.n_coalesced for record in result.records) / chunks if chunks else 0.0
    if coalesced > limits.coalesced_share:
        message = f"{coalesced:.0%} of the chunks came in one read with a later one: percentiles of gaps are coarse"
        yield Reason("coalesced", message, Action.MORE_WORKERS, False, coalesced, limits.coalesced_share)
    if received and not kernel:
        yield Reason(
            "user_stamps", "receive times are not the kernel's and include waiting", Action.MORE_WORKERS, False
        )


def _requests(
    result: LoadResult, statistics: RunStatistics, limits: Thresholds, concurrency: int | None
) -> Iterator[Reason]:
    counts = statistics.counts
    ended = counts.ok + counts.short + counts.failed
    if ended and (share := counts.failed / ended) > limits.failed_share:
        message = f"{counts.failed} of {ended} requests failed (at most {limits.failed_share:.0%}){_most_often(result)}"
        yield Reason("failed_requests", message, Action.CHECK_SERVER, True, share, limits.failed_share)
    left, sent = counts.unfinished, ended + counts.unfinished
    if concurrency is None and sent and (share := left / sent) > limits.unfinished_share:
        message = (
            f"{left} of {sent} requests had no end when the run was stopped (at most {limits.unfinished_share:.0%})"
        )
        yield Reason("unfinished_requests", message, Action.LONGER, True, share, limits.unfinished_share)
    finished = [record for record in result.records if record.status in FINISHED]
    yield from _tokens(finished, limits)


def _most_often(result: LoadResult) -> str:
    """What most of the failed requests said."""
    said = [r.error for r in result.records if r.error and r.status is not RequestStatus.CANCELLED]
    return ": " + Counter(said).most_common(1)[0][0][:MAX_SAID].rstrip(": ") if said else ""


def _tokens(finished: Sequence[RequestRecord], limits: Thresholds) -> Iterator[Reason]:
    answers = [(r.completion_tokens, r.output_tokens_asked) for r in finished]
    known = [(got, asked) for got, asked in answers if got is not None and asked is not None]
    if finished and len([got for got, _ in answers if got is not None]) < len(finished):
        message = "the server's usage is missing: tokens cannot be counted"
        yield Reason("no_usage", message, Action.CHECK_SERVER, False)
    short = sum(got < asked for got, asked in known)
    if known and (share := short / len(known)) > limits.short_share:
        message = f"{short} of {len(known)} answers have fewer tokens than asked (at most {limits.short_share:.0%})"
        message += _why_short(finished)
        yield Reason("short_answers", message, Action.CHECK_REQUESTS, True, share, limits.short_share)
    long = sum(got > asked for got, asked in known)
    if known and (share := long / len(known)) > limits.mismatch_share:
        message = f"{long} of {len(known)} answers have more tokens than asked (at most {limits.mismatch_share:.0%})"
        yield Reason("long_answers", message, Action.CHECK_REQUESTS, True, share, limits.mismatch_share)
    prompts = [
        (r.prompt_tokens, r.input_tokens_asked)
        for r in finished
        if r.prompt_tokens is not None and r.input_tokens_asked is not None
    ]
    other = [got - asked for got, asked in prompts if got != asked]
    if prompts and (share := len(other) / len(prompts)) > limits.mismatch_share:
        mean = sum(other) / len(other)
        message = (
            f"{len(other)} of {len(prompts)} prompts have another length by usage than asked, {mean:+.1f} tokens on "
            f"average (at most {limits.mismatch_share:.0%})"
        )
        yield Reason("prompt_mismatch", message, Action.CHECK_REQUESTS, True, share, limits.mismatch_share)


def _why_short(finished: Sequence[RequestRecord]) -> str:
    """What the short answers' own finish reason means, where most of them have it in common."""
    reasons = [record.finish_reason for record in finished if record.status is RequestStatus.SHORT]
    if 2 * reasons.count("length") > len(reasons):
        return ": the server cut them to the room that it had left"
    return ": the server stopped at a token that ends answers" if 2 * reasons.count("stop") > len(reasons) else ""


def _steadiness(statistics: RunStatistics, limits: Thresholds) -> Iterator[Reason]:
    saturation, window = statistics.saturation, statistics.window
    if saturation.oversaturated:
        message = (
            f"over-saturated: {saturation.offered_req_s:.3g} requests/s came and {saturation.completed_req_s:.3g} were "
            f"ended, so waiting grows with the length of the run"
        )
        yield Reason("oversaturated", message, Action.LOWER_LOAD, True, saturation.backlog_growth)
    if window is None:
        yield Reason("no_steady_state", "the load was never steady", Action.LONGER)
        return
    if not window.settled:
        yield Reason("not_settled", "latency still changed in the second half of the run", Action.LONGER)
    if window.n_inside < limits.min_requests:
        message = f"{window.n_inside} requests ended in the steady window (at least {limits.min_requests})"
        yield Reason("too_few_requests", message, Action.LONGER, True, window.n_inside, limits.min_requests)
    e2e = statistics.estimates.get("e2e_latency_s")
    if e2e is not None and e2e.value:
        turns = window.duration_s / e2e.value
        if turns < limits.min_turns:
            message = f"the steady window is {turns:.1f} mean latencies long (at least {limits.min_turns:g})"
            yield Reason("short_window", message, Action.LONGER, True, turns, limits.min_turns)


def _percentile_99(values: Sequence[float]) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(math.ceil(0.99 * len(ordered)) - 1, 0)]
