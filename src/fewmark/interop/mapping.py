"""A file that says what the columns of somebody's table are, and a guess of it to begin with.

    columns:
      lat: {column: e2e_latency_s, unit: ms}
      tput/gpu: {column: throughput_tok_s, per: accelerator}
      remark: null                  # kept as it is
    values: throughput_tok_s        # of a wide table, whose columns say loads only
    constants: {model: org/m, accelerator: H100}

The guess takes what names say, then what identities between columns say about those whose names say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import yaml

from fewmark.core import KNOWN_COLUMNS, FormatError, InputError
from fewmark.core.cells import Cell, Columns
from fewmark.core.columns import LOAD_COLUMNS, OPTION_PREFIX, WORKLOAD_PREFIX
from fewmark.core.files import read_text
from fewmark.core.json_types import Json
from fewmark.interop.base import HEAD_BYTES
from fewmark.interop.dialects.dialect import normalise
from fewmark.interop.dialects.headers import (
    COUNT,
    LABEL,
    STATUS,
    TIME,
    UNITS,
    Meaning,
    fold,
    kind_of,
    meaning_of,
    near_names,
)
from fewmark.interop.dialects.identities import FloatArray
from fewmark.interop.formats.canonical_csv import table_of_columns
from fewmark.interop.formats.canonical_json import read_json_columns
from fewmark.interop.text.cells import is_unknown, to_float
from fewmark.interop.text.csv_text import read_text_table
from fewmark.interop.text.json_text import head_text, opens_json

MAX_BYTES: Final = 1 << 20
SURE: Final = 0.03  # how far an identity may be off, as a logarithm, for most rows
MIN_ROWS: Final = 2


@dataclass(frozen=True)
class TableMap:
    """What a table's columns are.

    `columns` maps own names to meanings, None where the column is kept as it is; `values` is the metric of a wide
    table's cells; `constants` are canonical columns that the table leaves out; `reasons` say why a guess is made.
    """

    columns: Mapping[str, Meaning | None]
    values: Meaning | None = None
    constants: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The file that says so, with the reasons as comments."""
        lines = ["# What each column is. Correct it, then: fewmark import FILE --map THIS_FILE", "columns:"]
        for own, meaning in self.columns.items():
            reason = f"  # {self.reasons[own]}" if own in self.reasons else ""
            name = yaml.safe_dump(own, allow_unicode=True, width=1000).split("\n")[0]
            lines.append(f"  {name}: {_said(meaning)}{reason}")
        if self.values is not None:
            lines.append(f"values: {self.values.column}")
        if self.constants:
            lines.append("constants:")
            lines += [f"  {name}: {yaml.safe_dump(value).splitlines()[0]}" for name, value in self.constants.items()]
        return "\n".join(lines) + "\n"


def read_map(path: str | Path) -> TableMap:
    """The map in a YAML or JSON file.

    Raises
    ------
    InputError
        If the file cannot be read or says something that is no map; the message names the key.
    """
    try:
        said = yaml.safe_load(read_text(path, max_bytes=MAX_BYTES, what="the map"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError("the map is not well-formed YAML", got=f"{path}: {error}") from None
    if not isinstance(said, dict) or not set(said) <= {"columns", "values", "constants"}:
        raise InputError("a map has the keys columns, values and constants", got=said)
    columns = said.get("columns") or {}
    constants = said.get("constants") or {}
    if not isinstance(columns, dict) or not isinstance(constants, dict):
        raise InputError("columns and constants are mappings", got=str(path))
    unknown = [name for name in constants if name not in KNOWN_COLUMNS]
    if unknown:
        raise InputError(f"constants.{unknown[0]}: no column of the table", hint=_near(str(unknown[0])))
    values = said.get("values")
    return TableMap(
        {str(own): _meaning(f"columns.{own}", item) for own, item in columns.items()},
        None if values is None else _meaning("values", values),
        {str(name): str(value) for name, value in constants.items()},
    )


def read_mapped(path: Path, table_map: TableMap) -> pd.DataFrame:
    """A text or JSON table by a map. Raises `InputError` and `FormatError`, see `table_of_columns`."""
    columns, separator, typed = raw_columns(path)
    frame = table_of_columns(
        mapped(columns, table_map),
        separator=separator,
        typed=typed,
        meanings=table_map.columns,
        values=table_map.values,
    )
    frame.attrs["format"] = "json" if typed else "csv"
    return frame


def raw_columns(path: Path) -> tuple[Columns, str, bool]:
    """A table's columns by their own names, what separates them, and whether they are JSON's values.

    Raises
    ------
    InputError, FormatError
        If the file cannot be read or is no such table.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        if opens_json(head_text(head)):
            return read_json_columns(path), ",", True
        columns, separator = read_text_table(path)
    except OSError as error:
        raise InputError("the file cannot be read", got=f"{path}: {error.strerror or error}") from None
    return columns, separator, False


def mapped(columns: Columns, table_map: TableMap) -> dict[str, Sequence[Cell]]:
    """The columns with the map's constants added where the table leaves them out. Raises `InputError`."""
    missing = [own for own in table_map.columns if own not in columns]
    if missing:
        raise InputError(f"the map names a column that the table lacks: {missing[0]}", got=list(columns)[:50])
    n_rows = max((len(cells) for cells in columns.values()), default=0)
    constants = {name: [value] * n_rows for name, value in table_map.constants.items() if name not in columns}
    return {**columns, **constants}


def guess_map(columns: Columns, *, separator: str = ",") -> TableMap:
    """What the columns of a table seem to be, with the reasons. Raises `FormatError` if nothing is understood."""
    found: dict[str, Meaning | None] = {own: meaning_of(own) for own in columns}
    reasons = {own: "its name" for own, meaning in found.items() if meaning is not None}
    out, told = normalise(columns, separator=separator)
    taken = set(out) & set(KNOWN_COLUMNS)
    for note in told.notes:
        own = note.split(":")[0].split(" taken")[0]
        if own in reasons:
            reasons[own] = note
    for own, meaning in found.items():
        if meaning is not None:
            found[own] = _settled(own, meaning, columns[own], out, told.taken)
    numbers = {name: values for name in taken if (values := _numbers(out[name])) is not None}
    for own in [own for own, meaning in found.items() if meaning is None]:
        values = _numbers(columns[own])
        guess = None if values is None else _by_identity(values, numbers)
        if guess is not None and values is not None:
            meaning, reason = guess
            found[own], reasons[own] = meaning, reason
            numbers[meaning.column] = values * (meaning.factor or 1.0)
    if not any(found.values()):
        raise FormatError(
            "no column is understood", got=list(columns)[:50], hint="write the map yourself, see the docs"
        )
    return TableMap(found, reasons=reasons)


def _settled(
    own: str, meaning: Meaning, cells: Sequence[Cell], out: Columns, taken: Mapping[str, str]
) -> Meaning | None:
    """The meaning with what the values settled: the column, where the name left it open, and the unit."""
    column = next((name for name, theirs in taken.items() if theirs == own), meaning.column)
    if column not in out:
        return None
    factor = meaning.factor
    if factor is None:
        raw, made = _numbers(cells), _numbers(out[column])
        ratio = float(np.nanmedian(made / raw)) if raw is not None and made is not None else 1.0
        factor = 1e-3 if ratio < 0.1 else 1.0
    return Meaning(column, meaning.kind, factor, per_accelerator=meaning.per_accelerator)


def _by_identity(x: FloatArray, known: Mapping[str, FloatArray]) -> tuple[Meaning, str] | None:
    """The one quantity that the values can be by the identities that hold in (nearly) every row."""
    load = next((known[name] for name in LOAD_COLUMNS[:2] if name in known), None)
    get = known.get
    oo, ii, e2e, ttft, tpot = (get(n) for n in ("output_tokens", "input_tokens", "e2e_latency_s", "ttft_s", "tpot_s"))
    rate = get("throughput_tok_s")
    candidates: list[tuple[str, FloatArray, str]] = []

    def offer(column: str, value: FloatArray | None, reason: str) -> None:
        if value is not None and column not in known:
            candidates.append((column, value, reason))

    with np.errstate(all="ignore"):
        if load is not None and oo is not None and e2e is not None:
            offer("throughput_tok_s", load * oo / e2e, "load × output tokens / latency")
            if ii is not None:
                offer("total_throughput_tok_s", load * (ii + oo) / e2e, "load × all tokens / latency")
        if load is not None and oo is not None and rate is not None:
            offer("e2e_latency_s", load * oo / rate, "load × output tokens / throughput")
        if e2e is not None and ttft is not None and oo is not None:
            offer("tpot_s", (e2e - ttft) / (oo - 1), "(latency − TTFT) / (output tokens − 1)")
        if e2e is not None and tpot is not None and oo is not None:
            offer("ttft_s", e2e - tpot * (oo - 1), "latency − TPOT × (output tokens − 1)")
        if rate is not None and e2e is not None:
            if oo is not None and load is None:
                offer("batch_size", rate * e2e / oo, "throughput × latency / output tokens")
            if load is not None:
                offer("output_tokens", rate * e2e / load, "throughput × latency / load")
    fits = []
    for column, value, reason in candidates:
        units = ((1.0, ""), (1e-3, " in milliseconds")) if kind_of(column) == TIME else ((1.0, ""),)
        for factor, unit in units:
            if _agree(x * factor, value):
                fits.append((Meaning(column, kind_of(column), factor), f"it is {reason}{unit}"))
    return fits[0] if len({meaning.column for meaning, _ in fits}) == 1 else None


def _agree(x: FloatArray, value: FloatArray) -> bool:
    with np.errstate(all="ignore"):
        off = np.abs(np.log(x / value))
    off = off[np.isfinite(off)]
    return off.size >= MIN_ROWS and float(np.quantile(off, 0.8)) <= SURE and np.unique(value).size > 1


def _numbers(cells: Sequence[Cell]) -> FloatArray | None:
    out = np.full(len(cells), math.nan)
    for i, cell in enumerate(cells):
        if is_unknown(cell):
            continue
        try:
            out[i] = to_float(cell)
        except (TypeError, ValueError, OverflowError):
            return None
    return np.where(out > 0, out, np.nan) if np.isfinite(out).any() else None


def _meaning(key: str, item: Json) -> Meaning | None:
    if item is None:
        return None
    said = {"column": item} if isinstance(item, str) else item
    if not isinstance(said, dict) or "column" not in said or not set(said) <= {"column", "unit", "per"}:
        raise InputError(f"{key}: a column has the keys column, unit and per", got=item)
    column = str(said["column"])
    if column not in KNOWN_COLUMNS and not column.startswith((OPTION_PREFIX, WORKLOAD_PREFIX)):
        raise InputError(f"{key}: {column} is not a column of the table", hint=_near(column))
    kind = kind_of(column)
    factor = 1.0
    if said.get("unit") is not None:
        unit = UNITS.get(fold(str(said["unit"]).replace("/", "_")))
        if unit is None or unit[0] != kind:
            raise InputError(
                f"{key}.unit: no unit of {column}", got=said["unit"], hint="s, ms, tok/s, tok/min, req/s, W"
            )
        factor = unit[1]
    if said.get("per") not in (None, "accelerator", "gpu", "system"):
        raise InputError(f"{key}.per: accelerator or system", got=said["per"])
    return Meaning(column, kind, factor, per_accelerator=said.get("per") in ("accelerator", "gpu"))


def _said(meaning: Meaning | None) -> str:
    if meaning is None:
        return "null"
    unit = {1e-3: "ms", 1e-6: "us", 1e-9: "ns", 60.0: "minutes", 1 / 60: "tok/min", 1e3: "kW"}.get(
        meaning.factor or 1.0
    )
    if meaning.kind in (COUNT, LABEL, STATUS) or (unit is None and not meaning.per_accelerator):
        return f"{{column: {meaning.column}}}"
    parts = [f"column: {meaning.column}", *([f"unit: {unit}"] if unit else [])]
    return f"{{{', '.join([*parts, *(['per: accelerator'] if meaning.per_accelerator else [])])}}}"


def _near(name: str) -> str:
    near = near_names(name, KNOWN_COLUMNS)
    return f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(KNOWN_COLUMNS)}"
