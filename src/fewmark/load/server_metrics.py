"""The server's own counters before and after a load, beside what the client saw.

Read from the text that Prometheus scrapes. Names are matched whole: Python's client library writes a gauge
``NAME_created`` with an epoch time beside each counter, and names that begin alike are other metrics. Counters are
summed over their labels. They count the whole run and everybody's requests, so the client's numbers here are of all its
finished requests too, not of the steady window.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fewmark.core.errors import FormatError
from fewmark.load.records import FINISHED, LoadResult, RequestRecord
from fewmark.load.request_metrics import REQUEST_METRICS

MAX_CHARS: Final = 32_000_000
TOKEN_TOLERANCE: Final = 0.005
TIME_TOLERANCE: Final = 0.05
TTFT_TOLERANCE: Final = 0.15  # the client's holds HTTP, tokenising and the way as well

_SAMPLE: Final = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?:[^\"}]|\"(?:\\.|[^\"\\])*\")*\})?\s+(\S+)(?:\s+-?\d+(?:\.\d+)?)?\s*(?:#.*)?$"
)

Samples = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class KnownServer:
    """Where a server keeps what: names that are tried in turn; of a histogram, without ``_sum`` and ``_count``."""

    ttft: tuple[str, ...] = ()
    tpot: tuple[str, ...] = ()
    itl: tuple[str, ...] = ()
    e2e: tuple[str, ...] = ()
    queue: tuple[str, ...] = ()
    output_tokens: tuple[str, ...] = ()
    input_tokens: tuple[str, ...] = ()
    cached_tokens: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    preemptions: tuple[str, ...] = ()
    decode_seconds: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    input_excludes_cached: bool = False


SERVERS: Final[Mapping[str, KnownServer]] = {
    "vllm": KnownServer(
        ttft=("vllm:time_to_first_token_seconds",),
        tpot=("vllm:request_time_per_output_token_seconds",),
        itl=("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
        e2e=("vllm:e2e_request_latency_seconds",),
        queue=("vllm:request_queue_time_seconds",),
        output_tokens=("vllm:generation_tokens_total",),
        input_tokens=("vllm:prompt_tokens_total",),
        cached_tokens=("vllm:prefix_cache_hits_total", "vllm:prompt_tokens_cached_total"),
        requests=("vllm:request_success_total",),
        preemptions=("vllm:num_preemptions_total",),
        running=("vllm:num_requests_running",),
        waiting=("vllm:num_requests_waiting",),
    ),
    "sglang": KnownServer(
        ttft=("sglang:time_to_first_token_seconds", "sglang_time_to_first_token_seconds"),
        itl=("sglang:inter_token_latency_seconds", "sglang_inter_token_latency_seconds"),
        e2e=("sglang:e2e_request_latency_seconds", "sglang_e2e_request_latency_seconds"),
        queue=("sglang:queue_time_seconds", "sglang_queue_time_seconds"),
        output_tokens=("sglang:generation_tokens_total", "sglang_generation_tokens_total"),
        input_tokens=("sglang:prompt_tokens_total", "sglang_prompt_tokens_total"),
        cached_tokens=("sglang:cached_tokens_total", "sglang_cached_tokens_total"),
        requests=("sglang:num_requests_total", "sglang_num_requests_total"),
        preemptions=("sglang:num_retracted_requests_total", "sglang_num_retracted_requests_total"),
        running=("sglang:num_running_reqs", "sglang_num_running_reqs"),
        waiting=("sglang:num_queue_reqs", "sglang_num_queue_reqs"),
    ),
    "llama-server": KnownServer(
        output_tokens=("llamacpp:tokens_predicted_total",),
        input_tokens=("llamacpp:prompt_tokens_total",),
        cached_tokens=("llamacpp:prompt_tokens_cached_total",),
        decode_seconds=("llamacpp:tokens_predicted_seconds_total",),
        running=("llamacpp:requests_processing",),
        waiting=("llamacpp:requests_deferred",),
        input_excludes_cached=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One number from both sides.

    Parameters
    ----------
    metric : str
    client, server : float or None
    difference : float or None
        (client − server) / server.
    flagged : bool
        Whether it is more than the tolerance.
    note : str
        What a flag may mean.
    """

    metric: str
    client: float | None
    server: float | None
    difference: float | None = None
    flagged: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class ServerReport:
    """What a server counted during a load, beside the client; `server` None where it is none that is known."""

    server: str | None
    comparisons: tuple[Comparison, ...] = ()
    queue_s: float | None = None
    cached_tokens: float | None = None
    preemptions: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def flagged(self) -> tuple[Comparison, ...]:
        """The comparisons that differ by more than their tolerance."""
        return tuple(comparison for comparison in self.comparisons if comparison.flagged)


def parse_exposition(text: str) -> dict[str, float]:
    """Each sample's full name and its value summed over labels; buckets are left out, as is what is not finite.

    Raises `FormatError` if the text is too long or holds no sample at all.
    """
    if len(text) > MAX_CHARS:
        raise FormatError(f"metrics have at most {MAX_CHARS} characters", got=len(text))
    totals: dict[str, float] = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.match(line)
        if match is None or match[1].endswith("_bucket"):
            continue
        try:
            value = float(match[2])
        except ValueError:
            continue
        if math.isfinite(value):
            totals[match[1]] = totals.get(match[1], 0.0) + value
    if not totals:
        raise FormatError("not the text that Prometheus scrapes", got=text[:80])
    return totals


def compare_with_server(
    before: Samples, after: Samples, result: LoadResult, shared_prefixes: bool = False
) -> ServerReport:
    """What the server counted between two readings, beside what the client saw.

    Parameters
    ----------
    before, after : mapping of str to float
        As read by `parse_exposition`.
    result : LoadResult
    shared_prefixes : bool
        Whether the load means to find prefixes in the server's cache; otherwise such finds are told.
    """
    name = _server_of(after)
    if name is None:
        return ServerReport(None, notes=("the metrics are of no server that is known",))
    known = SERVERS[name]
    notes: list[str] = []

    def counted(names: Sequence[str]) -> float | None:
        found = next((n for n in names if n in after), None)
        if found is None:
            return None
        difference = after[found] - before.get(found, 0.0)
        if difference < 0:
            notes.append(f"{found} fell: the server was started anew in between")
            return None
        return difference

    def mean(names: Sequence[str]) -> float | None:
        total = counted([f"{n}_sum" for n in names])
        count = counted([f"{n}_count" for n in names])
        return total / count if total is not None and count else None

    records = result.records
    cached = counted(known.cached_tokens)
    input_tokens = counted(known.input_tokens)
    if known.input_excludes_cached and input_tokens is not None:
        input_tokens += cached or 0.0
    output_tokens = counted(known.output_tokens)
    decode_seconds = counted(known.decode_seconds)
    itl = mean(known.itl)
    finished = _finished(records)
    if itl is None and decode_seconds and output_tokens and output_tokens > finished:
        itl = decode_seconds / (output_tokens - finished)  # the clock starts at each answer's first token
    comparisons = [
        _compare("requests", finished, counted(known.requests), 0.0, "others use the server, or answers were lost"),
        _compare(
            "output_tokens", _sum(records, lambda r: r.completion_tokens), output_tokens, TOKEN_TOLERANCE, _TOKENS
        ),
        _compare("input_tokens", _sum(records, lambda r: r.prompt_tokens), input_tokens, TOKEN_TOLERANCE, _TOKENS),
        _compare("ttft_s", _mean(records, "ttft_s"), mean(known.ttft), TTFT_TOLERANCE, _TTFT),
        _compare("tpot_s", _mean(records, "tpot_s"), mean(known.tpot), TIME_TOLERANCE, _GAPS),
        _compare("itl_s", _mean_gap(records), itl, TIME_TOLERANCE, _GAPS),
        _compare("e2e_latency_s", _mean(records, "e2e_latency_s"), mean(known.e2e), TTFT_TOLERANCE, _TTFT),
    ]
    preemptions = counted(known.preemptions)
    if cached and not shared_prefixes:
        notes.append(f"{cached:g} prompt tokens came from the prefix cache, though prompts were meant to be fresh")
    if preemptions:
        notes.append(f"{preemptions:g} requests lost their place for want of cache room and were computed again")
    kept = tuple(c for c in comparisons if c.client is not None and c.server is not None)
    return ServerReport(name, kept, mean(known.queue), cached, preemptions, tuple(dict.fromkeys(notes)))


_TOKENS: Final = "others use the server, or tokens of cut requests"
_TTFT: Final = "delay outside the server's own clock: client, network, tokenising, HTTP"
_GAPS: Final = "tokens are held back on the way, or counted differently"


def requests_in_flight(samples: Samples) -> float | None:
    """Requests that a server works at or holds back, by its own gauges; None where it tells of none."""
    name = _server_of(samples)
    known = KnownServer() if name is None else SERVERS[name]
    found = [next((samples[n] for n in names if n in samples), None) for names in (known.running, known.waiting)]
    told = [value for value in found if value is not None]
    return sum(told) if told else None


def _server_of(samples: Samples) -> str | None:
    for name, known in SERVERS.items():
        if any(metric in samples for metric in known.output_tokens + known.input_tokens):
            return name
    return None


def _compare(metric: str, client: float | None, server: float | None, tolerance: float, note: str) -> Comparison:
    if client is None or server is None:
        return Comparison(metric, client, server)
    if server == 0:
        return Comparison(metric, client, server, None, client != 0, note if client else "")
    difference = (client - server) / server
    flagged = abs(difference) > tolerance
    return Comparison(metric, client, server, difference, flagged, note if flagged else "")


def _finished(records: Sequence[RequestRecord]) -> float:
    return float(sum(record.status in FINISHED for record in records))


def _sum(records: Sequence[RequestRecord], of: Callable[[RequestRecord], int | None]) -> float | None:
    values = [value for record in records if (value := of(record)) is not None]
    return float(sum(values)) if values else None


def _mean(records: Sequence[RequestRecord], metric: str) -> float | None:
    of = REQUEST_METRICS[metric]
    values = [value for record in records if record.status in FINISHED and (value := of(record)) is not None]
    return math.fsum(values) / len(values) if values else None


def _mean_gap(records: Sequence[RequestRecord]) -> float | None:
    pairs = [
        (record.last_token_s - record.first_chunk_s, record.completion_tokens - 1)
        for record in records
        if record.status in FINISHED
        and record.completion_tokens is not None
        and record.completion_tokens > 1
        and record.first_chunk_s is not None
        and record.last_token_s is not None
    ]
    return math.fsum(span for span, _ in pairs) / sum(gaps for _, gaps in pairs) if pairs else None
