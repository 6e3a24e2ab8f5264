"""The canonical table itself, as CSV, Parquet or JSON; what a row is stands in its ``provenance``."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pandas as pd

from fewmark.core import KNOWN_COLUMNS, InputError
from fewmark.core.columns import NUMERIC_COLUMNS
from fewmark.core.files import write_file
from fewmark.interop.exports.base import MEASUREMENTS
from fewmark.interop.text.cells import is_unknown
from fewmark.interop.write import columns_of, write_table


@dataclass(frozen=True)
class CsvTable:
    """CSV; with `safe`, texts that a spreadsheet would execute are neutralised."""

    safe: bool = False

    name = "csv"
    description = "the canonical table as CSV"
    takes = MEASUREMENTS
    targets = ()

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """Every row."""
        return _write(frame, out, ".csv", safe=self.safe)


@dataclass(frozen=True)
class ParquetTable:
    """Parquet, typed."""

    name = "parquet"
    description = "the canonical table as Parquet"
    takes = MEASUREMENTS
    targets = ()

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """Every row."""
        return _write(frame, out, ".parquet")


@dataclass(frozen=True)
class JsonTable:
    """JSON: a list of objects, one a row, without what is unknown."""

    name = "json"
    description = "the canonical table as JSON, a list of objects"
    takes = MEASUREMENTS
    targets = ()

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """Every row."""
        names = columns_of(frame)
        columns = [frame[name].tolist() if name in frame else [None] * len(frame) for name in names]
        rows = [
            {name: _value(name, cell) for name, cell in zip(names, cells, strict=True) if not is_unknown(cell)}
            for cells in zip(*columns, strict=True)
        ]
        text = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
        write_file(out, f"[\n{text}\n]\n")
        return len(frame)


def _write(frame: pd.DataFrame, out: str, suffix: str, *, safe: bool = False) -> int:
    if not out.endswith(suffix):
        raise InputError(f"such a table's name ends in {suffix}", got=out)
    write_table(frame, out, safe=safe)
    return len(frame)


def _value(name: str, cell: object) -> object:
    if name in NUMERIC_COLUMNS:
        number = float(cell)  # type: ignore[arg-type]
        return int(number) if number.is_integer() else number
    if isinstance(cell, float) and not math.isfinite(cell):
        return str(cell)
    return str(cell) if name in KNOWN_COLUMNS else cell
