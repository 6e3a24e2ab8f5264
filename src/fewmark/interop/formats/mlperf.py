"""MLPerf inference results as MLCommons' web page exports them: tab-separated, UTF-16, column names twice.

A result is a best throughput of a scenario: Offline (all samples at once), Server and Interactive (the highest rate
that meets the latency limits), or a 90th percentile of the latency of single requests (SingleStream). Lengths of
prompts and answers and the load are not in the file, so no row is a cell by itself. Results of models without tokens
count samples.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.interop.results.lookups import accelerator_name, label
from fewmark.interop.results.run_rows import RunRow, number, rows_to_frame, run_id
from fewmark.interop.text.json_text import head_text

_BOMS: Final = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_NEEDED: Final = ("scenario", "units", "organization")
_TITLES: Final = 3  # lines above the header
_RESULTS: Final = ("avg. result", "result", "performance")
_MODELS: Final = ("model mlc", "model", "benchmark")


class Mlperf:
    """One row a result; the submitter's claims, reviewed by MLCommons."""

    name = "mlperf"
    description = "MLPerf inference results exported by MLCommons (tab-separated, UTF-16)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the header."""
        return 0.95 if _table_of(head_text(head[: len(head) // 2 * 2])) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` on another header, or a result that is no number."""
        text = _text(path.read_bytes())
        text = _table_of(text) or text
        delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(line)]
        if not lines:
            raise FormatError("the file is empty", got=path.name)
        names = [name.strip().lower() for name in lines[0]]
        missing = [name for name in _NEEDED if name not in names]
        if missing:
            raise FormatError(f"MLPerf's results have columns {', '.join(missing)}", got=lines[0])
        return rows_to_frame([_row(names, line, place) for place, line in enumerate(lines[1:], start=1)])


def _table_of(text: str) -> str:
    """The text from its header on, which a title may stand above; nothing without one."""
    text = text.lstrip("\ufeff")
    for _ in range(_TITLES + 1):
        line, _, below = text.partition("\n")
        if "public id" in (words := line.lower()) and all(name in words for name in _NEEDED):
            return text
        text = below
    return ""


def _text(raw: bytes) -> str:
    encoding = next((name for mark, name in _BOMS if raw.startswith(mark)), "utf-8-sig")
    if encoding != "utf-8-sig":
        raw = raw[: len(raw) // 2 * 2]  # exports end in half a character
    try:
        return raw.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise FormatError("the file is not UTF-16 or UTF-8 text", got=str(error)) from None


def _row(names: Sequence[str], line: Sequence[str], place: int) -> Row:
    if len(line) != len(names):
        raise FormatError(
            f"row {place}: {len(names)} fields are needed, not {len(line)}", got=line, hint="the file was cut short"
        )

    def cell(*prefixes: str) -> str | None:
        for prefix in prefixes:
            for name, value in zip(names, line, strict=True):
                if name.startswith(prefix) and value.strip():
                    return value.strip()
        return None

    value = number((cell(*_RESULTS) or "").replace(",", ""))
    if value is None:
        raise FormatError(f"row {place}: the result must be a number", got=cell(*_RESULTS))
    units, scenario = (cell("units") or "").lower(), cell("scenario")
    row = RunRow("mlperf")
    row.say("model", label(cell(*_MODELS)))
    total, older = number(cell("total accelerators")), "# of accelerators" in names
    if older and number(cell("# of nodes")) == 1:  # of a node, or of all of them
        total = number(cell("# of accelerators"))
    if total or (older and label(cell("accelerator")) and number(cell("# of accelerators"))):
        row.say("accelerator", accelerator_name(cell("accelerator (", "accelerator name", "accelerator")))
        row.put("accelerator_count", total)
    else:
        row.say("accelerator", label(cell("processor")))
        row.put("accelerator_count", cell("# of  processors", "# of processors"))
    row.say("option.scenario", scenario)
    row.say("organization", cell("organization"))
    row.say("system", cell("system name"))
    row.say("division", cell("division"))
    row.say("availability", cell("availability"))
    row.put("nodes", cell("# of nodes"))
    row.say("software", cell("software"))
    if units.startswith("tokens/s"):
        row.put("throughput_tok_s", value)
    elif units.startswith(("samples/s", "queries/s")):
        row.put("request_throughput_req_s", value)
    elif units.startswith("latency"):
        row.put("e2e_latency_p90_s", value, 1e-3 if "ms" in units else 1.0)
        row.put("concurrency", 1)
        row.note("a 90th percentile, as the scenario defines it")
    else:
        row.own("result", value)
        row.note(f"a result in {units or 'unknown units'}")
    row.note("a best result under the rules of its scenario; lengths and load are not in the file")
    row.cells["run_id"] = run_id("mlperf", cell("public id"), row.cells.get("model"), scenario, units)
    return row.finish()
