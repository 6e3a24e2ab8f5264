"""inference-perf's ``per_request_lifecycle_metrics.json``: the requests of all stages in one list that names none.

Stages run one after another, so their sizes in the stages' own files cut the list; where those are not beside it, or
do not fit, the list is one row. Tokens are the server's usage where it is there, and the end is the last event, not the
end of the stream. A one-token answer's event has its time here, though the reports have no TTFT for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core import FormatError
from fewmark.core.json_types import JsonObject
from fewmark.interop.formats.inference_perf.lifecycle import lifecycle_row
from fewmark.interop.formats.inference_perf.settings import TOOL, put_server, stage_files, stage_number
from fewmark.interop.results.client_results import keep_events_apart
from fewmark.interop.results.lookups import mapping
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import RunRow, failure_status, nested, number, positive, rows_to_frame
from fewmark.interop.text.json_text import head_text, read_json
from fewmark.interop.text.yaml_text import read_settings

_MEAN_TOLERANCE: Final = 1e-6  # relative; a stage's mean latency and that of its requests


class InferencePerfRequests:
    """The single requests of a run of inference-perf."""

    name = "inference-perf-requests"
    description = "inference-perf's per_request_lifecycle_metrics.json"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of the first request."""
        words = head_text(head).lstrip()
        if not words.startswith("[") or '"start_time"' not in words or '"end_time"' not in words:
            return 0.0
        ours = '"computed_metrics"' in words or '"response_metrics"' in words or '"output_token_times"' in words
        return 0.95 if ours else 0.6 if '"info"' in words and "per_request" in path.name else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row a stage. Raises `FormatError`."""
        requests = read_json(path)
        if not isinstance(requests, list) or not requests:
            raise FormatError("inference-perf writes a list of requests", got=requests)
        for position, item in enumerate(requests, start=1):
            if number(nested(item, "start_time")) is None or number(nested(item, "end_time")) is None:
                raise FormatError(f"request {position} has no start_time and end_time", got=item)
        requests.sort(key=lambda item: _moment(item, "start_time"))
        settings = read_settings(path.with_name("config.yaml"))
        stages = _stages(path, requests)
        rows = [_row(part, settings, report, stage).finish() for part, report, stage in stages]
        return rows_to_frame(rows)


Stage = tuple[Sequence[JsonObject], JsonObject | None, int | None]


def _stages(path: Path, requests: list[JsonObject]) -> list[Stage]:
    """The requests of each stage with its report; all in one where the reports do not fit."""
    whole: list[Stage] = [(requests, None, None)]
    found: list[Stage] = []
    begin = 0
    for file in stage_files(path.parent):
        try:
            report = mapping(read_json(file))
        except (OSError, FormatError):
            return whole
        good, bad = (positive(nested(report, key, "count")) or 0 for key in ("successes", "failures"))
        part = requests[begin : begin + int(good + bad)]
        told = positive(nested(report, "successes", "latency", "request_latency", "mean"))
        latencies = [latency for item in part if (latency := _latency(item)) is not None and not item.get("error")]
        if told is not None and (not latencies or abs(float(np.mean(latencies)) / told - 1) > _MEAN_TOLERANCE):
            return whole
        found.append((part, report, stage_number(file)))
        begin += len(part)
    return found if found and begin == len(requests) else whole


def _moment(item: JsonObject, name: str) -> float:
    found = number(item[name])
    if found is None:
        raise FormatError(f"{name} of a request must be a number", got=item[name])
    return found


def _latency(item: JsonObject) -> float | None:
    """What the tool calls the latency: to the end of the stream."""
    told = positive(nested(item, "computed_metrics", "request_latency"))
    return told if told is not None else positive(_moment(item, "end_time") - _moment(item, "start_time"))


def _row(
    requests: Sequence[JsonObject],
    settings: JsonObject,
    report: JsonObject | None,
    stage: int | None,
) -> RunRow:
    row = RunRow(TOOL, "requests")
    put_server(row, settings)
    records, ends, latencies, errors = RequestRecords(), [], [], []
    by_client = False
    for item in requests:
        if item.get("error"):
            errors.append(str(item["error"])[:500])
            continue
        by_client |= not _add(records, item)
        ends.append(_moment(item, "end_time"))
        latencies.append(_latency(item) or 0.0)
    n = len(records)
    told = lifecycle_row(report, settings, stage) if report is not None else None
    if told is not None:
        for name in ("concurrency", "request_rate", "workload.max_concurrency"):
            if name in told.cells:
                row.cells[name] = told.cells[name]
    else:
        row.note("the list does not say the load, nor which stage a request is of")
        row.cells["detail"] = "mixed"
    row.counts(n, len(errors))
    row.name_run(n, float(np.mean(latencies)) if latencies else None, len(requests))
    if not n:
        if told is not None:
            row.cells["run_id"] = told.cells["run_id"]
        row.fail(failure_status(errors), f"all {len(errors)} requests failed")
        return row
    window = max(ends) - min(_moment(item, "start_time") for item in requests)
    row.put("duration_s", window)
    recomputed = records.statistics(window)
    said = {k: v for k, v in (told.cells if told else {}).items() if k in recomputed and isinstance(v, float)}
    row.compare(recomputed, said)
    row.note(records.bounds())
    if by_client:
        row.note("tokens are counted by the client, from the text")
    bundle = records.tokens_an_event()
    if bundle is not None and "itl_s" not in recomputed and records.gaps_s:
        row.put("itl_s", records.mean_gap_s())
        keep_events_apart(row, f"events hold {bundle:.2f} tokens")
    return row


def _add(records: RequestRecords, item: JsonObject) -> bool:
    """Add a request that succeeded. Returns whether its tokens are the server's count."""
    info = item.get("info")
    answer = nested(info, "response_metrics") or info
    times = nested(answer, "chunk_times") or nested(answer, "output_token_times") or nested(info, "output_token_times")
    events = [time for time in map(number, times if isinstance(times, list) else []) if time is not None]
    start, end = _moment(item, "start_time"), _moment(item, "end_time")
    usage = positive(nested(answer, "server_usage", "completion_tokens"))
    tokens = usage or positive(nested(answer, "output_tokens"))
    prompt = positive(nested(answer, "server_usage", "prompt_tokens")) or positive(nested(info, "input_tokens"))
    last = events[-1] if len(events) > 1 or (events and tokens == 1) else end
    ttft = positive(events[0] - start) if events and (len(events) > 1 or tokens == 1) else None
    records.add(positive(last - start), ttft, prompt, tokens, start)
    records.add_gaps([later - earlier for earlier, later in pairwise(events)])
    return usage is not None
