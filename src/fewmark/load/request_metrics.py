"""The metrics of one request, by their names; None where the request does not have one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from fewmark.load.records import RequestRecord
from fewmark.load.steady_state import ended_at


def output_tokens(record: RequestRecord) -> int | None:
    """Tokens of the answer by the server's usage; None where it gave none."""
    return record.completion_tokens


def ttft_s(record: RequestRecord) -> float | None:
    """Request sent → first output token, reasoning included."""
    return _between(record.send_s, record.first_chunk_s)


def ttft_from_schedule_s(record: RequestRecord) -> float | None:
    """Planned send → first output token."""
    return _between(record.planned_send_s, record.first_chunk_s)


def time_to_first_answer_token_s(record: RequestRecord) -> float | None:
    """Request sent → first token after reasoning; None where there was no reasoning."""
    if record.first_output_s is None or record.first_output_s == record.first_chunk_s:
        return None
    return _between(record.send_s, record.first_output_s)


def e2e_latency_s(record: RequestRecord) -> float | None:
    """Request sent → last token; without a stream → end of the answer."""
    return _between(record.send_s, ended_at(record))


def e2e_latency_from_schedule_s(record: RequestRecord) -> float | None:
    """Planned send → last token."""
    return _between(record.planned_send_s, ended_at(record))


def tpot_s(record: RequestRecord) -> float | None:
    """(e2e latency − TTFT) / (output tokens − 1); None for one token and without a stream."""
    tokens = output_tokens(record)
    span = _between(record.first_chunk_s, record.last_token_s)
    return None if tokens is None or tokens < 2 or span is None else span / (tokens - 1)


REQUEST_METRICS: Final[Mapping[str, Callable[[RequestRecord], float | None]]] = {
    "ttft_s": ttft_s,
    "tpot_s": tpot_s,
    "e2e_latency_s": e2e_latency_s,
    "ttft_from_schedule_s": ttft_from_schedule_s,
    "e2e_latency_from_schedule_s": e2e_latency_from_schedule_s,
    "time_to_first_answer_token_s": time_to_first_answer_token_s,
}

OF_FIRST_TOKEN: Final = frozenset({"ttft_s", "ttft_from_schedule_s", "time_to_first_answer_token_s"})


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start
