"""The canonical table as CSV, in anybody's spelling."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fewmark.core import KNOWN_COLUMNS, WORKLOAD_COLUMNS, FormatError
from fewmark.core.cells import Cell, Columns
from fewmark.interop.dialects.column_cells import foreign, labels, status_cell
from fewmark.interop.dialects.dialect import normalise
from fewmark.interop.dialects.headers import Meaning, meaning_of, near_names
from fewmark.interop.dialects.wide import bare_loads, melt, wide_columns
from fewmark.interop.results.records import AS_STORED, ATTRIBUTE, keep_columns
from fewmark.interop.table.frame import build_frame
from fewmark.interop.table.understanding import Understanding
from fewmark.interop.text.csv_text import canonical_name, header_of, read_plain_table, read_text_table


class CanonicalCsv:
    """One row a cell or a repeat; empty is unknown; columns may be missing, in any order, or extra.

    Names, units and notations may be others (``TTFT (ms)``, ``1,234.5``, ``OOM``), a semicolon or a tab may separate
    the columns, and a column may stand for each batch size.
    """

    name = "csv"
    description = "the canonical table as CSV (input_tokens, output_tokens, batch_size, …)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the share of canonical names in the header; other spellings of them count less."""
        names = header_of(head)
        exact = [canonical_name(name) for name in names]
        if is_canonical(exact):
            return 0.5 + 0.4 * _share(exact)
        return 0.3 if is_table(names) and not names[0].startswith(("{", "[")) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The table. Raises `FormatError` on a header without canonical columns and on cells that are none."""
        if (plain := _read_plain(path)) is not None:
            return plain
        columns, separator = read_text_table(path)
        return table_of_columns(columns, separator=separator)


def table_of_columns(
    columns: Columns,
    *,
    separator: str = ",",
    typed: bool = False,
    meanings: Mapping[str, Meaning | None] | None = None,
    values: Meaning | None = None,
) -> pd.DataFrame:
    """A table in anybody's spelling as the canonical one; ``attrs["understanding"]`` says what became of its columns.

    `typed` says that texts are values already, `values` what the cells of a wide table are. See
    `fewmark.interop.dialects.dialect.normalise` for `separator` and `meanings`.

    Raises
    ------
    FormatError
        If the columns are none of a benchmark, or a cell is not what its column says.
    """
    if meanings is None:
        require_table(list(columns))
    long, places = melt(columns, values)
    if meanings is not None and values is not None and values.column in long:
        meanings = {**meanings, values.column: values}
    try:
        normalised, told = normalise(long, separator=separator, typed=typed, meanings=meanings)
        frame = build_frame(normalised, verbatim=typed)
    except FormatError as error:
        raise _placed(error, places) from None
    frame.attrs["understanding"] = told
    if not told.taken and not told.notes and places is None and "note" not in frame:
        frame.attrs[ATTRIBUTE] = AS_STORED  # nothing was converted: what is stored says what the row said
    elif places is not None:
        keep_columns(frame, long, places)
    return frame


def _read_plain(path: Path) -> pd.DataFrame | None:
    """A large table that needs no understanding; None where there is anything to decide, or to complain about."""
    plain = read_plain_table(path)
    if plain is None or not is_canonical(list(plain)) or wide_columns(list(plain)) or bare_loads(list(plain)):
        return None
    columns: dict[str, Sequence[Cell]] = {}
    try:
        for name, cells in plain.items():
            if isinstance(cells, np.ndarray):
                columns[name] = cells  # type: ignore[assignment]
            elif name == "status":
                of = {cell: status_cell(cell, name, 1) for cell in set(cells)}
                columns[name] = [of[cell] for cell in cells]
            else:
                columns[name] = labels(cells, False) if name in KNOWN_COLUMNS else foreign(cells)
        frame = build_frame(columns)
    except FormatError:
        return None
    frame.attrs["understanding"] = Understanding()
    if "note" not in frame:
        frame.attrs[ATTRIBUTE] = AS_STORED
    return frame


def is_canonical(names: list[str]) -> bool:
    """Whether the names can head a canonical table: some of the workload, and at least two that are known."""
    known = set(names) & set(KNOWN_COLUMNS)
    return len(known) >= 2 and bool(known & set(WORKLOAD_COLUMNS))


def is_table(names: list[str]) -> bool:
    """The same for names in anybody's spelling, and for wide tables."""
    known = {meaning.column for name in names if (meaning := meaning_of(name)) is not None}
    if wide_columns(names) or bare_loads(names):
        return bool(known)
    return len(known) >= 2 and bool(known & set(WORKLOAD_COLUMNS))


def require_table(names: list[str]) -> None:
    """Raise `FormatError` unless `is_table`."""
    if is_table(names):
        return
    near = {name: found for name in names[:50] if meaning_of(name) is None and (found := near_names(name))}
    told = "; ".join(f"{name}: did you mean {' or '.join(found)}?" for name, found in list(near.items())[:5])
    raise FormatError(
        "a canonical table needs input_tokens, output_tokens, and batch_size, concurrency or request_rate",
        got=names[:50],
        hint=f"{told + '; ' if told else ''}known columns: {', '.join(KNOWN_COLUMNS)}",
    )


def _share(names: list[str]) -> float:
    return sum(name in KNOWN_COLUMNS for name in names) / len(names)


def _placed(error: FormatError, places: Sequence[str] | None) -> FormatError:
    """The same error, with the place in the wide table instead of the row of the long one."""
    found = re.match(r"row (\d+): ", error.what)
    if found is None or places is None:
        return error
    what = f"{places[int(found.group(1)) - 1]}: {error.what[found.end() :]}"
    return FormatError(what, got=error.got, hint=error.hint)
