"""BLIS TraceV2: a CSV row a request, with a YAML header beside it (``trace_version: 2``).

Times are microseconds. Requests are sent, answered and ended on one clock; ``arrival_time_us`` is on another, that of
the plan, and serves only to tell the offered rate. Traces that BLIS generated or simulated (``mode``) are forecasts,
or hold no times at all. Input is what the server counted where it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd
import yaml

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.foreign_predictions import predicted_row
from fewmark.interop.results.lookups import label, mapping
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import RunRow, failure_status, number, positive, rows_to_frame, run_id
from fewmark.interop.text.csv_text import header_of, read_columns
from fewmark.interop.text.json_text import read_text

_NEEDED: Final = frozenset(
    ("request_id", "output_tokens", "send_time_us", "first_chunk_time_us", "last_chunk_time_us", "num_chunks")
)
_REAL: Final = frozenset(("", "real", "observed"))


class Blis:
    """One row a model of the trace."""

    name = "blis"
    description = "BLIS TraceV2: a CSV of requests (send_time_us, first_chunk_time_us, …) and its YAML header"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the CSV's header."""
        return 0.95 if set(header_of(head)) >= _NEEDED else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` on another header, or a trace without any times."""
        columns = read_columns(path)
        missing = sorted(_NEEDED - set(columns))
        if missing:
            raise FormatError(f"a BLIS trace has columns {', '.join(missing)}", got=list(columns))
        requests = [{name: cells[i] for name, cells in columns.items()} for i in range(len(columns["request_id"]))]
        if "status" not in columns:  # early traces: a round that was planned and not sent has no times
            requests = [
                {**request, "status": "ok" if positive(request["last_chunk_time_us"]) else "no answer"}
                for request in requests
                if request["send_time_us"].strip()
            ]
        if not any(positive(request["last_chunk_time_us"]) for request in requests):
            raise FormatError(
                "the trace holds no times of answers: it is a workload, not a measurement",
                hint="blis observe records a trace of a real server",
            )
        header = _header(path)
        by_model: dict[str, list[Mapping[str, str]]] = {}
        skipped = int(positive(header.get("warm_up_requests")) or 0)
        for request in requests:
            if (number(request["request_id"]) or 0) >= skipped:
                by_model.setdefault(request.get("model", ""), []).append(request)
        return rows_to_frame([_row(header, model, found, skipped) for model, found in by_model.items()])


def _row(header: JsonObject, model: str, requests: Sequence[Mapping[str, str]], skipped: int) -> Row:
    mode = str(header.get("mode", "")).strip().lower()
    server = mapping(header.get("server"))
    if mode in _REAL:
        row = RunRow("blis", "requests")
    else:
        row = predicted_row("blis", None)
        row.cells["detail"] = "requests"
    row.say("model", label(model) or label(server.get("model")))
    row.say("engine", label(server.get("type")))
    row.put("tensor_parallel_size", server.get("tensor_parallel"))
    records, errors, bundled = RequestRecords(), [], 0
    for request in requests:
        send, first, last = (number(request[f"{name}_time_us"]) for name in ("send", "first_chunk", "last_chunk"))
        if request["status"].strip().lower() != "ok" or send is None or last is None or last <= send:
            errors.append(f"{request['status']} {request.get('error_message', '')}")
            continue
        streamed = request.get("streaming", "true").strip().lower() != "false"
        known = streamed and first is not None and first > send
        tokens = positive(request["output_tokens"])
        told = positive(request.get("server_input_tokens")) or positive(request.get("input_tokens"))
        records.add((last - send) / 1e6, (first - send) / 1e6 if known and first else None, told, tokens, send / 1e6)
        bundled += bool(streamed and tokens and (positive(request["num_chunks"]) or tokens) < 0.95 * tokens)
    row.counts(len(records), len(errors))
    sent = [number(request["send_time_us"]) for request in requests]
    ends = [number(request["last_chunk_time_us"]) for request in requests]
    begin, end = min((t for t in sent if t), default=0.0), max((t for t in ends if t), default=0.0)
    seconds = row.put("duration_s", (end - begin) / 1e6)
    recomputed = records.statistics(seconds)
    row.cells["run_id"] = run_id("blis", model, len(records), recomputed.get("e2e_latency_s"))
    _load(row, requests, sent)
    if not len(records):
        row.fail(failure_status(errors), f"all {len(errors)} requests failed")
        return row.finish()
    row.cells |= recomputed
    row.note("recomputed from single requests")
    if skipped:
        row.note(f"the first {skipped} requests were a warm-up and are left out")
    if bundled:
        row.note(f"{bundled} answers came in fewer events than tokens")
    if records.bounds():
        row.note(records.bounds())
    return row.finish()


def _load(row: RunRow, requests: Sequence[Mapping[str, str]], sent: Sequence[float | None]) -> None:
    later = any(number(request.get("round_index")) for request in requests)
    times = sorted(t for t in sent if t is not None)
    if later:
        row.note("conversations of several rounds: the load is not in the trace")
    elif len(times) > 2 and times[-1] > times[0]:
        row.put("request_rate", (len(times) - 1) / (times[-1] - times[0]), 1e6)
        row.note("the rate at which requests were sent, from their times")


def _header(path: Path) -> JsonObject:
    """The YAML header beside a trace: of the same name, or the only one of its folder that says trace_version."""
    named = [path.with_suffix(".yaml"), path.with_suffix(".yml"), path.with_name("trace_header.yaml")]
    others = sorted(path.parent.glob("*.yaml"))[:20]
    for other in dict.fromkeys([*named, *others]):
        if other.is_file() and other.stat().st_size < 1_000_000:
            try:
                found = yaml.safe_load(read_text(other))
            except (yaml.YAMLError, FormatError, OSError, RecursionError):
                continue
            if "trace_version" in mapping(found):
                return mapping(found)
    return {}
