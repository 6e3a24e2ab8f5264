"""Arrow tables of canonical columns as the canonical table in memory, by columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from fewmark.core import KNOWN_COLUMNS, FormatError
from fewmark.core.cells import Cell
from fewmark.core.columns import NUMERIC_COLUMNS, OPTION_PREFIX, WORKLOAD_PREFIX
from fewmark.interop.dialects.column_cells import labels, status_cell
from fewmark.interop.table.frame import build_frame
from fewmark.interop.table.understanding import Understanding
from fewmark.interop.text.cells import is_unknown

if TYPE_CHECKING:
    import pyarrow as pa

PREFIXES: Final = (OPTION_PREFIX, WORKLOAD_PREFIX)


def is_plain_schema(schema: pa.Schema) -> bool:
    """Whether columns have canonical names, options and properties of workloads alone, each of its plain type."""
    import pyarrow.types as kinds

    if len(set(schema.names)) < len(schema.names):
        return False
    for name, kind in zip(schema.names, schema.types, strict=True):
        number = kinds.is_floating(kind) or kinds.is_integer(kind) or kinds.is_null(kind)
        text = kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_dictionary(kind) or kinds.is_null(kind)
        if name in NUMERIC_COLUMNS:
            plain = number
        elif name in KNOWN_COLUMNS:
            plain = text
        else:
            plain = name.startswith(PREFIXES) and (number or text or kinds.is_boolean(kind))
        if not plain:
            return False
    return True


def frame_of_arrow(table: pa.Table) -> pd.DataFrame:
    """The canonical table of a table for whose schema `is_plain_schema` holds; the index is its rows, from 0.

    Raises
    ------
    FormatError
        If a cell cannot be what its column says; the message names the 1-based row.
    """
    import pyarrow as pa

    columns: dict[str, Sequence[Cell]] = {}
    for name in table.column_names:
        cells = table[name]
        if name in NUMERIC_COLUMNS:
            try:
                numbers = np.array(cells.cast(pa.float64()).to_numpy(), dtype=np.float64)
            except pa.ArrowInvalid as error:
                raise FormatError(f"{name} must be numbers that float64 holds exactly", got=str(error)) from None
            infinite = np.isinf(numbers)
            if infinite.any():
                row = int(infinite.argmax())
                raise FormatError(f"row {row + 1}: {name} must be a finite number", got=float(numbers[row]))
            columns[name] = numbers  # type: ignore[assignment]
            continue
        values = _values(cells)
        if name == "status":
            columns[name] = _statuses(values)
        else:
            columns[name] = labels(values, True) if name in KNOWN_COLUMNS else values
    frame = build_frame(columns, verbatim=True)
    frame.attrs["understanding"] = Understanding()
    return frame


def _values(cells: pa.ChunkedArray) -> list[Cell]:
    """The column's values; equal texts are one object."""
    import pyarrow as pa
    import pyarrow.types as kinds

    if kinds.is_boolean(cells.type) or kinds.is_null(cells.type):
        return list(cells.to_pylist())
    if not kinds.is_dictionary(cells.type):
        cells = cells.dictionary_encode()
    cells = cells.unify_dictionaries().combine_chunks()
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.chunk(0) if cells.num_chunks else pa.array([], cells.type)
    held = [*cells.dictionary.to_pylist(), None]
    return [held[code] for code in cells.indices.fill_null(len(held) - 1).to_pylist()]


def _statuses(values: Sequence[Cell]) -> list[Cell]:
    known: dict[Cell, str | None] = {}
    out: list[Cell] = []
    for row, value in enumerate(values, start=1):
        if value not in known:
            known[value] = None if is_unknown(value) else status_cell(value, "status", row)
        out.append(known[value])
    return out
