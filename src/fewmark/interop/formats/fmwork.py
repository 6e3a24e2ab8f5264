"""FMwork: log lines tagged ``FMWORK GEN`` and ``FMWORK RES`` in three dialects, and the CSV and JSON of its scripts.

A static batch. Per line, with med = duration of the whole run, oo = output tokens, bb = batch:

* GEN knows the first token's time from a run with one output token: gen = med − ttft, ``itl`` = gen/oo, ``thp`` =
  bb·oo/gen, prefill excluded. TPOT here is gen/(oo − 1);
* RES knows the whole run only: ``itl`` = med/oo, ``thp`` = bb·oo/med, prefill included.

A cell of which both are logged is one row, the GEN line's. Which of two columns is gen is told by itl·oo, since the
script that writes the CSV has ttft and gen swapped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError, Status
from fewmark.core.cells import Row
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.lookups import has_keys, label
from fewmark.interop.results.run_rows import RunRow, count, number, positive, rows_to_frame, run_id
from fewmark.interop.text.cells import text_to_cell
from fewmark.interop.text.csv_text import header_of, read_columns
from fewmark.interop.text.json_text import head_text, read_objects, read_text

_LINE: Final = re.compile(r"FMWORK\s+(GEN|RES)\s+(.+)$")
_REPEAT: Final = re.compile(r"FMWORK\s+REP\s+(\d+)\s*/\s*(\d+)")
_DIALECTS: Final[Mapping[tuple[str, int], str]] = {
    ("GEN", 10): "etim ii oo bb tp med a b itl thp",
    ("GEN", 12): "etim ii oo bb tp ttft_r madp med a b itl thp",
    ("GEN", 14): "t0 t1 model ii oo bb tp ttft_r inf_r med a b itl thp",
    ("RES", 8): "etim ii oo bb tp med itl thp",
    ("RES", 11): "t0 t1 model ii oo bb tp mad med itl thp",
}
_CSV: Final = frozenset(("ii", "oo", "bb", "tp", "med", "itl", "thp"))
_JSON: Final = ("metadata_id", "engine", "input", "output", "batch", "itl")


class Fmwork:
    """One row a cell: input, output, batch and degree of tensor parallelism."""

    name = "fmwork"
    description = "FMwork: logs with FMWORK GEN / FMWORK RES lines (three dialects), its process script's CSV or JSON"

    def sniff(self, path: Path, head: bytes) -> float:
        """By a tagged line, the CSV's header or the JSON's keys."""
        if any(_cells(line) for line in head_text(head).splitlines()):
            return 0.95
        if set(header_of(head)) >= _CSV:
            return 0.95
        return 0.95 if has_keys(head, *_JSON) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` on a tagged line that is of no dialect."""
        text = read_text(path)
        if "FMWORK" in text and not text.lstrip().startswith(("[", "{")):
            return rows_to_frame(_of_log(text))
        if text.lstrip().startswith(("[", "{")):
            found = read_objects(path)
            for line, data in found:
                if not {"input", "output", "batch"} <= set(data):
                    raise FormatError(
                        f"line {line}: a result of FMwork has input, output and batch", got=list(data)[:8]
                    )
            return rows_to_frame([_of_json(data) for _, data in found])
        columns = read_columns(path)
        missing = sorted(_CSV - set(columns))
        if missing:
            raise FormatError(f"FMwork's CSV has columns {', '.join(missing)}", got=list(columns))
        lines = ({name: cells[i] for name, cells in columns.items()} for i in range(len(columns["ii"])))
        return rows_to_frame([_of_csv(line) for line in lines])


def _of_log(text: str) -> list[Row]:
    repeats, found = 0, []
    for place, line in enumerate(text.splitlines(), start=1):
        if (rep := _REPEAT.search(line)) is not None:
            repeats = int(rep[2])
        tagged = _LINE.search(line)
        if tagged is None:
            continue
        cells = _cells(line)
        if cells is None:
            raise FormatError(f"line {place}: not a {tagged[1]} line of any of FMwork's dialects", got=line.strip())
        found.append((tagged[1], cells, repeats))
    whole = {_cell(cells) for kind, cells, _ in found if kind == "GEN"}
    rows = []
    for kind, cells, reps in found:
        if kind == "RES" and _cell(cells) in whole:
            continue
        row = _row(cells, kind == "GEN", number(cells.get("a")), number(cells.get("b")))
        kept = reps - max(1, reps // 5)
        if kept > 0 and "n_repeats" not in row.cells:
            row.cells["n_repeats"] = kept
        rows.append(row.finish())
    return rows


def _of_csv(line: Mapping[str, str]) -> Row:
    row = _row(
        line, "ttft" in line and number(line["ttft"]) is not None, number(line.get("ttft")), number(line.get("gen"))
    )
    row.say("engine", label(line.get("back")))
    row.say("model", label(line.get("mm")))
    row.say("precision", label(line.get("prec")))
    row.say("accelerator", label(line.get("hw")))
    row.put("accelerator_count", line.get("hwc"))
    for name in ("dp", "extraparams", "vllmvars"):
        value = text_to_cell(line.get(name, ""))
        if value not in (None, 1):
            row.cells[f"option.{name}"] = value
    for name in ("work", "user"):
        row.say(f"fmwork.{name}", label(line.get(name)))
    return row.finish()


def _of_json(data: JsonObject) -> Row:
    output, gap, first = (positive(data.get(name)) for name in ("output", "itl", "ttft"))
    cells = {"ii": data.get("input"), "oo": data.get("output"), "bb": data.get("batch"), "tp": data.get("tp")}
    if data.get("mode") in (None, "direct") and output and gap and first:
        gen = gap * output / 1e3
        row = _row({**cells, "med": first + gen, "itl": gap, "thp": data.get("thp")}, True, gen, first)
        row.note("the whole run is the first token's time and itl × output tokens")
    else:
        row = _row({**cells, "med": None, "itl": gap, "thp": data.get("thp")}, False, None, None)
        row.own("ttft", first)
        row.note("times of a server's client, whose units the file does not say, keep their own names")
    row.say("engine", label(data.get("engine")))
    row.say("model", label(data.get("model")))
    row.say("precision", label(data.get("precision")))
    if str(data.get("status", "")).upper().startswith("ERR"):
        row.fail(Status.CRASHED, f"the run ended with {data['status']}")
    row.own("setup_s", data.get("setup"))
    row.own("warmup_s", data.get("warmup"))
    return row.finish()


def _row(cells: JsonObject, with_first: bool, a: float | None, b: float | None) -> RunRow:
    row = RunRow("fmwork")
    output, batch = count(cells.get("oo")), count(cells.get("bb"))
    row.say("model", label(cells.get("model")))
    row.put("input_tokens", cells.get("ii"))
    row.put("output_tokens", output)
    row.put("batch_size", batch)
    row.put("tensor_parallel_size", cells.get("tp"))
    row.cells["statistic"] = "median"
    whole, gap = positive(cells.get("med")), positive(cells.get("itl"))
    row.cells["run_id"] = run_id("fmwork", cells.get("etim", cells.get("t0")), cells.get("ii"), output, batch, whole)
    if not output or not batch or (whole is None and gap is None):
        row.fail(Status.CRASHED, "the run left no times")
        return row
    row.put("e2e_latency_s", whole)
    row.put("throughput_tok_s", batch * output / whole if whole else None)
    row.own("itl_s", gap, 1e-3)
    row.own("thp_tok_s", cells.get("thp"))
    if output == 1:
        row.put("ttft_s", whole)
    elif with_first and whole and gap:
        first, gen, swapped = _told_apart(a, b, gap * output / 1e3, whole)
        row.put("ttft_s", first)
        row.put("tpot_s", gen / (output - 1) if gen else None)
        row.put("decode_throughput_tok_s", batch * (output - 1) / gen if gen else None)
        row.note("itl was gen/oo, TPOT is gen/(oo − 1); thp leaves prefill out, the output rate counts it")
        if swapped and "a" not in cells:
            row.note("the columns ttft and gen were swapped")
    else:
        row.note("itl is the whole run over the output tokens, prefill included; no time to the first token")
    return row


def _told_apart(a: float | None, b: float | None, gen: float, whole: float) -> tuple[float | None, float | None, bool]:
    """The first token's time, the generation's, and whether they stood under each other's name.

    `a` is what a CSV calls ttft and a log gen; both are judged by itl · oo, and by their sum, the whole run.
    """
    if a is None or b is None:
        return whole - gen if whole > gen else None, gen, False
    a_is_gen = abs(a - gen) <= abs(b - gen)
    return (b, a, True) if a_is_gen else (a, b, False)


def _cells(line: str) -> dict[str, str] | None:
    """The cells of a tagged line by name; None if it is of no dialect."""
    found = _LINE.search(line.rstrip())
    if found is None:
        return None
    words = found[2].split()
    names = _DIALECTS.get((found[1], len(words)))
    if names is None:
        return None
    cells = dict(zip(names.split(), words, strict=True))
    return cells if all(count(cells[name]) is not None for name in ("ii", "oo", "bb", "tp")) else None


def _cell(cells: Mapping[str, str]) -> Sequence[str | None]:
    return tuple(cells.get(name) for name in ("model", "ii", "oo", "bb", "tp"))
