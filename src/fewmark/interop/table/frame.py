"""Columns of cells to the canonical table in memory, with every cell checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core import CANONICAL_COLUMNS, FormatError, Status
from fewmark.core.cells import Cell, Columns
from fewmark.core.columns import (
    COUNT_COLUMNS,
    LOAD_COLUMNS,
    NUMERIC_COLUMNS,
    OPTIONAL_COLUMNS,
    STATISTICS,
)
from fewmark.core.errors import NothingMeasuredError
from fewmark.core.text import encodable
from fewmark.interop.text.cells import (
    EXACT_INTEGER,
    ColumnArray,
    is_unknown,
    label_to_cell,
    objects,
    parse_number,
    tidy_column,
)
from fewmark.tables.arrays import FloatArray, ObjectArray

_WHOLE: Final = frozenset(
    ("batch_size", "concurrency", "accelerator_count", "tensor_parallel_size", "n_repeats", *COUNT_COLUMNS)
)
_POSITIVE: Final = frozenset(
    ("input_tokens", "output_tokens", *LOAD_COLUMNS, "accelerator_count", "tensor_parallel_size")
)
_STATUSES: Final = tuple(str(status) for status in Status)


def build_frame(columns: Columns, *, verbatim: bool = False) -> pd.DataFrame:
    """The canonical table: every canonical column, optional ones that are given, then the foreign ones in their order.

    The index is the 0-based data row.

    Parameters
    ----------
    columns : mapping from column name to one cell a row
        Canonical columns hold text or numbers; foreign ones values as they are to be kept.
    verbatim : bool, default False
        Whether labels (an engine, a model…) are values already, and not text with blanks and quotes around it.

    Returns
    -------
    DataFrame: numeric columns float64 (unknown is NaN), others objects (unknown is None). An empty status is "ok".

    Raises
    ------
    FormatError
        If a cell cannot be what its column says; the message names the 1-based data row.
    """
    n_rows = max((len(cells) for cells in columns.values()), default=0)
    if not n_rows:
        raise NothingMeasuredError("the table has no rows", hint="it needs a header and at least one row of data")
    if not all(map(str.isascii, columns)):
        columns = {encodable(name): cells for name, cells in columns.items()}
    data: dict[str, ColumnArray] = {}
    for name in (*CANONICAL_COLUMNS, *(name for name in OPTIONAL_COLUMNS if name in columns)):
        if (cells := columns.get(name)) is not None:
            data[name] = _numbers(name, cells) if name in NUMERIC_COLUMNS else _labels(name, cells, verbatim)
        elif name in NUMERIC_COLUMNS:
            data[name] = np.full(n_rows, np.nan)
        else:
            data[name] = np.full(n_rows, str(Status.OK) if name == "status" else None, dtype=object)
    for name, cells in columns.items():
        if name not in data:
            data[name] = tidy_column(cells)
    frame = _frame_of(data)
    several = np.sum([np.isfinite(data[name]) for name in LOAD_COLUMNS], axis=0) > 1
    if several.any():
        row = int(several.argmax())
        raise FormatError(
            f"row {row + 1}: a row has one of batch_size (offline), concurrency (closed loop) and request_rate (open "
            "loop), not several",
            got=", ".join(f"{n} {frame[n].iloc[row]:g}" for n in LOAD_COLUMNS if frame[n].notna().iloc[row]),
            hint="leave the others empty",
        )
    return frame


def _frame_of(data: Mapping[str, ColumnArray]) -> pd.DataFrame:
    """The columns as a table: numbers as float64, all else as objects. In two blocks: faster for small tables."""
    parts = [[name for name, values in data.items() if (values.dtype == object) is kind] for kind in (False, True)]
    blocks = [
        pd.DataFrame(np.vstack([data[name] for name in names]).T, columns=names, dtype=dtype, copy=False)
        for names, dtype in zip(parts, (np.float64, object), strict=True)
    ]
    return pd.concat(blocks, axis=1)[list(data)]


def _numbers(name: str, cells: Sequence[Cell]) -> FloatArray:
    if (plain := _plain_numbers(name, cells)) is not None:
        return plain
    out = [parse_number(cell, name, row) for row, cell in enumerate(cells, start=1)]
    if name in _WHOLE or name in _POSITIVE:
        for row, value in enumerate(out, start=1):
            if math.isnan(value):
                continue
            if value < 0 or (value == 0 and name in _POSITIVE):
                raise FormatError(f"row {row}: {name} must be a positive number", got=cells[row - 1])
            if value > EXACT_INTEGER or (name in _WHOLE and not value.is_integer()):
                raise FormatError(f"row {row}: {name} must be a whole number below 2**53", got=cells[row - 1])
    return np.array(out, dtype=np.float64)


def _plain_numbers(name: str, cells: Sequence[Cell]) -> FloatArray | None:
    """The numbers of a column that holds nothing else and nothing wrong; None where each cell needs a look."""
    if isinstance(cells, np.ndarray) and cells.dtype == np.float64:
        values, unknown = cells, np.isnan(cells)
    elif not set(map(type, cells)) <= {float, int, type(None)}:
        return None
    else:
        unknown = np.array([cell is None for cell in cells], dtype=bool)
        try:
            values = np.array([math.nan if cell is None else cell for cell in cells], dtype=np.float64)
        except OverflowError:
            return None
    known = values[~unknown]
    wrong = not np.isfinite(known).all()
    if name in _WHOLE or name in _POSITIVE:
        wrong = wrong or bool(((known < 0) | (known > EXACT_INTEGER)).any())
        wrong = wrong or (name in _POSITIVE and bool((known == 0).any()))
        wrong = wrong or (name in _WHOLE and bool((known != np.floor(known)).any()))
    return None if wrong else values


def _labels(name: str, cells: Sequence[Cell], verbatim: bool) -> ObjectArray:
    known = {cell: None if is_unknown(cell) else cell for cell in {cell for cell in cells if type(cell) is str}}
    out = [known[cell] if type(cell) is str else None if is_unknown(cell) else str(cell) for cell in cells]
    if not verbatim:
        read = {text: None if text is None else label_to_cell(text) for text in dict.fromkeys(out)}
        out = [read[text] for text in out]
    if name == "status":
        good = {text: text for text in _STATUSES} | {None: str(Status.OK)}
        out = [good[cell] if cell in good else _status(cell, row) for row, cell in enumerate(out, start=1)]
    if name == "statistic":
        out = [_statistic(cell, row) for row, cell in enumerate(out, start=1)]
    return objects([text if text is None or text.isascii() else encodable(text) for text in out])


def _status(text: str | None, row: int) -> str:
    status = text.lower() if text else str(Status.OK)
    if status not in _STATUSES:
        raise FormatError(f"row {row}: unknown status", got=text, hint=f"one of {', '.join(_STATUSES)}, or empty")
    return status


def _statistic(text: str | None, row: int) -> str | None:
    if text is None:
        return None
    if text.lower() not in STATISTICS:
        raise FormatError(f"row {row}: unknown statistic", got=text, hint=f"one of {', '.join(STATISTICS)}, or empty")
    return text.lower()
