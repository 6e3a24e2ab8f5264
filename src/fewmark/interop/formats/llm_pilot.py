"""LLM-Pilot's raw measurements (IBM): a CSV row a request, milliseconds, closed loops of users.

The first message of a stream announces the request and holds no token: the first token comes with the second one.
``experiment_duration_s`` is the time for which users sent; rates are over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.interop.results.lookups import label
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import RunRow, failure_status, number, positive, rows_to_frame, run_id
from fewmark.interop.text.csv_text import header_of, read_columns
from fewmark.interop.text.json_text import parse_json

_NEEDED: Final = ("num_users", "latency_ms", "n_output_tokens", "timestamps_per_token", "start_timestamp", "status")
_KEYS: Final = ("model", "gpu_type", "n_gpus", "num_users", "experiment_duration_s")


class LlmPilot:
    """One row a level of users."""

    name = "llm-pilot"
    description = "LLM-Pilot's raw CSV, a row a request (num_users, latency_ms, timestamps_per_token, …)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the header."""
        return 0.95 if set(header_of(head)) >= set(_NEEDED) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` on another header, or a cell that cannot be read."""
        columns = read_columns(path)
        missing = sorted(set(_NEEDED) - set(columns))
        if missing:
            raise FormatError(f"LLM-Pilot's measurements have columns {', '.join(missing)}", got=list(columns))
        levels: dict[tuple[str, ...], list[int]] = {}
        for place in range(len(columns["status"])):
            key = tuple(columns[name][place] if name in columns else "" for name in _KEYS)
            levels.setdefault(key, []).append(place)
        return rows_to_frame(
            [_row(dict(zip(_KEYS, key, strict=True)), columns, places) for key, places in levels.items()]
        )


def _row(what: dict[str, str], columns: dict[str, list[str]], places: Sequence[int]) -> Row:
    records, errors = RequestRecords(), []
    for place in places:
        latency, first = positive(columns["latency_ms"][place]), None
        trouble = columns["errors"][place].strip() if "errors" in columns else ""
        if columns["status"][place].strip() not in ("200", "200.0", "OK", "ok") or trouble not in ("", "[]", "0"):
            errors.append(trouble or columns["status"][place])
            continue
        stamps, start = (
            _times(columns["timestamps_per_token"][place], place + 1),
            number(columns["start_timestamp"][place]),
        )
        if start is not None and len(stamps) > 1:
            first = positive((stamps[1] - start) / 1e3)
        records.add(
            None if latency is None else latency / 1e3,
            first,
            positive(columns["n_input_tokens"][place]) if "n_input_tokens" in columns else None,
            positive(columns["n_output_tokens"][place]),
        )
    row = RunRow("llm-pilot", "requests")
    row.say("model", label(what["model"]))
    row.say("accelerator", label(what["gpu_type"]))
    row.put("accelerator_count", what["n_gpus"])
    row.put("concurrency", what["num_users"])
    seconds = row.put("duration_s", what["experiment_duration_s"])
    row.counts(len(records), len(errors))
    recomputed = records.statistics(seconds)
    row.cells["run_id"] = run_id("llm-pilot", *what.values(), len(records), recomputed.get("e2e_latency_s"))
    if not len(records):
        row.fail(failure_status(errors), f"all {len(errors)} requests failed")
        return row.finish()
    row.cells |= recomputed
    row.note("recomputed from single requests; the first message of a stream holds no token")
    if records.bounds():
        row.note(records.bounds())
    return row.finish()


def _times(text: str, place: int) -> list[float]:
    value = parse_json(text) if text.strip() else []
    if not isinstance(value, list) or any(number(item) is None for item in value):
        raise FormatError(f"row {place}: timestamps_per_token must be a list of numbers", got=text)
    return [float(item) for item in value]
