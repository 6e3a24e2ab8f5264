"""optimum-benchmark: ``benchmark.json`` with config and report, ``benchmark_report.json`` beside its config, or CSV.

Generation of a static batch: ``prefill`` ends with the first token; ``decode`` is the rest. Its throughputs count the
prompt's tokens (prefill) and all tokens but the first (decode). ``stdev_`` is a percentage of the mean, and a ``stdev``
of 0 from a single value says nothing; both are left out. A report with ``forward`` alone generated no token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.results.lookups import accelerator_name, first_known, has_keys, label, mapping, sibling
from fewmark.interop.results.run_rows import RunRow, nested, number, positive, rows_to_frame, run_id
from fewmark.interop.text.cells import text_to_cell
from fewmark.interop.text.csv_text import header_of, read_columns
from fewmark.interop.text.json_text import read_json

_LATENCY: Final = "latency"
_JOULES: Final = 3.6e6  # a kilowatt hour


class OptimumBenchmark:
    """One row a report, the medians over its runs."""

    name = "optimum-benchmark"
    description = "optimum-benchmark: benchmark.json (config, report), benchmark_report.json, or CSV"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the configuration's or the report's keys."""
        if has_keys(head, "config", "backend", "scenario") or has_keys(head, "config", "backend", "benchmark"):
            return 0.9
        if any(name.startswith(("report.prefill.latency", "report.forward.latency")) for name in header_of(head)):
            return 0.95
        parts = has_keys(head, "latency", "unit", "values", "throughput", "efficiency")
        return (
            0.8 if parts and (has_keys(head, "prefill") or has_keys(head, "forward") or has_keys(head, "load")) else 0.0
        )

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if there is no report in the file."""
        if path.suffix.lower() == ".csv":
            return rows_to_frame([_row(*_unflattened(path, place)) for place in range(_n_rows(path))])
        data = mapping(read_json(path))
        report = mapping(data.get("report")) or data
        config = mapping(data.get("config")) or sibling(path, "benchmark_config.json")
        return rows_to_frame([_row(config, report)])


def _row(config: JsonObject, report: JsonObject) -> Row:
    backend, environment = mapping(config.get("backend")), mapping(config.get("environment"))
    scenario = mapping(first_known(config, "scenario", "benchmark"))
    shapes = mapping(scenario.get("input_shapes"))
    row = RunRow("optimum-benchmark")
    row.say("engine", label(backend.get("name")))
    row.say("engine_version", label(backend.get("version")))
    row.say("model", label(backend.get("model")))
    row.say("precision", label(first_known(backend, "quantization_scheme", "torch_dtype", "dtype", "precision")))
    row.say("task", label(backend.get("task")))
    row.say("tool_version", label(environment.get("optimum_benchmark_version")))
    _hardware(row, backend, environment)
    batch, length = positive(shapes.get("batch_size")), positive(shapes.get("sequence_length"))
    row.put("batch_size", batch)
    row.put("input_tokens", length)
    prefill, n_prefill = _median_s(report, "prefill")
    decode, n_decode = _median_s(report, "decode")
    forward, n_forward = _median_s(report, "forward")
    row.cells["statistic"] = "median"
    if prefill is not None:
        _generation(row, config, report, prefill, decode, n_decode or n_prefill)
    elif forward is not None:
        row.put("n_repeats", n_forward)
        if row.cells.get("task") == "text-generation":
            row.put("output_tokens", 1)
            row.put("ttft_s", forward)
            row.note("a forward pass over the prompt alone")
        else:
            row.note("no token was generated: the latency is of one forward pass")
        row.put("e2e_latency_s", forward)
    else:
        raise FormatError("the report has neither prefill nor forward latencies", got=list(report))
    row.cells["run_id"] = run_id("optimum-benchmark", config.get("name"), prefill, decode, forward)
    return row.finish()


def _generation(
    row: RunRow,
    config: JsonObject,
    report: JsonObject,
    prefill: float,
    decode: float | None,
    runs: int | None,
) -> None:
    scenario = mapping(first_known(config, "scenario", "benchmark"))
    options = mapping(scenario.get("generate_kwargs"))
    tokens = positive(first_known({**scenario, **options}, "max_new_tokens", "new_tokens"))
    least = positive(options.get("min_new_tokens"))
    batch = row.known("batch_size")
    row.put("n_repeats", runs)
    row.put("ttft_s", prefill)
    rate = positive(nested(report, "decode", "throughput", "value"))
    if decode is not None and rate and batch:  # what was really generated: (n − 1) of each sequence
        made = round(rate * (positive(nested(report, "decode", _LATENCY, "mean")) or decode) / batch) + 1
        tokens = tokens if tokens is not None and abs(made - tokens) <= 1 else float(made)
    elif tokens and least != tokens:
        row.note("output_tokens is the limit asked for; answers may have been shorter")
    if decode is None:
        row.cells |= {"output_tokens": 1, "e2e_latency_s": prefill}
        return
    row.put("output_tokens", tokens)
    row.put("e2e_latency_s", prefill + decode)
    if tokens and tokens > 1:
        row.put("tpot_s", decode / (tokens - 1))
        if batch:
            row.put("throughput_tok_s", batch * tokens / (prefill + decode))
            row.put("decode_throughput_tok_s", batch * (tokens - 1) / decode)
    energy = number(nested(report, "decode", "energy", "total"))
    if energy and str(nested(report, "decode", "energy", "unit")).lower() == "kwh":
        row.own("decode_energy_j", energy, _JOULES)
        row.note("energy is codecarbon's, whose memory is guessed from its size, and a processor without a meter too")
    row.note("e2e is prefill and decode added; decode throughput leaves the first token out")


def _hardware(row: RunRow, backend: JsonObject, environment: JsonObject) -> None:
    device = str(backend.get("device") or "").lower()
    gpus = environment.get("gpu")
    if device in ("cuda", "gpu", "rocm") and isinstance(gpus, list) and gpus:
        row.say("accelerator", accelerator_name(gpus[0]))
        ids = [part for part in str(first_known(backend, "device_ids") or "").split(",") if part.strip()]
        row.cells["accelerator_count"] = len(ids) if ids else 1
        if not ids and len(gpus) > 1:
            row.note("which of several accelerators were used is not said; one is assumed to be")
            del row.cells["accelerator_count"]
    elif device == "cpu":
        row.say("accelerator", accelerator_name(environment.get("cpu")))
    elif device:
        row.say("accelerator", device)


def _median_s(report: JsonObject, part: str) -> tuple[float | None, int | None]:
    latency = mapping(nested(report, part, _LATENCY))
    scale = 1e-3 if latency.get("unit") == "ms" else 1.0
    values = latency.get("values")
    known = sorted(found for value in values if (found := positive(value))) if isinstance(values, list) else []
    if known:
        half = len(known) // 2
        return (known[half] if len(known) % 2 else (known[half - 1] + known[half]) / 2) * scale, len(known)
    found = positive(first_known(latency, "p50", "mean"))
    return (None if found is None else found * scale), None


def _n_rows(path: Path) -> int:
    return len(next(iter(read_columns(path).values())))


def _unflattened(path: Path, place: int) -> tuple[JsonObject, JsonObject]:
    """The configuration and report behind a row of columns such as ``report.prefill.latency.mean``."""
    tree: dict[str, Json] = {}
    for name, cells in read_columns(path).items():
        value = text_to_cell(cells[place])
        at, keys = tree, name.split(".")
        for key in keys[:-1]:
            under = at.setdefault(key, {})
            if not isinstance(under, dict):
                raise FormatError(f"the column {name} contradicts another", got=name)
            at = under
        at[keys[-1]] = value
    return mapping(tree.get("config")), mapping(tree.get("report"))
