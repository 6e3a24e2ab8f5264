"""The exporters that there are, by name, and their settings."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from importlib.metadata import entry_points
from typing import Final

from fewmark.core import InputError
from fewmark.core.json_types import Json
from fewmark.interop.exports.base import Exporter

GROUP: Final = "fewmark.exporters"
_BUILT_IN: Final = {
    "csv": "tables:CsvTable",
    "parquet": "tables:ParquetTable",
    "json": "tables:JsonTable",
    "llmd-benchmark-report": "benchmark_report:BenchmarkReports",
    "inferencex": "inferencex:InferencexRows",
    "prometheus": "prometheus:PrometheusText",
    "mlflow": "mlflow:MlflowRuns",
    "aiconfigurator": "aiconfigurator:AiconfiguratorTable",
    "dynamo": "dynamo:DynamoProfile",
    "vllm-bench": "vllm_bench:VllmBenchCommands",
    "llmd-treatments": "llmd_treatments:LlmdTreatments",
    "serve-command": "serve_command:ServeCommand",
    "kubernetes": "kubernetes:KubernetesManifest",
}
SUFFIXES: Final = {".csv": "csv", ".parquet": "parquet", ".json": "json", ".prom": "prometheus", ".npz": "dynamo"}


def exporter_names() -> list[str]:
    """The names of all exporters: the built-in ones, then those of third parties (entry points)."""
    return list(dict.fromkeys([*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))]))


def make_exporter(name: str, settings: Mapping[str, str] | None = None) -> Exporter:
    """The exporter of that name with its settings, texts as on the command line.

    Raises
    ------
    InputError
        If there is no such exporter or setting, or a setting has no sensible value.
    """
    kind = _kind(name)
    settable: list[Field[object]] = [item for item in fields(kind) if item.init] if is_dataclass(kind) else []
    known = {item.name: str(item.type) for item in settable}
    values: dict[str, Json] = {}
    for key, text in (settings or {}).items():
        if key not in known:
            hint = f"known: {', '.join(known)}" if known else "it has none"
            raise InputError(f"the format {name} has no setting {key}", got=text, hint=hint)
        values[key] = _typed(key, text, known[key])
    made = kind(**values)
    if not isinstance(made, Exporter):
        raise InputError(f"the exporter {name} lacks what an exporter needs", got=type(made).__name__)
    return made


def _kind(name: str) -> type[Exporter]:
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        built_in: type[Exporter] = getattr(importlib.import_module(f"fewmark.interop.exports.{module}"), attribute)
        return built_in
    points = [point for point in entry_points(group=GROUP) if point.name == name]
    if not points:
        raise InputError("unknown format to write", got=name, hint=f"one of {', '.join(exporter_names())}")
    try:
        loaded: type[Exporter] = points[0].load()
        return loaded
    except Exception as error:  # whatever a third party's code raises
        raise InputError(f"the exporter {name} cannot be loaded", got=error, hint=points[0].value) from error


def _typed(key: str, text: str, kind: str) -> str | bool | int:
    if "int" not in kind and "bool" not in kind:
        return text
    if "bool" in kind and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if value < 1 or not value.is_integer():
        raise InputError(f"{key} must be a whole number of at least 1", got=text)
    return int(value)
