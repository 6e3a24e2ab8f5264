"""AISimulate's ``prediction.json``: the forecast of one replay, never a measurement.

``duration_ms`` is modelled time; ``wall_time_ms`` is how long the simulator itself took. Rates and latencies are of the
completed requests. TPOT and ITL are different populations there; only TPOT is taken over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.results.foreign_predictions import predicted_row
from fewmark.interop.results.lookups import first_known, has_keys, label, mapping
from fewmark.interop.results.run_rows import PERCENTS, count, positive, rows_to_frame, run_id
from fewmark.interop.results.serving_load import put_load
from fewmark.interop.text.json_text import read_json

_TELLING: Final = ("num_ttft_samples", "wall_time_ms", "gpu_hours")
_METRICS: Final = {"ttft_ms": "ttft", "tpot_ms": "tpot", "e2e_latency_ms": "e2e_latency"}
_RATES: Final = {
    "output_throughput_tok_s": "throughput_tok_s",
    "total_throughput_tok_s": "total_throughput_tok_s",
    "request_throughput_rps": "request_throughput_req_s",
    "goodput_request_throughput_rps": "goodput_req_s",
}


class Aisimulate:
    """One row, ``provenance`` "predicted"."""

    name = "aisimulate"
    description = "AISimulate's prediction.json: a forecast of it, not a measurement"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of a replay's report."""
        modelled = has_keys(head, "duration_ms", "output_throughput_tok_s")
        return 0.95 if modelled and any(has_keys(head, name) for name in _TELLING) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if there is no report in the file."""
        data = read_json(path)
        found = list(_reports(data, {}))
        if not found:
            raise FormatError("a prediction of AISimulate has output_throughput_tok_s", got=type(data).__name__)
        return rows_to_frame([_row(report, around) for report, around in found])


def _reports(data: Json, around: JsonObject) -> Iterator[tuple[JsonObject, JsonObject]]:
    """The reports of a file, at the top or below it, with what stands around them."""
    if isinstance(data, list):
        for item in data:
            yield from _reports(item, around)
    elif isinstance(data, Mapping):
        if "output_throughput_tok_s" in data and ("duration_ms" in data or "mean_ttft_ms" in data):
            yield data, around
            return
        known = {**around, **{key: value for key, value in data.items() if not isinstance(value, (dict, list))}}
        for key in ("metadata", "config", "prediction_config", "deployment", "workload", "engine"):
            known |= {k: v for k, v in mapping(data.get(key)).items() if not isinstance(v, (dict, list))}
        for value in data.values():
            if isinstance(value, (Mapping, list)):
                yield from _reports(value, known)


def _row(report: JsonObject, around: JsonObject) -> Row:
    known = {**around, **report}
    row = predicted_row("aisimulate", label(first_known(known, "aisimulate_version", "tool_version")))
    row.say("engine", label(first_known(known, "backend", "backend_name", "engine")))
    row.say("engine_version", label(first_known(known, "backend_version", "engine_version")))
    row.say("model", label(first_known(known, "model", "model_name", "model_path")))
    row.say("accelerator", label(first_known(known, "system", "system_name", "gpu", "accelerator")))
    row.put("accelerator_count", first_known(known, "num_total_gpus", "total_gpus"))
    done = count(first_known(report, "completed_requests", "num_requests"))
    total = count(report.get("num_requests"))
    put_load(
        row,
        rate=first_known(known, "request_rate", "arrival_rate_rps", "request_rate_rps"),
        cap=first_known(known, "concurrency", "max_concurrency", "replay_concurrency"),
        n_requests=total or 0,
    )
    row.counts(done, None if done is None or total is None else max(0, total - done))
    for way, other in (("input", "isl"), ("output", "osl")):
        tokens = positive(report.get(f"total_{way}_tokens"))
        row.put(f"{way}_tokens", tokens / done if tokens and done else first_known(known, other, f"{way}_length"))
    for key, metric in _METRICS.items():
        samples = count(report.get(f"num_{metric}_samples"))
        if samples == 0:
            continue
        row.put(f"{metric}_s", report.get(f"mean_{key}"), 1e-3)
        for percent in PERCENTS:
            names = (f"p{percent}_{key}", *(("median_" + key,) if percent == 50 else ()))
            row.put(f"{metric}_p{percent}_s", first_known(report, *names), 1e-3)
    for key, name in _RATES.items():
        row.put(name, report.get(key))
    seconds = row.put("duration_s", report.get("duration_ms"), 1e-3)
    good = count(report.get("goodput_completed_requests"))
    if good and seconds:
        row.put("goodput_req_s", good / seconds)
    row.own("gpu_hours", report.get("gpu_hours"))
    row.note("duration_s is modelled time, not the simulator's own")
    row.cells["run_id"] = run_id("aisimulate", done, report.get("duration_ms"), report.get("mean_ttft_ms"))
    return row.finish()
