"""``profile_export_aiperf.json`` (schema 1.0 to 1.4), ``profile_export_genai_perf.json`` (no version), report 2.0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.base import NotAResultError
from fewmark.interop.formats.aiperf.metrics import WARM_UPS, run_row
from fewmark.interop.results.lookups import mapping
from fewmark.interop.results.run_rows import RunRow, listed, nested, number, rows_to_frame, text
from fewmark.interop.text.json_text import head_text, opens_json, read_objects

_METRICS: Final = ('"request_latency"', '"request_throughput"', '"time_to_first_token"', '"inter_token_latency"')


class AiperfSummary:
    """The summary of one run of AIPerf, agentx-harness or genai-perf."""

    name = "aiperf"
    description = "AIPerf's profile_export_aiperf.json, genai-perf's profile_export_genai_perf.json"

    def sniff(self, path: Path, head: bytes) -> float:
        """By metrics with units among the first keys; aggregates and lists of requests are other formats."""
        words = head_text(head)
        if not opens_json(words) or '"aggregation_type"' in words or '"x_request_id"' in words:
            return 0.0
        if '"timeslices"' in words and '"series"' not in words:  # the run again, second by second
            return 0.0
        if '"endpoints_configured"' in words and '"request_latency"' not in words:
            return 0.0  # the server's metrics, scraped beside the run; a summary has the GPUs' telemetry in it
        if '"aiperf_version"' in words and '"metrics"' in words and '"series"' in words:
            return 0.9
        if '"unit"' in words and '"error_request_count"' in words and '"input_config"' in words:
            return 0.9  # also where no request succeeded, so that no metric of theirs is there
        if '"unit"' not in words or not any(key in words for key in _METRICS):
            return 0.0
        return 0.9 if '"avg"' in words and ('"input_config"' in words or "request" in words) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row a report. Raises `FormatError`; `NotAResultError` for a warm-up's report."""
        return rows_to_frame([_row(_of_its_phase(report, path)).finish() for _, report in read_objects(path)])


def _of_its_phase(report: JsonObject, path: Path) -> JsonObject:
    """A report ``phases/NAME/profile_export_aiperf.json`` with the settings of that phase alone.

    Such a report is like that of the whole run in all but its place: nothing in it says which phase it is of.
    """
    if path.parent.parent.name != "phases":
        return report
    name, config = path.parent.name, report.get("input_config")
    phases = [phase for phase in listed(nested(config, "phases")) if nested(phase, "name") == name]
    if (text(nested(phases, 0, "kind")) or name) in WARM_UPS:
        raise NotAResultError("the report of a warm-up, which is not a result", got="/".join(path.parts[-3:]))
    if not phases or not isinstance(config, Mapping):
        return report
    return {**report, "input_config": {**config, "phases": phases}}


def _row(report: JsonObject) -> RunRow:
    version = text(report.get("schema_version"))
    if version is not None and version.split(".")[0] not in ("1", "2"):
        raise FormatError(f"AIPerf's schema_version {version} is unknown", hint="1.0 to 1.4, 2.0 and none are read")
    metrics = _metrics(report)
    failed = number(nested(metrics, "error_request_count", "avg"))
    if not failed and not any(isinstance(metrics.get(key.strip('"')), Mapping) for key in _METRICS):
        raise FormatError("the report has no metric of requests", got=sorted(report)[:12])
    asked = mapping(report.get("input_config"))
    told = {"aiperf_version", "benchmark_id", "run_info", "records"} & set(report) or {"loadgen", "phases"} & set(asked)
    of_aiperf = version is not None or told or str(asked.get("cli_command") or "").startswith("aiperf")
    return run_row(metrics, report, "aiperf" if of_aiperf else "genai-perf")


def _metrics(report: JsonObject) -> JsonObject:
    """The metrics, wherever a version keeps them, each as ``{unit, avg, p50 …}``."""
    nested_ = report.get("metrics")
    if isinstance(nested_, Mapping):
        return {name: _flat(metric) for name, metric in nested_.items()}
    records = report.get("records")
    return {**report, **records} if isinstance(records, Mapping) else report


def _flat(metric: object) -> dict[str, Json]:
    """A metric of report 2.0 as one of 1.4: its series' statistics, percentiles beside them.

    Of several series, one for each label, the first without labels is the whole.
    """
    if not isinstance(metric, Mapping):
        return {}
    series = metric.get("series")
    if not isinstance(series, list):
        return dict(metric)
    found = next((item for item in series if not nested(item, "labels")), series[0] if len(series) == 1 else None)
    stats = nested(found, "stats")
    flat = dict(stats) if isinstance(stats, Mapping) else dict(found) if isinstance(found, Mapping) else {}
    percentiles = flat.pop("percentiles", None)
    if isinstance(percentiles, Mapping):
        flat |= {str(name): value for name, value in percentiles.items()}
    if "avg" not in flat:
        flat["avg"] = next((flat[key] for key in ("value", "total") if number(flat.get(key)) is not None), None)
    return flat | {"unit": metric.get("unit")}
