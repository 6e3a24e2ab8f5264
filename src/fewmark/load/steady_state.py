"""Which part of a run is steady, and whether there is any.

The window is found in two published steps.

1. Load reached. Closed loop: from the first to the last moment at which at least 90% of the streams have a request in
   flight (the rule of SGLang's and vLLM's steady-state fields), and, as streams begin at once, not before as many
   requests have ended as there are streams. Open loop: from the first end of a request to the last planned send.
2. Warm-up over. Geweke's diagnostic (Bayesian Statistics 4, 1992) on TTFT and on e2e latency, in the order in which
   they came about: twentieths are dropped from the front while the mean of the first tenth of the rest differs from
   that of its last half by more than 1% and by more than chance (1%, with the variance of batch means beside a straight
   line), but no more than half of all; the later cut of the two holds. Where they still differ, it has not settled.
   (MSER-5 was tried: on latencies that hang together over many requests it drops up to half of a steady run.)

What counts is what *came about* inside the window: a TTFT with its first token, all else of a request with its last. So
long and short requests are held alike, where a window of whole requests would prefer short ones, and none counts that
ended when the load was gone.

Over-saturation (open loop): requests come faster than the server ends them, so that waiting grows with the length of
the run and no number describes the server. It is said where, between the first end and the last planned send, more than
5% of the requests that came were not ended by as many others, and the number in flight rises over 20 parts of that time
(Mann-Kendall, one-sided, 1%).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Final

from fewmark.load.batch_means import batch_sums, student_t_quantile, variance_of_sum
from fewmark.load.estimates import MIN_BATCHES
from fewmark.load.records import FINISHED, RequestRecord

IN_FLIGHT_SHARE: Final = 0.9
MIN_FOR_WARM_UP: Final = 40
MIN_BACKLOG_GROWTH: Final = 0.05  # of the requests that came
MIN_BACKLOG: Final = 5  # requests: fewer are chance
TREND_P: Final = 0.01
MIN_CHANGE: Final = 0.01  # of a mean: less is not worth losing requests for
N_PARTS: Final = 20
MAX_CUT_STEPS: Final = N_PARTS // 2


@dataclass(frozen=True, slots=True)
class SteadyWindow:
    """The steady part of a run.

    Parameters
    ----------
    start_s, end_s : float
        Seconds of the records' clock.
    n_before, n_inside, n_after : int
        Requests that ended before, in and after it.
    settled : bool
        Whether the warm-up ended within the first half.
    """

    start_s: float
    end_s: float
    n_before: int
    n_inside: int
    n_after: int
    settled: bool

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return self.end_s - self.start_s

    def edges(self, parts: int) -> list[float]:
        """The ends of so many parts of equal length."""
        return [self.start_s + self.duration_s * j / parts for j in range(parts + 1)]

    def holds(self, at_s: float | None) -> bool:
        """Whether a moment lies inside."""
        return at_s is not None and self.start_s < at_s <= self.end_s


@dataclass(frozen=True, slots=True)
class Saturation:
    """Whether an open loop's requests came faster than they were ended.

    Parameters
    ----------
    oversaturated : bool or None
        None where it cannot be told (a closed loop, too few requests).
    offered_req_s, completed_req_s : float or None
    backlog_growth : float or None
        Requests that came and were not ended by as many others, as a share of those that came.
    trend_p : float or None
        One-sided probability of so steady a rise by chance.
    """

    oversaturated: bool | None
    offered_req_s: float | None = None
    completed_req_s: float | None = None
    backlog_growth: float | None = None
    trend_p: float | None = None


def ended_at(record: RequestRecord) -> float | None:
    """When the last token came, or without tokens the end of the answer; None while it had not."""
    return record.last_token_s if record.last_token_s is not None else record.end_s


def requests_by_part(records: Sequence[RequestRecord], edges: Sequence[float]) -> list[float]:
    """How many requests were served between successive edges, each spread evenly over the time that it took.

    Counted by their ends, a few streams in step end together: one wave more or less in the window changes the rate.
    """
    starts, ends = edges[:-1], edges[1:]
    served = [0.0] * len(starts)
    for record in records:
        end = ended_at(record)
        if end is None or record.send_s is None:
            continue
        took_s = max(end - record.send_s, 1e-9)
        begun = end - took_s
        first = max(bisect.bisect_right(edges, begun) - 1, 0)
        for j in range(first, len(starts)):
            if starts[j] >= end:
                break
            served[j] += max(min(end, ends[j]) - max(begun, starts[j]), 0.0) / took_s
    return served


def steady_window(
    records: Sequence[RequestRecord], concurrency: int | None = None, stopped_s: float | None = None
) -> SteadyWindow | None:
    """The steady part of a run.

    Parameters
    ----------
    records : sequence of RequestRecord
        All of them, failures included, in any order.
    concurrency : int or None
        Streams of a closed loop; None for an open loop.
    stopped_s : float, optional
        When the run ended: requests without an end were in flight until then.

    Returns
    -------
    SteadyWindow or None
        None where the load was never reached or nothing ended.
    """
    sent = [record for record in records if record.send_s is not None]
    ends = sorted(end for record in sent if (end := ended_at(record)) is not None)
    if not ends:
        return None
    bounds = _closed_bounds(sent, ends, concurrency, stopped_s) if concurrency else _open_bounds(sent, ends)
    if bounds is None or bounds[1] <= bounds[0]:
        return None
    start, end = bounds
    begin, settled = start, True
    for series in (_first_tokens(sent), _last_tokens(sent)):
        inside = [(at, value) for at, value in series if start < at <= end]
        dropped, found = warm_up([value for _, value in inside])
        if dropped:
            begin = max(begin, inside[dropped - 1][0])
        settled = settled and found
    before, after = bisect.bisect_right(ends, begin), len(ends) - bisect.bisect_right(ends, end)
    n_inside = len(ends) - before - after
    return SteadyWindow(begin, end, before, n_inside, after, settled) if n_inside else None


def warm_up(values: Sequence[float]) -> tuple[int, bool]:
    """How many observations are dropped from the front as warm-up, and whether the rest is steady.

    Too few to tell (less than 40) are taken as they are.
    """
    n = len(values)
    if n < MIN_FOR_WARM_UP:
        return 0, True
    for step in range(MAX_CUT_STEPS + 1):
        cut = n * step // N_PARTS
        if not _differs_at_start(values[cut:]):
            return cut, True
    return n * MAX_CUT_STEPS // N_PARTS, False


def _differs_at_start(values: Sequence[float]) -> bool:
    """Whether the mean of the first tenth differs from that of the last half by more than chance."""
    n = len(values)
    first, last = values[: n // 10], values[n - n // 2 :]
    mean = math.fsum(last) / len(last)
    batches = batch_sums(_detrended(last), MIN_BATCHES)
    variance, degrees = variance_of_sum(batches)
    per_value = variance / len(last)
    error = math.sqrt(per_value * (1 / len(first) + 1 / len(last)))
    difference = abs(math.fsum(first) / len(first) - mean)
    return difference > max(student_t_quantile(1 - TREND_P / 2, degrees) * error, MIN_CHANGE * abs(mean))


def _detrended(values: Sequence[float]) -> list[float]:
    """What is left beside a straight line: a trend must not pass for chance."""
    n = len(values)
    middle, mean = (n - 1) / 2, math.fsum(values) / n
    slope = math.fsum((i - middle) * value for i, value in enumerate(values)) / (n * (n * n - 1) / 12)
    return [value - mean - slope * (i - middle) for i, value in enumerate(values)]


def saturation(records: Sequence[RequestRecord], concurrency: int | None = None) -> Saturation:
    """Whether an open loop was over-saturated."""
    sent = [record for record in records if record.send_s is not None]
    arrivals = sorted(_arrival(record) for record in sent)
    ends = sorted(end for record in sent if (end := ended_at(record)) is not None)
    if concurrency or not ends or len(arrivals) < N_PARTS or arrivals[-1] <= ends[0]:
        return Saturation(None)
    start, end = ends[0], arrivals[-1]
    came = bisect.bisect_right(arrivals, end) - bisect.bisect_right(arrivals, start)
    ended = bisect.bisect_right(ends, end) - bisect.bisect_right(ends, start)
    if came == 0:
        return Saturation(None)
    duration = end - start
    waiting = [
        bisect.bisect_right(arrivals, at) - bisect.bisect_right(ends, at)
        for at in (start + duration * (j + 0.5) / N_PARTS for j in range(N_PARTS))
    ]
    growth = (came - ended) / came
    p = rising_p(waiting)
    grows = growth > MIN_BACKLOG_GROWTH and came - ended >= MIN_BACKLOG and p < TREND_P
    return Saturation(grows, came / duration, ended / duration, growth, p)


def rising_p(values: Sequence[float]) -> float:
    """One-sided p-value of Mann and Kendall's test for a rise, ties allowed for, by its normal approximation."""
    n = len(values)
    score = sum((values[j] > values[i]) - (values[j] < values[i]) for i in range(n) for j in range(i + 1, n))
    ties: dict[float, int] = {}
    for value in values:
        ties[value] = ties.get(value, 0) + 1
    variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties.values())) / 18
    if variance <= 0:
        return 1.0
    corrected = score - math.copysign(1, score) if score else 0
    return 1 - NormalDist().cdf(corrected / math.sqrt(variance))


def _closed_bounds(
    sent: Sequence[RequestRecord], ends: Sequence[float], concurrency: int, stopped_s: float | None
) -> tuple[float, float] | None:
    if len(ends) <= concurrency:
        return None
    enough = math.ceil(IN_FLIGHT_SHARE * concurrency)
    last = stopped_s if stopped_s is not None else ends[-1]
    changes = []
    for record in sent:
        end = ended_at(record)
        changes += [(_sent_at(record), 1), (last if end is None else end, -1)]
    changes.sort()
    in_flight = 0
    first_reached = last_reached = None
    for (at, change), (following, _) in pairwise([*changes, (changes[-1][0], 0)]):
        in_flight += change
        if in_flight >= enough and following > at:
            first_reached = at if first_reached is None else first_reached
            last_reached = following
    if first_reached is None or last_reached is None:
        return None
    return max(first_reached, ends[concurrency - 1]), last_reached


def _open_bounds(sent: Sequence[RequestRecord], ends: Sequence[float]) -> tuple[float, float]:
    return ends[0], max(_arrival(record) for record in sent)


def _arrival(record: RequestRecord) -> float:
    """When a request was to be sent; where no time was planned, when it was."""
    return record.planned_send_s if record.planned_send_s is not None else _sent_at(record)


def _sent_at(record: RequestRecord) -> float:
    assert record.send_s is not None
    return record.send_s


def _first_tokens(sent: Sequence[RequestRecord]) -> list[tuple[float, float]]:
    """When first tokens came, and the TTFT of each."""
    return sorted((r.first_chunk_s, r.first_chunk_s - _sent_at(r)) for r in sent if r.first_chunk_s is not None)


def _last_tokens(sent: Sequence[RequestRecord]) -> list[tuple[float, float]]:
    """When requests that were answered ended, and the e2e latency of each."""
    answered = [record for record in sent if record.status in FINISHED]
    return sorted((end, end - _sent_at(r)) for r in answered if (end := ended_at(r)) is not None)
