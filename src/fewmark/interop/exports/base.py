"""What an exporter is: one file that writes a canonical table as one tool reads it.

Unknown stays unknown, forecasts never become measurements, and what a format cannot hold is left out and counted.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from fewmark.core import CANONICAL_COLUMNS, InputError
from fewmark.core.columns import DEPLOYMENT_COLUMNS, EXPIRED, FLAG_SEPARATOR, LOAD_COLUMNS, OPTION_PREFIX, RETRACTED
from fewmark.core.json_types import Json
from fewmark.interop.table.measurements import PREDICTED
from fewmark.interop.text.cells import is_unknown

MEASUREMENTS: Final = "measurements"
PREDICTIONS: Final = "predictions"
CELLS: Final = "cells"

Row = dict[str, Any]


@runtime_checkable
class Exporter(Protocol):
    """One format. Its settings are the parameters of its constructor; third parties use ``fewmark.exporters``.

    Attributes
    ----------
    name, description : for `fewmark export --formats`
    takes : `MEASUREMENTS`, `PREDICTIONS` (rows of `fewmark.interop.exports.predicted`) or `CELLS` (a plan, candidates)
    targets : the metrics that predictions need, most important first; empty otherwise
    """

    name: str
    description: str
    takes: str
    targets: tuple[str, ...]

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """Write the rows of a canonical table that the format can hold; returns how many.

        Raises
        ------
        InputError
            If there is none, or the file cannot be written.
        """


def known_rows(frame: pd.DataFrame) -> list[Row]:
    """Each row with only what is known, as plain values; whole numbers as integers."""
    names = list(map(str, frame))
    columns = [frame[name].tolist() for name in names]
    return [
        {name: _plain(cell) for name, cell in zip(names, cells, strict=True) if not is_unknown(cell)}
        for cells in zip(*columns, strict=True)
    ]


def measured_rows(frame: pd.DataFrame, what: str) -> list[Row]:
    """The rows that hold good: measured in full, of status ``ok``, not withdrawn.

    Raises
    ------
    InputError
        If a row is a forecast, or none is left.
    """
    rows = known_rows(frame)
    if any(row.get("provenance") == PREDICTED for row in rows):
        raise InputError(
            f"{what} holds measurements, and these rows are forecasts",
            got=next(row.get("predicted_by") for row in rows if row.get("provenance") == PREDICTED),
            hint="csv, parquet, json and prometheus say of each row what it is",
        )
    good = [
        row
        for row in rows
        if row.get("status", "ok") == "ok" and row.get("provenance") != "projected" and not _withdrawn(row)
    ]
    if not good:
        raise InputError(f"nothing can be written as {what}", got=f"{len(rows)} rows, none measured in full and valid")
    return good


def predicted_rows(frame: pd.DataFrame, needs: Sequence[str], what: str) -> list[Row]:
    """The forecasts that say all of `needs`. Raises `InputError` if a row is a measurement, or none is left."""
    rows = known_rows(frame)
    if any(row.get("provenance") != PREDICTED for row in rows):
        raise InputError(
            f"{what} holds forecasts, and these rows are measurements",
            hint="say --cases TABLE: its cells are predicted from what is known, and written",
        )
    good = [row for row in rows if all(name in row for name in needs)]
    if not good:
        raise InputError(f"no forecast says {', '.join(needs)}", got=f"{len(rows)} rows")
    return good


def per_accelerator(row: Row, value: float | None) -> float | None:
    """A rate for each accelerator; None where either is unknown."""
    count = row.get("accelerator_count")
    return value / count if value is not None and count else None


def deployment_of(row: Row) -> tuple[tuple[str, Json], ...]:
    """What tells a row's deployment from others."""
    return tuple((name, row[name]) for name in row if name in DEPLOYMENT_COLUMNS or name.startswith(OPTION_PREFIX))


def by_deployment(rows: Sequence[Row]) -> dict[tuple[tuple[str, Json], ...], list[Row]]:
    """The rows of each deployment, in the order of their first rows."""
    out: dict[tuple[tuple[str, Json], ...], list[Row]] = {}
    for row in rows:
        out.setdefault(tuple(sorted(deployment_of(row), key=lambda item: item[0])), []).append(row)
    return out


def options_of(row: Row) -> dict[str, object]:
    """The engine's options, without their prefix."""
    return {name.removeprefix(OPTION_PREFIX): row[name] for name in sorted(row) if name.startswith(OPTION_PREFIX)}


def load_of(row: Row) -> tuple[str, float]:
    """The column and the value of a row's load. Raises `InputError` where there is none."""
    for name in LOAD_COLUMNS:
        if name in row:
            return name, row[name]
    raise InputError("a cell needs a load", got=row, hint=f"one of {', '.join(LOAD_COLUMNS)}")


def require(row: Row, names: Sequence[str], what: str) -> None:
    """Raise `InputError` unless the row says all of the names."""
    missing = [name for name in names if name not in row]
    if missing:
        raise InputError(f"{what} needs {', '.join(missing)}", got={k: row[k] for k in CANONICAL_COLUMNS if k in row})


def slug(*parts: object) -> str:
    """A name for files and labels: letters, digits, hyphens."""
    text = "-".join(str(part) for part in parts if part not in (None, ""))
    return "-".join(filter(None, "".join(c if c.isalnum() and c.isascii() else "-" for c in text.lower()).split("-")))


def shell_line(words: Sequence[object]) -> str:
    """A command for a POSIX shell. Variables that are written as ``$NAME`` are left to it."""
    return " ".join(f'"{w}"' if (w := str(word)).startswith("$") else shlex.quote(w) for word in words)


def folder(out: str) -> Path:
    """The folder, made if need be. Raises `InputError` if it cannot be."""
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("the folder cannot be made", got=f"{path}: {error.strerror or error}") from None
    return path


def _withdrawn(row: Mapping[str, object]) -> bool:
    flags = {flag.strip() for flag in str(row.get("flag") or "").split(FLAG_SEPARATOR)}
    return bool(flags & {EXPIRED, RETRACTED})


def _plain(cell: object) -> object:
    value = cell.item() if isinstance(cell, np.generic) else cell
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 and math.isfinite(value):
        return int(value)
    return value
