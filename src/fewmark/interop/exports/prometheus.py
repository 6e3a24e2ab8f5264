"""Prometheus text: a gauge a metric, labels that say what it is of; repeats of a cell are their median.

Forecasts have names of their own (``fewmark_predicted_…``), so that no query takes them for measurements. What a
repeat is not told apart by must not appear twice, since Prometheus refuses two samples with the same labels.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pandas as pd

from fewmark.core import InputError
from fewmark.core.columns import (
    CASE_COLUMNS,
    COUNT_COLUMNS,
    METRIC_COLUMNS,
    OPTION_PREFIX,
    SERVING_COLUMNS,
    WORKLOAD_PREFIX,
)
from fewmark.core.files import write_file
from fewmark.core.metrics import METRICS, PERCENTILE_METRICS
from fewmark.interop.exports.base import MEASUREMENTS, Row, known_rows, measured_rows
from fewmark.interop.table.measurements import PREDICTED
from fewmark.interop.text.cells import number_to_text

_UNITS: Final = (
    ("_tok_s", "_tokens_per_second"), ("_req_s", "_requests_per_second"), ("_w", "_watts"), ("_s", "_seconds"),
)  # fmt: skip
_ENDS: Final = ("low", "high")


@dataclass(frozen=True)
class PrometheusText:
    """The text format of Prometheus, as a node exporter's text-file collector or a push gateway takes it."""

    name = "prometheus"
    description = "Prometheus text: a gauge a metric, forecasts under names of their own"
    takes = MEASUREMENTS
    targets = ()

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """Every row that holds good; returns how many."""
        rows = known_rows(frame)
        forecasts = [row for row in rows if row.get("provenance") == PREDICTED]
        if len(forecasts) < len(rows):
            mine = pd.Series([row.get("provenance") != PREDICTED for row in rows], index=frame.index)
            measured = measured_rows(frame[mine], "Prometheus text")
        else:
            measured = []
        families: dict[str, tuple[str, dict[str, list[float]]]] = {}
        for row in measured:
            _add(families, row, "fewmark_")
        for row in forecasts:
            _add(families, row, "fewmark_predicted_")
        if not families:
            raise InputError("nothing can be written as Prometheus text", got=f"{len(rows)} rows without a value")
        lines = []
        for name in sorted(families):
            told, samples = families[name]
            lines += [f"# HELP {name} {told}", f"# TYPE {name} gauge"]
            lines += [
                f"{name}{labels} {number_to_text(float(statistics.median(values)))}"
                for labels, values in samples.items()
            ]
        write_file(out, "\n".join(lines) + "\n")
        return len(measured) + len(forecasts)


def _add(families: dict[str, tuple[str, dict[str, list[float]]]], row: Row, prefix: str) -> None:
    labels = {
        _label(name): str(row[name])
        for name in row
        if name in CASE_COLUMNS or name.startswith((OPTION_PREFIX, WORKLOAD_PREFIX))
    }
    if "predicted_by" in row:
        labels["predicted_by"] = str(row["predicted_by"])
    for metric in (*METRIC_COLUMNS, *SERVING_COLUMNS, *COUNT_COLUMNS):
        for column, extra in ((metric, {}), *((f"{metric}_{end}", {"bound": end}) for end in _ENDS)):
            if column not in row:
                continue
            base, percent = PERCENTILE_METRICS.get(metric, (metric, None))
            own = {**labels, **extra, **({"quantile": f"{percent / 100:g}"} if percent else {})}
            name = prefix + _unit(base)
            told = METRICS[base].definition if base in METRICS else base.replace("_", " ")
            families.setdefault(name, (told, {}))[1].setdefault(_text(own), []).append(float(row[column]))


def _unit(metric: str) -> str:
    for ending, words in _UNITS:
        if metric.endswith(ending):
            return metric.removesuffix(ending) + words
    return metric


def _label(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def _text(labels: Mapping[str, str]) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in sorted(labels.items())) + "}"
