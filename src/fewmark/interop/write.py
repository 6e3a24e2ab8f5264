"""The canonical table to a file, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import CANONICAL_COLUMNS, KNOWN_COLUMNS, InputError
from fewmark.core.columns import NUMERIC_COLUMNS, OPTIONAL_COLUMNS
from fewmark.core.files import write_file
from fewmark.core.json_types import Json
from fewmark.interop.formats.canonical_parquet import ENCODED_KEY
from fewmark.interop.text.cells import cell_to_text, is_unknown, label_to_text, number_to_text

FORMULA_STARTS: Final = frozenset("=+-@\t\r")


def write_table(
    frame: pd.DataFrame, path: str | Path, *, columns: Sequence[str] | None = None, safe: bool = False
) -> None:
    """Write a canonical table as CSV or Parquet, by the suffix. Floats read back exactly.

    `columns` are written in this order; by default every canonical column, the optional ones that hold anything, then
    the frame's own. `safe` is for CSV that a spreadsheet opens, see `csv_text`.

    Raises
    ------
    InputError
        If the suffix is neither ``.csv`` nor ``.parquet``, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise InputError("a table is written as .csv or .parquet", got=str(path))
    names = columns_of(frame) if columns is None else list(columns)
    content = csv_text(frame, names, safe=safe).encode("utf-8") if path.suffix == ".csv" else _parquet(frame, names)
    write_file(path, content)


def columns_of(frame: pd.DataFrame) -> list[str]:
    """The columns to write: every canonical one, the optional ones that hold anything, then the table's own."""
    held = [name for name in OPTIONAL_COLUMNS if name in frame.columns and bool(frame[name].notna().any())]
    return [*CANONICAL_COLUMNS, *held, *(name for name in frame.columns if name not in KNOWN_COLUMNS)]


def csv_text(frame: pd.DataFrame, names: Sequence[str], *, safe: bool = False) -> str:
    """These columns of a canonical table as the text of a CSV file.

    With `safe`, a text that a spreadsheet would take for a formula is written as a JSON string, in quotes: it is shown,
    never executed, and reads back as it was. A column's name gets an apostrophe in front.
    """
    columns = [_texts(frame, name) for name in names]
    if safe:
        texts = [name not in NUMERIC_COLUMNS for name in names]
        columns = [
            list(map(_inert, cells)) if is_text else cells for cells, is_text in zip(columns, texts, strict=True)
        ]
        names = [f"'{name}" if name[:1] in FORMULA_STARTS else name for name in names]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*columns, strict=True))
    return stream.getvalue()


def _inert(text: str) -> str:
    if not text or text[0] not in FORMULA_STARTS:
        return text
    try:
        float(text)
    except ValueError:
        return json.dumps(text)
    return text


def _texts(frame: pd.DataFrame, name: str) -> list[str]:
    if name not in frame.columns:
        return [""] * len(frame)
    cells = frame[name].tolist()
    if name in NUMERIC_COLUMNS:
        return ["" if is_unknown(cell) else number_to_text(cell) for cell in cells]
    write = label_to_text if name in KNOWN_COLUMNS else cell_to_text
    return [write(cell) for cell in cells]


def _parquet(frame: pd.DataFrame, names: Sequence[str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays, encoded = [], []
    for name in names:
        cells: list[Json] = frame[name].tolist() if name in frame.columns else [None] * len(frame)
        known = [None if is_unknown(cell) and not isinstance(cell, str) else cell for cell in cells]
        if name in NUMERIC_COLUMNS or (name in frame.columns and pd.api.types.is_float_dtype(frame[name])):
            arrays.append(pa.array(known, pa.float64()))
        elif name in KNOWN_COLUMNS or all(cell is None or isinstance(cell, str) for cell in known):
            arrays.append(pa.array([None if cell is None else str(cell) for cell in known], pa.string()))
        else:
            encoded.append(name)
            arrays.append(pa.array([None if cell is None else cell_to_text(cell) for cell in known], pa.string()))
    schema = pa.schema(
        [pa.field(name, array.type) for name, array in zip(names, arrays, strict=True)],
        metadata={ENCODED_KEY: json.dumps(encoded).encode()},
    )
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())
