"""``profile_export_aiperf.csv`` and ``profile_export_genai_perf.csv``, where nothing better lies beside them.

Parts follow one another, each with a header: ``Metric,avg,min,…`` for the statistics of requests, ``Metric,Value`` for
single numbers, all rounded. A metric's unit stands behind its name. The load is not in the table, but in the folder's
name, as both tools name it unless they are told otherwise.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.json_types import Json
from fewmark.interop.formats.aiperf.metrics import run_row
from fewmark.interop.results.run_rows import rows_to_frame
from fewmark.interop.text.csv_text import header_of, separator_of
from fewmark.interop.text.decimal_mark import with_points
from fewmark.interop.text.json_text import read_text

_METRIC: Final = re.compile(r"^(?P<name>[^()]+?)\s*(?:\((?P<unit>[^()]*)\))?$")
_LOAD: Final = re.compile(r"(?P<kind>concurrency|request_rate)_?(?P<value>\d+(?:\.\d+)?)$")
_NEEDED: Final = frozenset(("Metric", "avg", "min", "max", "p99"))
_TOLD: Final = (b"Request Latency", b"Error Request Count")


class AiperfTable:
    """The table of one run, unless its report or its requests lie beside it."""

    name = "aiperf-csv"
    description = "the CSV of AIPerf or genai-perf (Metric, avg, min, max, p99, …) without its JSON"

    def sniff(self, path: Path, head: bytes) -> float:
        """By its header, where there is no richer file of the run."""
        header = header_of(head)
        if header[:1] != ["Metric"] or not set(header) >= _NEEDED or not any(one in head for one in _TOLD):
            return 0.0
        richer = (path.with_suffix(".json"), path.with_name("profile_export.jsonl"))
        return 0.0 if any(other.is_file() for other in richer) else 0.9

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table, one row. Raises `FormatError`."""
        metrics = _metrics(read_text(path))
        if "request_latency" not in metrics and "error_request_count" not in metrics:
            raise FormatError("the table has no request latency", got=sorted(metrics)[:12])
        load = _LOAD.search(path.resolve().parent.name)
        asked = {"parameters": {load["kind"]: load["value"]}} if load else {}
        row = run_row(metrics, asked, "genai-perf" if "genai" in path.name else "aiperf", "console")
        row.note("read from a rounded table, " + ("the load from its folder's name" if load else "which says no load"))
        return rows_to_frame([row.finish()])


def _metrics(text: str) -> dict[str, Json]:
    """The metrics of all parts, as the report has them. Raises `FormatError` on a row of another length."""
    separator = separator_of(text.lstrip().partition("\n")[0])
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator))
    except csv.Error as error:
        raise FormatError("the file is not well-formed CSV", got=str(error)) from None
    found: dict[str, Json] = {}
    names: list[str] = []
    plain = with_points({str(place): line[1:] for place, line in enumerate(lines, start=1)}, separator)
    for place, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in line]
        if not any(cells):
            names = []
        elif not names:
            names = ["avg" if name == "Value" else name for name in cells]
        elif names[0] == "Metric" and (named := _METRIC.match(cells[0])):
            if len(cells) != len(names):
                raise FormatError(f"line {place}: {len(names)} fields are needed, not {len(cells)}", got=line)
            numbers = [cell.strip() for cell in plain[str(place)]]
            key = "_".join(named["name"].lower().split())
            known = {name: cell for name, cell in zip(names[1:], numbers, strict=True) if cell not in ("", "N/A")}
            found.setdefault(key, {"unit": named["unit"] or "", **known})
    return found
