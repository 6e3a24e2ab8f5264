"""fmperf: ``result_*.json``, a record a token of each request of each user.

A record's ``duration_ms`` is the time since the record before it, the first one's since the request was sent; a record
that is not ``ok`` ends a request, by an error or by the end of its stream. Requests that reach beyond the test's end
are marked ``exclude`` and left out. Lengths of the prompts are not in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.lookups import has_keys, mapping
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import RunRow, count, failure_status, number, positive, rows_to_frame, run_id
from fewmark.interop.text.json_text import read_json

_ENDS: Final = frozenset(("", "None", "StopIteration()"))


class Fmperf:
    """One row a number of users."""

    name = "fmperf"
    description = "fmperf's results, a record a token (worker_idx, request_idx, n_tokens, duration_ms)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of a record."""
        return 0.95 if has_keys(head, "worker_idx", "request_idx", "n_tokens", "duration_ms") else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` on a record that cannot be understood."""
        data = read_json(path)
        records = mapping(data).get("results") if isinstance(data, Mapping) else data
        if not isinstance(records, list) or not records:
            raise FormatError("fmperf's results are a list of records", got=type(data).__name__)
        levels: dict[tuple[float | None, float | None], dict[tuple[str, ...], list[JsonObject]]] = {}
        for place, record in enumerate(records, start=1):
            if not isinstance(record, Mapping) or number(record.get("duration_ms")) is None:
                raise FormatError(f"record {place}: a record has duration_ms", got=record)
            level = number(record.get("exp_num_users")), number(record.get("exp_duration"))
            request = tuple(str(record.get(name)) for name in ("exp_id", "worker_idx", "request_idx"))
            levels.setdefault(level, {}).setdefault(request, []).append(record)
        return rows_to_frame([_row(*level, requests) for level, requests in levels.items()])


def _row(users: float | None, seconds: float | None, requests: Mapping[tuple[str, ...], list[JsonObject]]) -> Row:
    records, errors, excluded, tokens_inside = RequestRecords(), [], 0, 0
    for steps in requests.values():
        tokens_inside += sum(count(step.get("n_tokens")) or 0 for step in steps if not step.get("exclude"))
        error = next((str(step.get("error")) for step in steps if not step.get("ok", True)), "")
        if error not in _ENDS and "StopIteration" not in error:
            errors.append(error)
            continue
        if any(step.get("exclude") for step in steps):
            excluded += 1
            continue
        times = list(_token_times(steps))
        if times:
            records.add(times[-1], times[0], None, float(len(times)))
            for before, after in pairwise(times):
                records.gaps_s.append(after - before)
    row = RunRow("fmperf", "requests")
    row.put("concurrency", users)
    row.put("duration_s", seconds)
    row.counts(len(records), len(errors))
    recomputed = records.statistics()
    row.cells["run_id"] = run_id("fmperf", users, seconds, len(records), recomputed.get("e2e_latency_s"))
    if not len(records):
        row.fail(failure_status(errors), f"no request succeeded of {len(requests)}")
        return row.finish()
    row.cells |= recomputed
    if seconds:
        row.put("throughput_tok_s", tokens_inside / seconds)
        row.put("request_throughput_req_s", len(records) / seconds)
    row.note("recomputed from single tokens")
    if excluded:
        row.note(f"{excluded} requests that reach beyond the test's end are left out")
    if records.bounds():
        row.note(records.bounds())
    row.note("lengths of the prompts are not in the file")
    return row.finish()


def _token_times(steps: list[JsonObject]) -> Iterator[float]:
    """Seconds from sending to each token of one request."""
    at = 0.0
    for step in sorted(steps, key=lambda step: number(step.get("response_idx")) or 0):
        at += (positive(step.get("duration_ms")) or 0.0) / 1e3
        if step.get("ok", True):
            for _ in range(count(step.get("n_tokens")) or 0):
                yield at
