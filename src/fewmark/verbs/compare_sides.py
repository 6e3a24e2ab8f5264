"""One side of a comparison: rows in memory, a packaged dataset, a store, one file or many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd

from fewmark import datasets
from fewmark.core import InputError, Measurement
from fewmark.interop.archives import is_archive
from fewmark.interop.table.measurements import UNKNOWN, from_measurements
from fewmark.screening import RULES, apply
from fewmark.screening import screen as find_faults
from fewmark.tables.columns import numbers_of
from fewmark.tables.identity import cell_columns
from fewmark.tables.spellings import NOTES, one_spelling, spelled_as
from fewmark.verbs.many_files import opened_files
from fewmark.verbs.results import read_results, table_of, whole_measurements
from fewmark.verbs.source import Tabular, in_memory

if TYPE_CHECKING:
    from fewmark.store import Store

# Rules that judge a cell by its neighbours would take a regression of a few cells for a fault.
BY_NEIGHBOURS: Final = ("outlier", "cold-start", "impossible-speed")
SQLITE: Final = b"SQLite format 3\x00"


def read_side(data: Tabular, side: str, where: Mapping[str, str], screened: bool, notes: list[str]) -> pd.DataFrame:
    """The rows of one side ("A" or "B") with these values, without faulty ones and copies; adds to the notes.

    Raises
    ------
    InputError, FormatError, StoreError
        If it cannot be read, or nothing is left of it.
    """
    table = in_memory(data)
    if table is None:
        assert isinstance(data, (str, Path))
        table = read_named(data, side, notes)
    table = one_spelling(table)
    notes += [f"{side}: {note}" for note in table.attrs.get(NOTES, [])]
    table = rows_with(table, where, side).reset_index(drop=True)
    if not screened:
        return table
    findings = find_faults(table, [rule for rule in RULES if rule.name not in BY_NEIGHBOURS])
    copies = [finding.row - 1 for finding in findings if finding.rule == "duplicate"]
    left = apply(table, findings)
    if excluded := len(table) - len(left):
        notes.append(f"{side}: {excluded} of {len(table)} rows are faulty and left out (fewmark screen says why)")
    if copies := [row for row in copies if row in left.index]:
        notes.append(f"{side}: {len(copies)} rows repeat another's values to the last digit: copies, not repeats")
        left = left.drop(index=copies)
    if left.empty:
        raise InputError(f"{side} has no row without a fault", got=f"{len(table)} rows", hint="fewmark screen says why")
    return left


def rows_with(table: pd.DataFrame, where: Mapping[str, str], what: str) -> pd.DataFrame:
    """The rows that have these values, by column, however they are spelled. Raises `InputError` where none has."""
    for name, value in where.items():
        if name not in table:
            raise InputError(f"{what} has no such column", got=name, hint=f"it has {', '.join(cell_columns(table))}")
        texts = table[name].map(_shown)
        wanted = str(spelled_as(pd.DataFrame({name: [value]}), table)[name].iloc[0])
        kept = texts.str.casefold() == wanted.casefold()
        if not kept.any():  # a number however it is written; never a text, of which 0.1 and 0.10 are two
            kept = table[name].map(_number) == _as_number(wanted)
        if not kept.any():
            hint = f"it has {', '.join(texts[table[name].notna()].unique()[:10]) or 'none'}"
            raise InputError(f"{what} has no row of that {name}", got=value, hint=hint)
        table = table.loc[kept]
    return table


def _shown(cell: object) -> str:
    return f"{cell:.15g}" if isinstance(cell, (int, float)) and not isinstance(cell, bool) else str(cell)


def _number(cell: object) -> float:
    return float(cell) if isinstance(cell, (int, float)) else float("nan")


def _as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def read_named(data: str | Path, side: str, notes: list[str]) -> pd.DataFrame:
    """The rows of a packaged dataset, a store, or files, as they were read; adds to the notes.

    Raises
    ------
    InputError, FormatError, StoreError
        If there are none, or they cannot be read.
    """
    path = Path(data)
    if str(data) in datasets.names():
        return datasets.load(str(data))
    if "://" in str(data) or _is_store(path):
        from fewmark.store import open_store  # SQL takes a second to load

        with open_store(str(data), create=False) as opened:
            table = _table_of(opened)
        if table.empty:
            raise InputError(f"the store of {side} has no measurements", got=str(data))
        return table
    if path.is_file() and not is_archive(path):
        table = read_results(path)
        whole = None if _has_projected(table) else whole_measurements(path, table)
        return table if whole is None else table_of(list(_single_repeats(whole)), table)
    return _imported(data, side, notes)


def _imported(data: str | Path, side: str, notes: list[str]) -> pd.DataFrame:
    with opened_files([data]) as (opened, told):
        table = _table_of(opened)
    notes += [f"{side}: {note}" for note in told]
    if table.empty:
        raise InputError(f"{side} has no measurements", got=str(data))
    return table


def _table_of(store: Store) -> pd.DataFrame:
    """The store's rows, one a repeat where its samples are known; unknown engines and models are unknown."""
    table = pd.DataFrame(store.table())
    if (numbers_of(table, "n_repeats") > 1).any():
        table = from_measurements(_single_repeats(store.measurements(withdrawn=False)))
    for name in ("engine", "model"):
        table[name] = table[name].astype(object).where(table[name] != UNKNOWN, None)
    return table


def _has_projected(table: pd.DataFrame) -> bool:
    return "provenance" in table and bool((table["provenance"] == "projected").any())


def _single_repeats(measurements: Iterable[Measurement]) -> Iterator[Measurement]:
    """Each repeat as a measurement by itself; the projected, whose samples were cut short, as they are."""
    for found in measurements:
        if len(found.samples) < 2 or found.projection is not None:
            yield found
        else:
            yield from (replace(found, samples=(sample,), n_repeats=1) for sample in found.samples)


def _is_store(path: Path) -> bool:
    try:
        if not path.is_file():  # a pipe is read without an end
            return False
        with path.open("rb") as stream:
            return stream.read(len(SQLITE)) == SQLITE
    except (OSError, ValueError):
        return False
