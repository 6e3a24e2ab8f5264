"""Records and runs that are made up, to the second."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from fewmark.load.records import LoadResult, RequestRecord, RequestStatus


def record(
    send: float,
    first: float | None,
    gaps: Sequence[float] = (),
    tokens: int | None = None,
    index: int = 0,
    **fields: Any,
) -> RequestRecord:
    """A request whose answer came in one read at `first` and one after each gap; a token each unless told."""
    last = None if first is None else first + sum(gaps)
    values: dict[str, Any] = {
        "status": RequestStatus.OK,
        "stream": 0,
        "planned_send_s": send,
        "send_s": send,
        "first_chunk_s": first,
        "first_output_s": first,
        "last_token_s": last,
        "end_s": last,
        "n_chunks": 0 if first is None else len(gaps) + 1,
        "completion_tokens": (0 if first is None else len(gaps) + 1) if tokens is None else tokens,
        "output_tokens_asked": (0 if first is None else len(gaps) + 1) if tokens is None else tokens,
        "input_tokens_asked": 100,
        "prompt_tokens": 100,
        "chunk_gaps_s": array("d", gaps),
        "kernel_stamps": True,
        "http_status": 200,
    }
    return RequestRecord(index, **(values | fields))


def closed_run(
    concurrency: int, n: int, ttft: float = 0.1, tpot: float = 0.02, tokens: int = 11, idle: float = 0.0
) -> LoadResult:
    """Streams whose requests all take as long; the streams start one after the other."""
    e2e = ttft + tpot * (tokens - 1)
    records = []
    for i in range(n):
        stream, turn = i % concurrency, i // concurrency
        send = stream * e2e / concurrency + turn * (e2e + idle)
        records.append(record(send, send + ttft, [tpot] * (tokens - 1), index=i, stream=stream))
    return LoadResult(tuple(records), 0.0, max(r.end_s or 0.0 for r in records))
