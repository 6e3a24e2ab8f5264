"""llm-d's Benchmark Report 0.2.1: one YAML file a measurement; a folder where there are several.

The schema has no static batch, no unknown engine version and no unknown degree of parallelism: a batch is written as
that concurrency, an unknown version as an empty text, an unknown degree as 0. The row itself stands in
``scenario.load.native.config``, so that reading the report back loses nothing of what the measurement is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pandas as pd
import yaml

import fewmark
from fewmark.core import InputError
from fewmark.core.columns import CASE_COLUMNS, OPTION_PREFIX, WORKLOAD_PREFIX
from fewmark.core.files import write_file
from fewmark.core.frozen import content_hash
from fewmark.core.metrics import PERCENTS
from fewmark.interop.exports.base import MEASUREMENTS, Row, folder, load_of, measured_rows

VERSION: Final = "0.2.1"
_LATENCIES: Final = {
    "time_to_first_token": ("ttft", "s"),
    "time_per_output_token": ("tpot", "s/token"),
    "inter_token_latency": ("itl", "s/token"),
    "request_latency": ("e2e_latency", "s"),
}
_RATES: Final = {
    "output_token_rate": ("throughput_tok_s", "tokens/s"),
    "total_token_rate": ("total_throughput_tok_s", "tokens/s"),
    "request_rate": ("request_throughput_req_s", "queries/s"),
}


@dataclass(frozen=True)
class BenchmarkReports:
    """Benchmark Reports of measurements; `experiment` is their common ``run.eid``."""

    experiment: str = ""

    name = "llmd-benchmark-report"
    description = "llm-d's Benchmark Report 0.2.1, a YAML file for each measurement (OUT is a folder for several)"
    takes = MEASUREMENTS
    targets = ()

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """One report a row that was measured in full."""
        rows = measured_rows(frame, "a Benchmark Report")
        reports = [report_of(row, self.experiment) for row in rows]
        if not out.endswith((".yaml", ".yml")):
            place = folder(out)
            for row, report in zip(rows, reports, strict=True):
                write_file(place / f"{_uid(row)}.yaml", _text(report))
        elif len(reports) == 1:
            write_file(out, _text(reports[0]))
        else:
            raise InputError("a Benchmark Report holds one measurement", got=len(reports), hint="name a folder instead")
        return len(reports)


def _uid(row: Row) -> str:
    return f"fewmark-{content_hash(row)}"


def report_of(row: Row, experiment: str = "") -> dict[str, object]:
    """The report of one row."""
    run: dict[str, object] = {"uid": _uid(row), "keywords": ["fewmark", str(row.get("provenance", "measured"))]}
    if experiment:
        run["eid"] = experiment
    if "note" in row:
        run["description"] = str(row["note"])
    aggregate: dict[str, object] = {}
    if (requests := _requests(row)) is not None:
        aggregate["requests"] = requests
    latency = {name: found for name, (stem, unit) in _LATENCIES.items() if (found := _statistics(row, stem, unit))}
    rates = {name: {"units": unit, "mean": row[metric]} for name, (metric, unit) in _RATES.items() if metric in row}
    aggregate |= {name: part for name, part in (("latency", latency), ("throughput", rates)) if part}
    results: dict[str, object] = {"request_performance": {"aggregate": aggregate}}
    if "power_w" in row:
        power = {"power_consumption": {"units": "Watts", "mean": row["power_w"]}}
        results["observability"] = {"components": [{"component_label": "engine", "aggregate": power}]}
    return {
        "version": VERSION,
        "run": run,
        "scenario": {"stack": [_engine(row)], "load": _load(row)},
        "results": results,
    }


def _requests(row: Row) -> dict[str, object] | None:
    done, failed = row.get("n_requests"), row.get("n_failed", 0)
    if done is None and "batch_size" in row and "n_repeats" in row:
        done = row["batch_size"] * row["n_repeats"]
    if done is None:
        return None
    lengths = {
        f"{way}_length": {"units": "count", "mean": row[f"{way}_tokens"]}
        for way in ("input", "output")
        if f"{way}_tokens" in row
    }
    return {"total": done + failed, "failures": failed, **lengths}


def _statistics(row: Row, stem: str, unit: str) -> dict[str, object]:
    if f"{stem}_s" not in row:  # the schema has no statistic without its mean
        return {}
    percentiles = {f"p{p}": row[f"{stem}_p{p}_s"] for p in PERCENTS if f"{stem}_p{p}_s" in row}
    return {"units": unit, "mean": row[f"{stem}_s"], **percentiles}


def _engine(row: Row) -> dict[str, object]:
    known = {name: row[name] for name in row if name in CASE_COLUMNS or name.startswith(OPTION_PREFIX)}
    version = {"tool": row.get("engine", ""), "tool_version": str(row.get("engine_version", ""))}
    if {"engine", "model", "accelerator", "accelerator_count"} <= row.keys():
        count = row["accelerator_count"]
        degree = row.get("tensor_parallel_size", 1 if count == 1 else 0)
        standardized = {
            **{"kind": "inference_engine", **version, "role": "replica", "replicas": 1},
            "model": {"name": row["model"]},
            "accelerator": {"model": row["accelerator"], "count": count, "parallelism": {"tp": degree}},
        }
    else:
        standardized = {"kind": "generic", **version}
    metadata = {"label": "engine", "cfg_id": content_hash(known)}
    return {"metadata": metadata, "standardized": standardized, "native": {"config": known}}


def _load(row: Row) -> dict[str, object]:
    kind, value = load_of(row)
    lengths = {
        f"{way}_seq_len": {"distribution": "other", "value": row[f"{way}_tokens"]}
        for way in ("input", "output")
        if f"{way}_tokens" in row
    }
    asked = {"rate_qps": value} if kind == "request_rate" else {"concurrency": int(value)}
    standardized = {
        "tool": "fewmark",
        "tool_version": fewmark.__version__,
        "source": "unknown",
        **lengths,
        **asked,
    }
    identity = {
        name: row[name] for name in row if name in CASE_COLUMNS or name.startswith((OPTION_PREFIX, WORKLOAD_PREFIX))
    }
    return {
        "metadata": {"cfg_id": content_hash(identity)},
        "standardized": standardized,
        "native": {"config": row},
    }


def _text(report: dict[str, object]) -> str:
    return yaml.safe_dump(report, sort_keys=False, allow_unicode=True)
