"""llm-d planner's benchmark data: measured rows, and estimated ones that are forecasts.

Times are milliseconds. A row is taken for measured only if neither it nor the file's metadata says that it was
estimated, interpolated, simulated or synthetic. ``tokens_per_second`` does not follow from the other columns and keeps
its own name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.foreign_predictions import predicted_row
from fewmark.interop.results.lookups import first_known, has_keys, label, mapping, truth
from fewmark.interop.results.run_rows import PERCENTS, RunRow, positive, rows_to_frame, run_id
from fewmark.interop.text.json_text import read_json

_METRICS: Final = {"ttft": "ttft", "e2e": "e2e_latency", "tpot": "tpot"}
_NOT_MEASURED: Final = re.compile(r"(?i)estimat|interpolat|synthetic|simulat|\bblis\b|\bfake\b|\bdummy\b|\bmock")


class LlmdPlanner:
    """One row an entry."""

    name = "llm-d-planner"
    description = "llm-d planner's benchmarks JSON (prompt_tokens, ttft_mean, itl_p95, hardware_count, …)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of an entry."""
        return 0.95 if has_keys(head, "hardware", "prompt_tokens", "ttft_mean", "e2e_mean") else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if there are no benchmarks in the file."""
        data = read_json(path)
        entries = data if isinstance(data, list) else mapping(data).get("benchmarks")
        if not isinstance(entries, list) or not entries:
            raise FormatError("the planner's file has a list of benchmarks", got=list(mapping(data))[:8])
        metadata = mapping(first_known(mapping(data), "metadata", "_metadata"))
        rows = []
        for place, entry in enumerate(entries, start=1):
            if not isinstance(entry, Mapping):
                raise FormatError(f"benchmark {place}: a JSON object is needed", got=entry)
            rows.append(_row(entry, metadata))
        return rows_to_frame(rows)


def _row(entry: JsonObject, metadata: JsonObject) -> Row:
    guessed = not is_measured(entry, metadata)
    row = predicted_row("llm-d-planner", None) if guessed else RunRow("llm-d-planner")
    row.say("engine", label(first_known(entry, "framework", "engine")))
    row.say("engine_version", label(entry.get("framework_version")))
    row.say("model", label(first_known(entry, "model_hf_repo", "model_id", "model_name")))
    row.say("precision", label(entry.get("precision")))
    row.say("accelerator", label(entry.get("hardware")))
    row.put("accelerator_count", entry.get("hardware_count"))
    row.put("tensor_parallel_size", entry.get("tensor_parallel"))
    row.put("input_tokens", first_known(entry, "mean_input_tokens", "prompt_tokens"))
    row.put("output_tokens", first_known(entry, "mean_output_tokens", "output_tokens"))
    if not row.put("concurrency", entry.get("concurrency")):
        row.put("request_rate", entry.get("requests_per_second"))
    for key, metric in _METRICS.items():
        row.put(f"{metric}_s", entry.get(f"{key}_mean"), 1e-3)
        for percent in PERCENTS:
            row.put(f"{metric}_p{percent}_s", entry.get(f"{key}_p{percent}"), 1e-3)
    row.put("itl_s", entry.get("itl_mean"), 1e-3)
    for percent in PERCENTS:
        row.put(f"itl_p{percent}_s", entry.get(f"itl_p{percent}"), 1e-3)
    row.own("tokens_per_second", first_known(entry, "tokens_per_second_mean", "tokens_per_second"))
    row.say("estimation_method", label(entry.get("estimation_method")))
    row.note("lengths are those asked for")
    facts = (entry.get(name) for name in ("hardware", "hardware_count", "prompt_tokens", "ttft_mean", "e2e_mean"))
    row.cells["run_id"] = run_id(
        "llm-d-planner", row.cells.get("model"), *facts, positive(entry.get("requests_per_second"))
    )
    return row.finish()


def is_measured(entry: JsonObject, metadata: JsonObject) -> bool:
    """Whether nothing says that an entry was made up."""
    if truth(entry.get("estimated")) is True or truth(entry.get("synthetic")) is True:
        return False
    words = [*(str(value) for value in metadata.values() if isinstance(value, str))]
    words += [str(entry.get(name)) for name in ("source", "estimation_method", "provider", "type", "confidence")]
    said_so = truth(entry.get("estimated")) is False
    return said_so or not any(_NOT_MEASURED.search(text) for text in words)
