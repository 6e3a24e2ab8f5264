"""The canonical table as Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.json_types import Json
from fewmark.interop.archives import FREE_BYTES, MAX_RATIO
from fewmark.interop.dialects.arrow_table import frame_of_arrow, is_plain_schema
from fewmark.interop.dialects.wide import wide_columns
from fewmark.interop.formats.canonical_csv import is_canonical, table_of_columns
from fewmark.interop.results.records import AS_STORED, ATTRIBUTE, keep_columns
from fewmark.interop.text.cells import text_to_cell

if TYPE_CHECKING:
    import pyarrow as pa

FREE_CELLS: Final = 2_000_000  # which a file of any size may hold
CELLS_PER_BYTE: Final = 30  # large tables come to a tenth of that
ENCODED_KEY = b"fewmark.encoded"  # columns of mixed types, which Parquet has not, are kept as text


class CanonicalParquet:
    """The same columns as the CSV, typed."""

    name = "parquet"
    description = "the canonical table as Parquet"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the magic bytes."""
        return 0.9 if head.startswith(b"PAR1") else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The table. Raises `FormatError` if the file is damaged or holds other columns."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path, read_dictionary=_texts_within_bounds(path))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FormatError("the file is not readable Parquet", got=f"{path}: {error}") from None
        if (plain := _read_plain(table)) is not None:
            return plain
        names = list(table.column_names)
        if len(set(names)) != len(names):
            raise FormatError("a column appears twice", got=names, hint="remove or rename one of the two")
        encoded = _encoded(table.schema.metadata)
        columns: dict[str, list[Json]] = {}
        for name in names:
            if name == "__index_level_0__":
                continue
            cells = [cell for chunk in table.column(name).chunks for cell in _cells(chunk)]
            if name in encoded:
                cells = [None if cell is None else text_to_cell(str(cell)) for cell in cells]
            columns[name] = cells
        frame = table_of_columns(columns, typed=True)
        if ATTRIBUTE not in frame.attrs:
            keep_columns(frame, columns)
        return frame


def _read_plain(table: pa.Table) -> pd.DataFrame | None:
    """A table that needs no understanding, by columns; None where there is anything to decide, or to complain about."""
    names = list(table.column_names)
    if wide_columns(names) or not is_canonical(names) or not is_plain_schema(table.schema):
        return None
    if _encoded(table.schema.metadata):
        return None
    try:
        frame = frame_of_arrow(table)
    except FormatError:
        return None
    if "note" not in frame:
        frame.attrs[ATTRIBUTE] = AS_STORED
    return frame


def _texts_within_bounds(path: Path) -> list[str]:
    """The columns of text, which are read as their distinct values: one long text may stand in a million rows.

    Raises
    ------
    FormatError
        If the file holds far more than results of benchmarks do for its size.
    """
    import pyarrow.parquet as pq

    found, size = pq.read_metadata(path), path.stat().st_size
    columns = [found.schema.column(number) for number in range(found.num_columns)]
    groups = [found.row_group(number) for number in range(found.num_row_groups)]
    n_cells, n_bytes = found.num_rows * len(columns), sum(max(group.total_byte_size, 0) for group in groups)
    for number, column in enumerate(columns):
        # Lists count by their entries. Only of them is the column's own record read: where that is damaged, pyarrow
        # ends the process.
        if column.max_repetition_level:
            n_cells += sum(max(group.column(number).num_values, 0) for group in groups)
    if n_cells > max(FREE_CELLS, CELLS_PER_BYTE * size) or n_bytes > max(FREE_BYTES, MAX_RATIO * size):
        raise FormatError(
            "the file unpacks to far more than results of benchmarks do",
            got=f"{n_cells:,} cells, {n_bytes:,} bytes in a file of {size:,}",
            hint=f"at most {CELLS_PER_BYTE} cells a byte, and {MAX_RATIO} times its size",
        )
    return [column.path for column in columns if column.logical_type.type == "STRING" and "." not in column.path]


def _cells(chunk: pa.Array) -> list[Json]:
    """The values of a part of a column; equal texts are one object."""
    if hasattr(chunk, "dictionary"):
        values = [_plain(value) for value in chunk.dictionary.to_pylist()]
        return [None if index is None else values[index] for index in chunk.indices.to_pylist()]
    return [_plain(cell) for cell in chunk.to_pylist()]


def _encoded(metadata: dict[bytes, bytes] | None) -> frozenset[str]:
    try:
        return frozenset(json.loads((metadata or {}).get(ENCODED_KEY, b"[]")))
    except (ValueError, TypeError):
        return frozenset()


def _plain(cell: Json) -> Json:
    if cell is None or isinstance(cell, (str, bool, int, float)):
        return cell
    if isinstance(cell, (list, dict)):
        return json.dumps(cell, sort_keys=True, default=str)
    return str(cell)
