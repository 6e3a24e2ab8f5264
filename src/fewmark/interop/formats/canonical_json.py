"""Tables as JSON: a list of flat objects, objects one a line, or columns with a list each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Cell, Row
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.formats.canonical_csv import is_table, table_of_columns
from fewmark.interop.text.cells import UNKNOWN_LABELS
from fewmark.interop.text.json_text import head_text, read_documents

_ROWS_UNDER: Final = ("rows", "results", "data", "records", "measurements", "benchmarks", "runs")


class CanonicalJson:
    """The same columns as the CSV's, as JSON or JSON lines; objects within a row are kept as ``outer.inner``."""

    name = "json"
    description = "a table as JSON: [{input_tokens, output_tokens, batch_size, …}, …], or one object a line"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the names in the first row; tools' own formats come first."""
        text = head_text(head).lstrip()
        if not text.startswith(("[", "{")):
            return 0.0
        try:
            records = _records(_partial(text))
        except (FormatError, ValueError, RecursionError):
            return 0.0
        return 0.25 if records and is_table(list(records[0])) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The table. Raises `FormatError` if it is none, or on cells that are none; names the row."""
        return table_of_columns(read_json_columns(path), typed=True)


def read_json_columns(path: Path) -> dict[str, list[Json]]:
    """The columns of a table in a JSON file, by their own names. Raises `FormatError` if it is none."""
    records = _records([value for _, value in read_documents(path)])
    if not records:
        raise FormatError("the file has no rows of a table", hint="a list of objects, or one object a line")
    names = list(dict.fromkeys(name for record in records for name in record))
    return {name: [record.get(name) for record in records] for name in names}


def _records(values: Sequence[Cell]) -> list[Row]:
    """The rows, flat, in the ways in which tables are written as JSON."""
    value = values[0] if len(values) == 1 else list(values)
    if isinstance(value, Mapping):
        value = _of_mapping(value)
    if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
        raise FormatError("the file has no rows of a table", hint="a list of objects, or one object a line")
    return [_flat(row) for row in value]


def _of_mapping(value: JsonObject) -> list[Json]:
    columns, data = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        if any(len(row) != len(columns) for row in data):
            row = next(n for n, row in enumerate(data, start=1) if len(row) != len(columns))
            raise FormatError(f"row {row}: {len(columns)} cells are needed, one for each column")
        return [dict(zip(map(str, columns), row, strict=True)) for row in data]
    for name in _ROWS_UNDER:
        rows = value.get(name)
        if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows):
            shared = {key: item for key, item in value.items() if not isinstance(item, (list, Mapping))}
            return [{**shared, **row} for row in rows]
    lists = {key: item for key, item in value.items() if isinstance(item, list)}
    if lists and len(lists) == len(value) and len({len(item) for item in lists.values()}) == 1:
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    return [value]


def _flat(row: JsonObject) -> dict[str, Json]:
    out: dict[str, Json] = {}
    for name, cell in row.items():
        if isinstance(cell, Mapping) and cell:
            for inner, value in cell.items():
                out[f"{name}.{inner}"] = _cell(value)
        else:
            out[str(name)] = _cell(cell)
    return out


def _cell(value: Json) -> Json:
    if isinstance(value, str) and value.strip().lower() in UNKNOWN_LABELS:
        return None
    return json.dumps(value, sort_keys=True)[:10_000] if isinstance(value, (list, Mapping)) else value


def _partial(text: str) -> list[Json]:
    """The first row of a text that may be cut off."""
    decoder = json.JSONDecoder()
    if text.startswith("["):
        inner = text[1:].lstrip()
        return [decoder.raw_decode(inner)[0]]
    try:
        return [decoder.raw_decode(text)[0]]
    except ValueError:
        # Cut off: the first object of a list inside may be whole.
        start = text.find("[")
        return [decoder.raw_decode(text[start + 1 :].lstrip())[0]] if start >= 0 else []
