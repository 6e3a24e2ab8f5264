"""``profile_export.jsonl``: one line a request, ``{metadata, metrics, error}``; read line by line, however long.

The file says nothing of what was asked for. Where ``profile_export_aiperf.json`` lies beside it, that says it; else the
number of requests in flight is counted from their times, and is the concurrency if it hardly changes.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from fewmark.core import FormatError
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.base import NotAResultError
from fewmark.interop.formats.aiperf.metrics import ended_early, identify, put_aiperf_load, run_row
from fewmark.interop.results.client_results import keep_events_apart
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import RunRow, failure_status, nested, number, positive, rows_to_frame, text
from fewmark.interop.text.json_text import encoding_of, head_text, parse_json, read_json, read_text

try:  # with the extra `load`, several times as fast
    from fewmark.interop.formats.aiperf.lines import Line, Metric, decode_line
except ImportError:
    Line = Metric = decode_line = None  # type: ignore[assignment,misc]

TOOL: Final = "aiperf"
STEADY: Final = 0.75  # mean over largest number in flight from which a loop is closed
_SCALES: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}
_LONGEST_LINE: Final = 64 * 2**20
_TOGETHER: Final = 2_000  # streams whose gaps are kept at once
_UNKNOWN: Final = float("nan")
_MAX_BYTES: Final = 64 * 2**20  # of a summary; it is some kilobytes long


class AiperfRequests:
    """The single requests of one run of AIPerf."""

    name = "aiperf-requests"
    description = "AIPerf's profile_export.jsonl: a request a line (metadata, metrics)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of the first line."""
        line = head_text(head).lstrip().split("\n", 1)[0]
        if not line.startswith("{") or '"metadata"' not in line or '"metrics"' not in line:
            return 0.0
        return 0.95 if '"request_start_ns"' in line or '"x_request_id"' in line or '"benchmark_phase"' in line else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row. Raises `FormatError` with the line that is none."""
        report = _summary(path.with_name("profile_export_aiperf.json"))
        records, ends, errors, by_client = _collect(path)
        row = RunRow(TOOL, "requests")
        n = len(records)
        identify(row, report)
        if not n and not errors:
            raise NotAResultError("the file lists no request of a measured phase", got=path.name)
        row.counts(n, len(errors))
        statistics = records.statistics()
        if report:
            put_aiperf_load(row, report, n + len(errors))
        elif n:
            _put_in_flight(row, records, ends)
        row.name_run(n, statistics.get("e2e_latency_s"), report.get("benchmark_id"))
        if ended_early(row, report):
            return rows_to_frame([row.finish()])
        if not n:
            row.fail(failure_status(errors), f"all {len(errors)} requests failed")
            return rows_to_frame([row.finish()])
        starts = np.asarray(records.start_s)
        timed = np.isfinite(starts).any() and np.isfinite(ends).any()
        window = float(np.nanmax(ends) - np.nanmin(starts)) if timed else None
        row.put("duration_s", window)
        bundle = records.tokens_an_event()
        recomputed = records.statistics(window)
        told = run_row(report, report, TOOL) if report else RunRow(TOOL)
        row.compare(recomputed, {k: v for k, v in told.cells.items() if k in recomputed and isinstance(v, float)})
        if (goodput := told.known("goodput_req_s")) is not None:  # by objectives that stand nowhere in the list
            row.put_goodput(goodput)
        for words in told.notes:
            if words.startswith("tokens by the server"):
                row.note(words)
        row.note(records.bounds())
        if by_client:
            row.note("tokens are counted by the client, from the text")
        if bundle is not None and "itl_s" not in recomputed and records.gaps_s:
            row.put("itl_s", records.mean_gap_s())
            keep_events_apart(row, f"events hold {bundle:.2f} tokens")
        return rows_to_frame([row.finish()])


def _collect(path: Path) -> tuple[RequestRecords, np.ndarray, list[str], bool]:
    """The requests that succeeded, when each ended (s), the errors of the others, and whose count of tokens it is."""
    records, ends, errors = RequestRecords(), array("d"), []
    streams: list[Json] = []
    by_client, scale = False, 1e-3
    with path.open("rb") as stream:
        encoding = encoding_of(stream.read(4))
        stream.seek(0)
        lines = iter(lambda: stream.readline(_LONGEST_LINE), b"")
        if encoding not in ("utf-8", "utf-8-sig"):
            lines = (line.encode() for line in read_text(path).splitlines())
        for position, line in enumerate(lines, start=1):
            if line.isspace():
                continue
            if len(line) >= _LONGEST_LINE:
                raise FormatError(f"line {position}: no request is that long", got=line[:200])
            found = _fast(line) or _of_json(line, position)
            if found.phase.lower() != "profiling":
                continue
            if found.error is not None:
                errors.append(found.error)
                continue
            if found.cancelled:
                continue
            if found.e2e is None:
                raise FormatError(f"line {position}: a request that succeeded has a request_latency", got=line[:200])
            by_client |= found.usage is None and found.told is not None
            start = None if found.start_ns is None else found.start_ns / 1e9
            records.add(found.e2e, found.ttft, found.prompt, found.usage or found.told, start)
            ends.append(_UNKNOWN if found.end_ns is None else found.end_ns / 1e9)
            if found.gaps is not None:
                if len(streams) >= _TOGETHER or found.scale != scale:
                    records.keep_gaps(streams, scale)
                    streams, scale = [], found.scale
                streams.append(found.gaps)
    records.keep_gaps(streams, scale)
    return records, np.asarray(ends), errors, by_client


class _Request(NamedTuple):
    """What is wanted of a line; seconds but where the name says so, `gaps` in units of `scale` seconds."""

    phase: str
    error: str | None = None
    cancelled: bool = False
    e2e: float | None = None
    ttft: float | None = None
    prompt: float | None = None
    usage: float | None = None
    told: float | None = None
    start_ns: float | None = None
    end_ns: float | None = None
    gaps: Json = None
    scale: float = 1e-3


def _fast(line: bytes) -> _Request | None:
    """What is wanted of a line in the shape that AIPerf writes; None where it has another, or failed."""
    if decode_line is None:
        return None
    try:
        item = decode_line(line)
    except Exception:  # of msgspec, or too deep: the slower way says what is wrong, if anything is
        return None
    if item.error:
        return None
    metadata, metrics = item.metadata, item.metrics
    gaps, scale = metrics.inter_chunk_latency, 1e-3
    if gaps is not None:
        scale = _SCALES.get(gaps.unit or "ms") or 1e-3
    return _Request(
        phase=text(metadata.phase_kind or metadata.benchmark_phase) or "profiling",
        cancelled=metadata.was_cancelled is True,
        e2e=_in_seconds(metrics.request_latency),
        ttft=_in_seconds(metrics.time_to_first_token),
        prompt=_of(metrics.usage_prompt_tokens) or _of(metrics.input_sequence_length),
        usage=_of(metrics.usage_completion_tokens),
        told=_of(metrics.output_sequence_length),
        start_ns=metadata.request_start_ns,
        end_ns=metadata.request_end_ns,
        gaps=None if gaps is None else gaps.value,
        scale=scale,
    )


def _of(metric: Metric | None) -> float | None:
    value = None if metric is None else metric.value
    return value if isinstance(value, float) and 0 < value < inf else None


def _in_seconds(metric: Metric | None) -> float | None:
    value = _of(metric)
    scale = None if value is None or metric is None else _SCALES.get(metric.unit or "ms")
    return None if value is None or scale is None else value * scale


def _of_json(line: bytes, position: int) -> _Request:
    """The same of a line in any shape. Raises `FormatError` if it is none of a request."""
    try:
        item: Json = json.loads(line)
    except Exception:  # too deep, or malformed
        item = _broken(line, position)
    if not isinstance(item, dict) or not isinstance(item.get("metadata"), dict):
        raise FormatError(f"line {position}: AIPerf writes metadata and metrics of a request", got=line[:200])
    metadata, metrics = item["metadata"], item.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    gaps = metrics.get("inter_chunk_latency")
    gaps = gaps if isinstance(gaps, dict) else {}
    error = item.get("error")
    return _Request(
        phase=text(metadata.get("phase_kind") or metadata.get("benchmark_phase")) or "profiling",
        error=str(nested(item, "error", "message") or error)[:500] if error else None,
        cancelled=metadata.get("was_cancelled") is True,
        e2e=_seconds(metrics, "request_latency"),
        ttft=_seconds(metrics, "time_to_first_token"),
        prompt=_count(metrics, "usage_prompt_tokens") or _count(metrics, "input_sequence_length"),
        usage=_count(metrics, "usage_completion_tokens"),
        told=_count(metrics, "output_sequence_length"),
        start_ns=number(metadata.get("request_start_ns")),
        end_ns=number(metadata.get("request_end_ns")),
        gaps=gaps.get("value"),
        scale=_scale(gaps) or 1e-3,
    )


def _seconds(metrics: dict[str, Json], name: str) -> float | None:
    metric = metrics.get(name)
    if not isinstance(metric, dict):
        return None
    value, scale = positive(metric.get("value")), _scale(metric)
    return None if value is None or scale is None else value * scale


def _scale(metric: dict[str, Json]) -> float | None:
    """Seconds in the metric's unit; milliseconds where it says none, None where it is none of time."""
    unit = metric.get("unit") or "ms"
    return _SCALES.get(unit) if isinstance(unit, str) else None


def _count(metrics: dict[str, Json], name: str) -> float | None:
    metric = metrics.get(name)
    return positive(metric.get("value")) if isinstance(metric, dict) else None


def _broken(line: bytes, position: int) -> Json:
    try:
        return parse_json(line.decode("utf-8-sig", errors="replace"))
    except FormatError as error:
        what = error.what.partition(": ")[2] or error.what
        raise FormatError(f"line {position}: {what}", got=error.got, hint=error.hint) from None


def _summary(path: Path) -> JsonObject:
    """The run's summary, if it lies there and can be read."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        report = read_json(path)
    except (OSError, FormatError):
        return {}
    return report if isinstance(report, Mapping) else {}


def _put_in_flight(row: RunRow, records: RequestRecords, ends: np.ndarray) -> None:
    starts = np.asarray(records.start_s)
    known = np.isfinite(starts) & np.isfinite(ends)
    if not known.any():
        return
    times = np.concatenate([starts[known], ends[known]])
    steps = np.concatenate([np.ones(known.sum()), -np.ones(known.sum())])
    order = np.lexsort((steps, times))  # of equal times the end comes first
    in_flight = np.cumsum(steps[order])
    most = int(in_flight.max())
    span = float(times.max() - times.min())
    mean = float((ends[known] - starts[known]).sum() / span) if span > 0 else 0.0
    if mean >= STEADY * most:
        row.cells["concurrency"] = most
        row.note(f"the file does not say the load; at most {most} requests were in flight, {mean:.3g} on the average")
    else:
        row.note(f"the file does not say the load; {mean:.3g} requests were in flight on the average, {most} at most")
