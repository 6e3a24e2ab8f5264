"""GuideLLM's ``benchmarks.csv``: three rows of headers (group, name, statistic), or one with all words run together.

A cell of percentiles is a bare list of eleven numbers: minimum, 0.1, 1, 5, 10, 25, 75, 90, 95, 99 and maximum. The 50th
is not among them, though the JSON report's eleven have it; the median stands in a column of its own.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import Json
from fewmark.interop.formats.guidellm.benchmark import (
    TOOL,
    count_all,
    fail_without_success,
    put_distributions,
    put_strategy,
)
from fewmark.interop.results.run_rows import RunRow, count, nested, rows_to_frame
from fewmark.interop.text.csv_text import separator_of
from fewmark.interop.text.decimal_mark import with_points
from fewmark.interop.text.json_text import head_text, read_text

_PLACES: Final = ("min", "p001", "p01", "p05", "p10", "p25", "p75", "p90", "p95", "p99", "max")
_METRICS: Final = (
    (r"request latency( successful)?( sec)?", "request_latency"),
    (r"time to first token( successful)?( ms)?", "time_to_first_token_ms"),
    (r"time per output token( successful)?( ms)?", "time_per_output_token_ms"),
    (r"inter[ -]token latency( successful)?( ms)?", "inter_token_latency_ms"),
    (r"(server throughput )?(successful )?requests(/sec| per second)", "requests_per_second"),
    (r"(server throughput )?(successful )?(request )?concurrency", "request_concurrency"),
    (r"(token metrics )?(successful )?(input|prompt) tokens?( count)?", "prompt_token_count"),
    (r"(token metrics )?(successful )?output tokens?( count)?", "output_token_count"),
    (r"(token throughput )?(successful )?output tokens(/sec| per second)", "output_tokens_per_second"),
    (r"(token throughput )?(successful )?total tokens(/sec| per second)", "tokens_per_second"),
    (r"(token throughput )?(successful )?tokens(/sec| per second)", "tokens_per_second"),
    (r"(token streaming )?(successful )?iter tokens/iter", "iter_tokens_per_iteration"),
)
_STATISTICS: Final = {"mean": "mean", "median": "median", "std dev": "std_dev"}
_CUT: Final = "the file may be cut"
_LIST: Final = re.compile(r" (percentiles|\[min.*max\])$")
_OTHER_PART: Final = re.compile(r"\b(errored|incomplete|total)\b")


class GuidellmCsv:
    """GuideLLM's CSV, with one or three rows of headers."""

    name = "guidellm-csv"
    description = "GuideLLM's benchmarks.csv (Request Counts, Time to First Token, Successful ms, Mean, …)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the words of its headers."""
        words = head_text(head)[:20_000].lower()
        if words.lstrip()[:1] in ("{", "["):
            return 0.0
        if re.match(r"run info[,;\t]", words) and "request counts" in words:
            return 0.95
        old = re.search(r"inter[ -]token latency (successful )?ms mean", words)
        return 0.9 if old and "successful" in words else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row a benchmark. Raises `FormatError`."""
        try:
            text = read_text(path)
            separator = separator_of(text.partition("\n")[0])
            found = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
            lines = [line for line in found if line]
        except csv.Error as error:
            raise FormatError("the file is not well-formed CSV", got=str(error)) from None
        n_headers = 3 if lines[0][0].strip().lower() == "run info" and len(lines) > 2 else 1
        if len({len(line) for line in lines[:n_headers]}) != 1:
            raise FormatError("the headers of GuideLLM's CSV differ in length", hint=_CUT)
        headers = zip(*lines[:n_headers], strict=True)
        names = [" ".join(part.strip() for part in parts if part.strip()).lower() for parts in headers]
        if separator != "," and all(len(line) == len(names) for line in lines):
            held = {f"{i} ({names[i]})": list(cells) for i, cells in enumerate(zip(*lines, strict=True))}
            data = with_points(held, separator)
            lines = list(map(list, zip(*data.values(), strict=True)))
        if len(lines) == n_headers:
            raise FormatError("GuideLLM's CSV has headers and no row of data")
        rows = []
        for position, line in enumerate(lines[n_headers:], start=1):
            if len(line) != len(names):
                raise FormatError(f"row {position}: {len(names)} fields are needed, not {len(line)}", hint=_CUT)
            rows.append(_row(names, line, position))
        return rows_to_frame(rows)


def _row(names: list[str], line: list[str], position: int) -> Row:
    row = RunRow(TOOL)
    parts: dict[str, dict[str, Json]] = {}
    cells: dict[str, str] = {}
    for name, cell in zip(names, line, strict=True):
        if not cell.strip():
            continue
        cells.setdefault(name, cell)
        _statistic(parts, name, cell, position)
    row.say("run_id", cells.get("benchmark id") or cells.get("id"))
    backend = _json(cells.get("run info backend", ""))
    row.say("model", nested(backend, "model") or nested(_json(cells.get("runtime info arguments", "")), "model"))
    row.say("tool_version", nested(_json(cells.get("runtime info metadata", "")), "guidellm_version"))
    kind, _, load = (cells.get("benchmark strategy") or cells.get("name") or "").partition("@")
    put_strategy(row, {"type_": kind.strip(), "streams": load, "rate": load} if load else {"type_": kind.strip()})
    if "request_rate" in row.cells:
        row.note("the CSV rounds the rate to two decimals")
    row.put("duration_s", cells.get("timings duration sec") or cells.get("duration"))
    done, cut, errored = (
        count(cells.get(f"request counts {key}") or cells.get(f"{key} requests"))
        for key in ("successful", "incomplete", "errored")
    )
    row.counts(done, errored)
    if cut:
        row.note(f"{cut} more requests were cut off at the end")
    if done == 0:
        fail_without_success(row, errored, cut, [])
        return row.finish()
    put_distributions(row, parts)
    count_all(row, done or 0)
    return row.finish()


def _statistic(parts: dict[str, dict[str, Json]], name: str, cell: str, position: int) -> None:
    listed = _LIST.search(name)
    statistic = next((key for words, key in _STATISTICS.items() if name.endswith(f" {words}")), None)
    if not listed and statistic is None:
        return
    base = name[: listed.start()] if listed else name.removesuffix(f" {statistic}".replace("_", " "))
    words = base.replace("successful ", "", 1).replace(" successful", "", 1) if base.startswith("successful") else base
    if _OTHER_PART.search(base) and "total tokens" not in base:
        return
    matches = (key for pattern, key in _METRICS if re.fullmatch(pattern, words) or re.fullmatch(pattern, base))
    metric = next(matches, None)
    if metric is None:
        return
    part = parts.setdefault(metric, {})
    if not listed:
        part.setdefault(str(statistic), cell)
        return
    values = _json(cell)
    if not isinstance(values, list) or len(values) != len(_PLACES):
        raise FormatError(f"row {position}: {name} must be a list of {len(_PLACES)} numbers", got=cell)
    part.setdefault("percentiles", dict(zip(_PLACES, values, strict=True)))


def _json(cell: str) -> Json:
    try:
        value = json.loads(cell) if cell else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, (Mapping, list)) else {}
