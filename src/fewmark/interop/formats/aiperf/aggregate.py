"""AIPerf's aggregates: ``profile_export_aiperf_sweep.json`` (a combination each) and ``…_aggregate.json`` (confidence).

With one trial a value the aggregates say ``std 0, cv 0, ci_low = ci_high = mean``: that is one run and no certainty, so
no spread is read. With several, the mean is one over runs, which stand in files of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.formats.aiperf.metrics import run_row
from fewmark.interop.results.run_rows import RunRow, count, nested, rows_to_frame, text
from fewmark.interop.text.json_text import head_text, opens_json, read_json

TOOL: Final = "aiperf"
_STATISTIC: Final = re.compile(r"(.+)_(avg|min|max|std|sum|count|p\d+)")


class AiperfAggregate:
    """The aggregates that AIPerf makes of several runs."""

    name = "aiperf-aggregate"
    description = "AIPerf's sweep and confidence aggregates (aggregation_type, per_combination_metrics)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By its own keys."""
        words = head_text(head)
        if not opens_json(words):
            return 0.0
        return 0.95 if '"aggregation_type"' in words and '"num_profile_runs"' in words else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row a combination. Raises `FormatError`."""
        report = read_json(path)
        if not isinstance(report, Mapping):
            raise FormatError("AIPerf writes one JSON object", got=report)
        combinations = report.get("per_combination_metrics")
        if isinstance(combinations, list):
            trials = count(nested(report, "metadata", "num_trials_per_value")) or 1
            rows = [_combination(item, report, trials, place) for place, item in enumerate(combinations, start=1)]
        else:
            rows = [_confidence(report)]
        failed = report.get("failed_runs") or nested(report, "metadata", "failed_runs")
        if isinstance(failed, list) and failed and rows:
            rows[-1].note(f"{len(failed)} more runs failed")
        return rows_to_frame([row.finish() for row in rows])


def _combination(item: Json, report: JsonObject, trials: int, place: int) -> RunRow:
    metrics = nested(item, "metrics")
    if not isinstance(item, Mapping) or not isinstance(metrics, Mapping):
        raise FormatError(f"combination {place} has no metrics", got=item)
    row = run_row(metrics, {**report, "parameters": item.get("parameters")}, TOOL, "aggregate")
    return _of_runs(row, trials)


def _confidence(report: JsonObject) -> RunRow:
    flat = report.get("metrics")
    if not isinstance(flat, Mapping):
        raise FormatError("the aggregate has no metrics", got=sorted(report)[:12])
    metrics: dict[str, dict[str, Json]] = {}
    for name, values in flat.items():
        found = _STATISTIC.fullmatch(str(name))
        if found and isinstance(values, Mapping):
            metric = metrics.setdefault(found.group(1), {"unit": values.get("unit")})
            metric[found.group(2)] = values.get("mean")
    n_runs = count(nested(report, "metadata", "num_successful_runs")) or 1
    if n_runs > 1:
        for metric in metrics.values():  # a mean over runs of a number of requests is no number of requests
            metric.pop("count", None)
    return _of_runs(run_row(metrics, report, TOOL, "aggregate"), n_runs)


def _of_runs(row: RunRow, n_runs: int) -> RunRow:
    row.cells["n_repeats"] = n_runs
    if n_runs > 1:
        row.note(f"means over {n_runs} runs; the run's own files stand beside this one")
        row.cells["run_id"] = text(f"{row.cells.get('run_id')}x{n_runs}")
    else:
        row.note("one run: a spread of 0 in the file does not mean certainty")
    return row
