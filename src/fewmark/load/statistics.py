"""What is said of a run: latencies, rates and shares over its steady window, each with an interval.

Latency is told twice: from the send (`ttft_s`, `e2e_latency_s`) and from the schedule (`ttft_from_schedule_s`,
`e2e_latency_from_schedule_s`), which adds what the client was late by and, in an open loop, is what a user would have
waited. Both end with the last token. Throughput counts the tokens of the server's usage, an answer's spread evenly over
the reads that brought them, so that of an answer that reaches over an end of the window only the part inside counts;
a request, and its prompt's tokens, are spread evenly over the time that it took.

Gaps are told per chunk (`chunk_gap_s`: between successive reads that brought tokens) and per token (`itl_s`). They are
the same only where each read brought one token. Otherwise the mean gap per token is the time from the first to the last
chunk over the tokens that came after the first chunk, its tokens being the mean of all chunks', and percentiles of
gaps per token are not known.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

from fewmark.load.estimates import (
    DEFAULT_LEVEL,
    N_BATCHES,
    Estimate,
    mean_estimate,
    percentile_estimates,
    ratio_estimate,
    runs_estimate,
)
from fewmark.load.goodput import Attainment, Tier, attainment
from fewmark.load.records import FINISHED, LoadResult, RequestRecord, RequestStatus
from fewmark.load.request_metrics import OF_FIRST_TOKEN, REQUEST_METRICS, output_tokens
from fewmark.load.steady_state import Saturation, SteadyWindow, ended_at, requests_by_part, saturation, steady_window

PERCENTS: Final = (50, 90, 95, 99)
BEGUN: Final = FINISHED | {RequestStatus.CANCELLED}  # whose first token counts, if it came
SINGLE_TOKEN_SHARE: Final = 0.99  # of gaps that are of one token each, for percentiles of gaps per token


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of the whole run by how they ended, and those that count.

    `unfinished` were in flight when the run was stopped, `unsent` not even sent.
    """

    ok: int
    short: int
    failed: int
    unfinished: int
    unsent: int
    in_window: int


@dataclass(frozen=True, slots=True)
class RunStatistics:
    """What one run says.

    Parameters
    ----------
    estimates : mapping of str to Estimate
        By metric; a metric without an interval or value says why in its note. Empty without a steady window.
    attainments : tuple of Attainment
        One for each tier of objectives.
    window : SteadyWindow or None
    saturation : Saturation
    counts : Counts
    idle_gap_s, idle_share : float or None
        Closed loop: mean time for which a stream had no request in flight between two, and its share of the streams'
        time. Think times of conversations are part of it.
    tokens_per_chunk : float or None
        Mean over the requests that count.
    """

    estimates: Mapping[str, Estimate]
    attainments: tuple[Attainment, ...]
    window: SteadyWindow | None
    saturation: Saturation
    counts: Counts
    idle_gap_s: float | None = None
    idle_share: float | None = None
    tokens_per_chunk: float | None = None


def run_statistics(
    result: LoadResult,
    concurrency: int | None = None,
    tiers: Sequence[Tier] = (),
    level: float = DEFAULT_LEVEL,
) -> RunStatistics:
    """The statistics of a run.

    Parameters
    ----------
    result : LoadResult
    concurrency : int or None
        Streams of a closed loop; None for an open loop.
    tiers : sequence of Tier
        Objectives that a request may meet.
    level : float
        Confidence level of all intervals.
    """
    records = result.records
    window = steady_window(records, concurrency, result.ended_s)
    counts = _counts(records, window)
    saturated = saturation(records, concurrency)
    if window is None:
        return RunStatistics({}, (), None, saturated, counts)
    ended = sorted((r for r in records if window.holds(ended_at(r))), key=lambda r: ended_at(r) or 0.0)
    finished = [record for record in ended if record.status in FINISHED]
    begun = [r for r in records if window.holds(r.first_chunk_s) and r.status in BEGUN]
    begun.sort(key=lambda r: r.first_chunk_s or 0.0)
    estimates = dict(_latency_estimates(begun, finished, level))
    estimates |= _gap_estimates(finished, level)
    estimates |= _rate_estimates(records, finished, window, level)
    idle_gap, idle_share = _idle(records, concurrency)
    return RunStatistics(
        estimates,
        tuple(attainment(records, tier, window, level) for tier in tiers),
        window,
        saturated,
        counts,
        idle_gap,
        idle_share,
        _tokens_per_chunk(finished),
    )


def combine_runs(runs: Sequence[RunStatistics], level: float = DEFAULT_LEVEL) -> dict[str, Estimate]:
    """Each metric over repeated runs of the same load, with an interval from the spread between runs.

    One run keeps its own intervals, which hold nothing of how runs differ.
    """
    if len(runs) == 1:
        return dict(runs[0].estimates)
    names = dict.fromkeys(name for run in runs for name in run.estimates)
    out = {}
    for name in names:
        found = [run.estimates.get(name) for run in runs]
        values = [e.value for e in found if e is not None and e.value is not None]
        if len(values) == len(runs):
            out[name] = runs_estimate(values, level)
            continue
        lows = [e.low for e in found if e is not None and e.low is not None]
        note = f"known in {len(values)} of {len(runs)} runs; the bound is the least of theirs"
        out[name] = Estimate(None, min(lows) if lows else None, None, level, len(values), None, note)
    return out


def _latency_estimates(
    begun: Sequence[RequestRecord], finished: Sequence[RequestRecord], level: float
) -> Iterator[tuple[str, Estimate]]:
    for name, of in REQUEST_METRICS.items():
        values = _known(begun if name in OF_FIRST_TOKEN else finished, of)
        if not values:
            continue
        yield name, mean_estimate(values, level)
        yield from zip(_percentile_names(name), percentile_estimates(values, PERCENTS, level), strict=True)


def percentile_name(metric: str, percent: int) -> str:
    """``ttft_s`` and 99 make ``ttft_p99_s``."""
    return f"{metric.removesuffix('_s')}_p{percent}_s"


def _percentile_names(metric: str) -> list[str]:
    return [percentile_name(metric, percent) for percent in PERCENTS]


def _gap_estimates(finished: Sequence[RequestRecord], level: float) -> dict[str, Estimate]:
    streamed = [r for r in finished if len(r.chunk_gaps_s)]
    if not streamed:
        return {}
    gaps = [gap for record in streamed for gap in record.chunk_gaps_s]
    sizes = [len(record.chunk_gaps_s) for record in streamed]
    out = {"chunk_gap_s": ratio_estimate([math.fsum(r.chunk_gaps_s) for r in streamed], sizes, level)}
    of_chunks = percentile_estimates(gaps, PERCENTS, level, sizes)
    out |= zip(_percentile_names("chunk_gap_s"), of_chunks, strict=True)
    counted = [(r, n) for r in streamed if (n := output_tokens(r)) is not None and n > 1 and r.n_chunks]
    spans = [(_span(r), n - n / r.n_chunks) for r, n in counted]
    out["itl_s"] = ratio_estimate([span for span, _ in spans], [tokens for _, tokens in spans], level)
    n_tokens = sum(n - 1 for _, n in counted)
    single = sum(len(r.chunk_gaps_s) for r, n in counted if r.n_chunks == n) / n_tokens if n_tokens else 0.0
    if single < SINGLE_TOKEN_SHARE:
        note = f"gaps per token are not known: only {single:.0%} of the tokens came alone in a read; see chunk_gap"
        of_chunks = [Estimate(None, confidence_level=level, n=len(gaps), note=note)] * len(PERCENTS)
    return out | dict(zip(_percentile_names("itl_s"), of_chunks, strict=True))


def _span(record: RequestRecord) -> float:
    if record.first_chunk_s is None or record.last_token_s is None:
        return 0.0
    return record.last_token_s - record.first_chunk_s


def _rate_estimates(
    records: Sequence[RequestRecord], finished: Sequence[RequestRecord], window: SteadyWindow, level: float
) -> dict[str, Estimate]:
    """Rates by parts of the window of equal length."""
    edges = window.edges(N_BATCHES)
    widths = [window.duration_s / N_BATCHES] * N_BATCHES
    served = [record for record in records if record.status in FINISHED]
    out = {"request_throughput_req_s": ratio_estimate(requests_by_part(served, edges), widths, level)}
    answered = [record for record in records if output_tokens(record) is not None]
    if len(answered) < len(served):
        note = "the server's usage is missing in some answers"
        return out | {"throughput_tok_s": Estimate(None, confidence_level=level, n=len(finished), note=note)}
    produced = [0.0] * N_BATCHES
    processed = [0.0] * N_BATCHES
    for record in answered:
        for j, tokens in enumerate(tokens_by_part(record, edges)):
            produced[j] += tokens
        if record.prompt_tokens:
            for j, share in enumerate(requests_by_part([record], edges)):
                processed[j] += share * record.prompt_tokens
    out["throughput_tok_s"] = ratio_estimate(produced, widths, level)
    if any(processed):
        both = [a + b for a, b in zip(produced, processed, strict=True)]
        out["total_throughput_tok_s"] = ratio_estimate(both, widths, level)
    return out


def tokens_by_part(record: RequestRecord, edges: Sequence[float]) -> list[float]:
    """How many of an answer's tokens came between successive edges, each read bringing as many as the others.

    An answer that was not streamed came at its end.
    """
    tokens = output_tokens(record) or 0
    first = record.first_chunk_s
    if first is None or not tokens:
        end = record.end_s
        return [float(tokens) if end is not None and a < end <= b else 0.0 for a, b in pairwise(edges)]
    times = list(accumulate(record.chunk_gaps_s, initial=first))
    each = tokens / len(times)
    if times[-1] <= edges[0] or times[0] > edges[-1]:
        return [0.0] * (len(edges) - 1)
    places = [bisect.bisect_right(times, edge) for edge in edges]
    return [(b - a) * each for a, b in pairwise(places)]


def _known(records: Sequence[RequestRecord], of: Callable[[RequestRecord], float | None]) -> list[float]:
    return [value for record in records if (value := of(record)) is not None]


def _tokens_per_chunk(finished: Sequence[RequestRecord]) -> float | None:
    pairs = [(n, r.n_chunks) for r in finished if r.n_chunks and (n := output_tokens(r)) is not None]
    return sum(n for n, _ in pairs) / sum(chunks for _, chunks in pairs) if pairs else None


def _idle(records: Sequence[RequestRecord], concurrency: int | None) -> tuple[float | None, float | None]:
    if not concurrency:
        return None, None
    by_stream: dict[int, list[RequestRecord]] = {}
    for record in records:
        if record.send_s is not None:
            by_stream.setdefault(record.stream, []).append(record)
    gaps: list[float] = []
    lasted = 0.0
    for sent in by_stream.values():
        sent.sort(key=lambda record: record.send_s or 0.0)
        ends = [record.end_s for record in sent]
        for (earlier, later), end in zip(pairwise(sent), ends, strict=False):
            if end is not None and later.send_s is not None and earlier.send_s is not None:
                gaps.append(max(later.send_s - end, 0.0))
                lasted += later.send_s - earlier.send_s
    if not gaps or lasted <= 0:
        return None, None
    return math.fsum(gaps) / len(gaps), math.fsum(gaps) / lasted


def _counts(records: Sequence[RequestRecord], window: SteadyWindow | None) -> Counts:
    by_status = [record.status for record in records]
    ok, short = by_status.count(RequestStatus.OK), by_status.count(RequestStatus.SHORT)
    cancelled = [record for record in records if record.status is RequestStatus.CANCELLED]
    unfinished = sum(record.send_s is not None for record in cancelled)
    return Counts(
        ok=ok,
        short=short,
        failed=len(records) - ok - short - len(cancelled),
        unfinished=unfinished,
        unsent=len(cancelled) - unfinished,
        in_window=0 if window is None else sum(window.holds(ended_at(record)) for record in records),
    )
