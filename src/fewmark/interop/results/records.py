"""The original record of each row, as its file had it: bounded, without secrets, found again from the store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Cell
from fewmark.core.cells import Columns as CellColumns
from fewmark.core.json_types import Json, JsonObject
from fewmark.core.text import masked
from fewmark.interop.text.csv_text import read_text_table
from fewmark.interop.text.json_text import opens_json, read_documents

MAX_RECORD: Final = 32_768  # characters of a record's JSON
MAX_ITEMS: Final = 12  # of a list; a run's list of requests is told by its length
MAX_TEXT: Final = 500
MAX_FILE: Final = 16 << 20  # bytes; of larger files the record is the place alone
MAX_CELLS: Final = 2_000_000  # of a table that are held for its records
ATTRIBUTE: Final = "records"  # of a frame, where a reader knows its rows' records

AS_STORED: Final = "as stored"


class Columns:
    """Records of a text table: the cells of a row by the columns' own names. Copied by no copy of a frame."""

    def __init__(self, columns: CellColumns, places: Sequence[str] | None = None) -> None:
        self._columns = columns
        self._places = places

    def __deepcopy__(self, memo: object) -> Columns:
        return self

    def __getitem__(self, row: int) -> dict[str, Cell]:
        cells = {name: cells[row] for name, cells in self._columns.items()}
        known: dict[str, Cell] = {
            name: cell for name, cell in cells.items() if cell not in ("", None) and cell == cell
        }  # or NaN
        return known if self._places is None else {"place": self._places[row], **known}


class Objects(list[JsonObject]):
    """Records of a file of objects, one for each row of the frame. Copied by no copy of a frame."""

    def __deepcopy__(self, memo: object) -> Objects:
        return self


def keep_columns(frame: pd.DataFrame, columns: CellColumns, places: Sequence[str] | None = None) -> None:
    """Let the cells of these columns, one for each row of the frame, be its rows' records, unless they are too many."""
    if len(frame) * len(columns) <= MAX_CELLS:
        frame.attrs[ATTRIBUTE] = Columns(columns, places)


def records_of(path: Path, frame: pd.DataFrame) -> list[str | None]:
    """The record of each row of a frame that was read from a file, as JSON text; None where nothing is to be kept.

    A reader that knows better leaves ``frame.attrs["records"]``, indexed by row (`keep_columns`), or `AS_STORED` where
    the table's own values are the record. Else a row of a text table is its line, a JSON document that has as many
    objects as the frame rows gives one each, and any other is kept as a whole.
    """
    held = frame.attrs.get(ATTRIBUTE)
    if held is AS_STORED:
        return [None] * len(frame)
    if held is not None:
        return [_text(held[int(label)]) for label in frame.index]
    if not path.is_file() or path.stat().st_size > MAX_FILE:
        return [None] * len(frame)
    with path.open("rb") as stream:
        head = stream.read(4096)
    try:
        if opens_json(head.decode("utf-8", errors="replace").lstrip("\ufeff")):
            return _of_json([value for _, value in read_documents(path)], len(frame))
        columns, _ = read_text_table(path)
    except FormatError:
        return [None] * len(frame)
    rows = Columns(columns)
    n_rows = max((len(cells) for cells in columns.values()), default=0)
    if n_rows != len(frame):
        return [None] * len(frame)
    return [_text(rows[int(label)]) for label in frame.index]


def _of_json(values: list[Json], n_rows: int) -> list[str | None]:
    items = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    if len(items) == n_rows:
        return [_text(item) for item in items]
    return [_text(values[0] if len(values) == 1 else values)] * n_rows


def _text(record: Json) -> str | None:
    if record is None:
        return None
    for items, text in ((MAX_ITEMS, MAX_TEXT), (3, 100), (1, 40)):
        out = json.dumps(masked(_short(record, items, text)), ensure_ascii=False, default=str)
        if len(out) <= MAX_RECORD:
            return out
    return json.dumps({"omitted": f"a record of {len(out)} characters"})


def _short(value: Json, items: int, text: int, depth: int = 0) -> Json:
    """The value with long lists and texts cut; what was cut is said."""
    if isinstance(value, str):
        return value if len(value) <= text else f"{value[:text]}… ({len(value)} characters)"
    if depth > 20:
        return "…"
    if isinstance(value, Mapping):
        return {str(key)[:200]: _short(item, items, text, depth + 1) for key, item in list(value.items())[:500]}
    if isinstance(value, (list, tuple)):
        kept = [_short(item, items, text, depth + 1) for item in value[:items]]
        return kept if len(value) <= items else [*kept, f"… ({len(value)} items)"]
    return value
