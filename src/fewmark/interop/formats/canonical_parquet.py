"""The canonical table as Parquet."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.json_types import Json
from fewmark.interop.formats.canonical_csv import table_of_columns
from fewmark.interop.text.cells import text_to_cell

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
            table = pq.read_table(path)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FormatError("the file is not readable Parquet", got=f"{path}: {error}") from None
        names = list(table.column_names)
        if len(set(names)) != len(names):
            raise FormatError("a column appears twice", got=names, hint="remove or rename one of the two")
        encoded = _encoded(table.schema.metadata)
        columns: dict[str, list[Json]] = {}
        for name in names:
            if name == "__index_level_0__":
                continue
            cells = [_plain(cell) for cell in table.column(name).to_pylist()]
            if name in encoded:
                cells = [None if cell is None else text_to_cell(str(cell)) for cell in cells]
            columns[name] = cells
        return table_of_columns(columns, typed=True)


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
