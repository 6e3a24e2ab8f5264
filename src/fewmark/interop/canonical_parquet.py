"""The canonical table as Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from fewmark.core import KNOWN_COLUMNS, FormatError
from fewmark.interop.canonical_csv import require_canonical
from fewmark.interop.cells import text_to_cell
from fewmark.interop.csv_text import canonical_name, unique_names
from fewmark.interop.frame import build_frame

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
            raise FormatError("the file is no readable Parquet", got=f"{path}: {error}") from None
        names = list(table.column_names)
        if len(set(names)) != len(names):
            raise FormatError("a column appears twice", got=names, hint="remove or rename one of the two")
        renamed = {name: canonical_name(name) for name in names if name != "__index_level_0__"}
        require_canonical(list(renamed.values()))
        unique_names(renamed)
        encoded = _encoded(table.schema.metadata)
        columns: dict[str, list[Any]] = {}
        for original, name in renamed.items():
            cells = [_plain(cell) for cell in table.column(original).to_pylist()]
            if name in KNOWN_COLUMNS:
                # NaN is how pandas writes the unknown into Parquet.
                cells = [None if isinstance(cell, float) and cell != cell else cell for cell in cells]
            elif original in encoded:
                cells = [None if cell is None else text_to_cell(cell) for cell in cells]
            columns[name] = cells
        return build_frame(columns, verbatim=True)


def _encoded(metadata: dict[bytes, bytes] | None) -> frozenset[str]:
    try:
        return frozenset(json.loads((metadata or {}).get(ENCODED_KEY, b"[]")))
    except (ValueError, TypeError):
        return frozenset()


def _plain(cell: Any) -> Any:
    if cell is None or isinstance(cell, (str, bool, int, float)):
        return cell
    if isinstance(cell, (list, dict)):
        return json.dumps(cell, sort_keys=True, default=str)
    return str(cell)
