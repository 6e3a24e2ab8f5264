"""MLCommons endpoints: ``result_summary.json``, in nanoseconds.

Tokens are those of the client's tokenizer. ``qps`` and ``tps`` of a Poisson run may be over MLPerf's legacy window,
which ends with the request sent last; rates here are over the whole run. ``early_stopping_percentiles`` are estimates
with confidence and no order statistics, and are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError, Status
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.results.lookups import mapping
from fewmark.interop.results.run_rows import (
    PERCENTS,
    TOLERANCE,
    RunRow,
    count,
    failure_status,
    nested,
    number,
    positive,
    rows_to_frame,
    text,
)
from fewmark.interop.results.serving_load import put_load
from fewmark.interop.text.json_text import head_text, opens_json, read_json
from fewmark.interop.text.yaml_text import read_settings

TOOL: Final = "mlcommons_endpoints"
_NEEDED: Final = ('"n_samples_completed"', '"duration_ns"')
_SERIES: Final = (("ttft", "ttft"), ("tpot", "tpot"), ("latency", "e2e_latency"))


class MlcommonsEndpoints:
    """The summary of one run of MLCommons endpoints."""

    name = "mlcommons-endpoints"
    description = "MLCommons endpoints' result_summary.json (n_samples_completed, duration_ns, ttft, tpot, latency)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By its counts of samples."""
        words = head_text(head)
        return 0.95 if opens_json(words) and all(key in words for key in _NEEDED) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row. Raises `FormatError`."""
        report = read_json(path)
        if not isinstance(report, Mapping) or count(report.get("n_samples_completed")) is None:
            raise FormatError("MLCommons endpoints write n_samples_completed", got=report)
        return rows_to_frame([_row(report, read_settings(path.with_name("config.yaml"))).finish()])


def _row(report: JsonObject, settings: JsonObject) -> RunRow:
    row = RunRow(TOOL)
    row.say("tool_version", report.get("version"))
    row.say("model", nested(settings, "model_params", "name"))
    done, failed = count(report["n_samples_completed"]) or 0, count(report.get("n_samples_failed"))
    done = max(0, done - (failed or 0)) if done == count(report.get("n_samples_issued")) else done
    pattern = nested(report, "run_config", "load_pattern") or nested(settings, "settings", "load_pattern")
    _load(row, pattern, count(report.get("n_samples_issued")) or done)
    duration = positive(report.get("duration_ns"))
    row.put("duration_s", duration, 1e-9)
    row.counts(done, failed)
    mean = positive(nested(report, "latency", "avg"))
    row.name_run(done, (mean or 0.0) * 1e-9, duration)
    state = text(report.get("state")) or "complete"
    if report.get("complete") is False or state.lower() not in ("complete", "completed"):
        row.fail(Status.INVALID, f"the run is not complete (state {state})")
        return row
    if not done:
        row.fail(failure_status([]), f"all {failed or 0} samples failed")
        return row
    for theirs, ours in _SERIES:
        row.put(f"{ours}_s", nested(report, theirs, "avg"), 1e-9)
        for percent in PERCENTS:
            row.put(f"{ours}_p{percent}_s", _percentile(report.get(theirs), percent), 1e-9)
    row.put("input_tokens", nested(report, "input_sequence_lengths", "avg"))
    row.put("output_tokens", nested(report, "output_sequence_lengths", "avg"))
    if "output_tokens" in row.cells:
        row.note("tokens are counted by the client's tokenizer")
    tokens = positive(nested(report, "output_sequence_lengths", "total"))
    told = positive(report.get("tps"))
    if duration is not None and tokens is not None:
        rate = row.put("throughput_tok_s", tokens / (duration * 1e-9))
        if told and rate and abs(told / rate - 1) > TOLERANCE:
            row.note(f"tps {told:.4g} is over another window; rates here are over the whole run")
        total = tokens + (positive(nested(report, "input_sequence_lengths", "total")) or 0)
        row.put("total_throughput_tok_s", total / (duration * 1e-9) if total > tokens else None)
    else:
        row.put("throughput_tok_s", told)
    row.put("request_throughput_req_s", done / (duration * 1e-9) if duration else report.get("qps"))
    return row


def _load(row: RunRow, pattern: Json, n: int) -> None:
    kind = (text(nested(pattern, "type")) or text(pattern) or "").lower()
    rate, level = nested(pattern, "target_qps"), nested(pattern, "target_concurrency")
    if kind in ("concurrency", "multi_turn") or (positive(level) and not positive(rate)):
        put_load(row, rate="inf", cap=level, n_requests=n)
    elif kind in ("poisson", "constant") or positive(rate):
        put_load(row, rate=rate, cap=None, n_requests=n)
    elif kind in ("max_throughput", "offline"):
        put_load(row, rate="inf", cap=None, n_requests=n)
    else:
        row.note("the file does not say the load")
    if kind == "multi_turn":
        row.note("conversations of several turns; a request is a turn")


def _percentile(series: Json, percent: int) -> Json:
    for key, value in mapping(nested(series, "percentiles")).items():
        if value is not None and number(key.removeprefix("p")) == percent:  # "99", "99.0", "99.00"
            return value
    return nested(series, "median") if percent == 50 else None
