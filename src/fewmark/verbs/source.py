"""What a verb learns from: values in memory, a file, a packaged dataset by its name, or the store; screened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from fewmark import datasets
from fewmark.core import InputError, Status
from fewmark.core.errors import NothingMeasuredError
from fewmark.core.near_names import near_names
from fewmark.facts.identity import NAMED
from fewmark.interop import read_table
from fewmark.interop.base import HEAD_BYTES
from fewmark.interop.table.frame import build_frame
from fewmark.interop.text.csv_text import canonical_name, header_of
from fewmark.screening import Finding, apply, screen
from fewmark.tables.columns import Attached, bare
from fewmark.tables.identity import cell_columns, deployment_columns, hashable
from fewmark.tables.repeats import is_complete, with_doubt
from fewmark.tables.spellings import NOTES, filled_from, one_spelling, spelled_as
from fewmark.tables.unnamed_options import unnamed_options
from fewmark.verbs.many_files import is_many, opened_files
from fewmark.verbs.results import read_results

Tabular: TypeAlias = str | Path | pd.DataFrame | Sequence[Mapping[str, object]] | Mapping[str, Sequence[object]]

Plain: TypeAlias = str | int | float | bool | None
PLAIN: Final = frozenset({str, int, float, bool, type(None)})

AS_READ: Final = "fewmark.as_read"
"""Set in a frame's `attrs`, it is what `read_source` gave: it is taken as it is, neither parsed nor screened again."""


def in_memory(data: Tabular) -> pd.DataFrame | None:
    """The canonical table of rows or columns given as values; None where `data` names something.

    Raises
    ------
    InputError, FormatError
        If it is no table, or a value cannot be what its column says.
    """
    if isinstance(data, (str, Path)):
        return None
    if isinstance(data, pd.DataFrame) and data.attrs.get(AS_READ):
        return data
    if isinstance(data, Mapping) and data and all(isinstance(cell, str) or np.isscalar(cell) for cell in data.values()):
        data = [data]  # one row
    if (columns := _plain_columns(data)) is not None:
        made = build_frame(columns, verbatim=True)
        made.attrs |= {"format": "memory", "columns": list(columns)}
        return made
    try:
        frame = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data)
    except (ValueError, TypeError) as error:
        hint = "a data frame, a list of rows as mappings, a mapping of columns, or a file's name"
        raise InputError("that is not a table", got=type(data).__name__, hint=f"{hint}; {error}") from None
    frame = frame.astype(object).where(frame.notna(), None)
    made = build_frame({str(name): frame[name].tolist() for name in frame}, verbatim=True)
    made.attrs["format"] = "memory"
    made.attrs["columns"] = [str(name) for name in frame]
    return made


def _plain_columns(data: object) -> dict[str, list[Plain]] | None:
    """The columns of rows that hold nothing but texts, numbers and truth values; None where pandas has to look at them.

    Numbers become floats where pandas would make them so: where any is, or is unknown.
    """
    if isinstance(data, dict):
        lists = list(data.values())
        if not all(type(cells) is list for cells in lists) or len(set(map(len, lists))) != 1 or not lists[0]:
            return None
        given = data
    elif isinstance(data, (list, tuple)) and data and all(type(row) is dict for row in data):
        given = {name: [row.get(name) for row in data] for name in dict.fromkeys(chain.from_iterable(data))}
    else:
        return None
    columns: dict[str, list[Plain]] = {}
    for name, cells in given.items():
        kinds = set(map(type, cells))
        if type(name) is not str or not kinds <= PLAIN:
            return None
        if kinds != {int} and kinds <= {int, float, type(None)}:
            try:
                cells = [None if cell is None or cell != cell else float(cell) for cell in cells]
            except OverflowError:
                return None
        columns[name] = cells
    return columns


def read_source(data: Tabular | None = None, *, store: str | None = None, screened: bool = True) -> pd.DataFrame:
    """The table behind `data` (rows, a file, or a packaged dataset's name) or, without it, the store's measurements.

    Raises
    ------
    InputError, FormatError, StoreError
        If both are named, or what is named cannot be read or holds nothing.
    """
    table = read_unscreened(data, store=store)
    if table.attrs.get(AS_READ):
        return table
    named = str(data) if isinstance(data, (str, Path)) else None
    return prepared(table, screened=screened, name=named)[0]


def read_unscreened(data: Tabular | None = None, *, store: str | None = None) -> pd.DataFrame:
    """The same table as it stands: every row, names as they were given. Raises as `read_source`."""
    if data is not None:
        if store is not None:
            raise InputError("name a file or a store, not both", got={"data": str(data)[:200], "store": store})
        table = in_memory(data)
        if table is not None:
            return table
        assert isinstance(data, (str, Path))
        packaged = datasets.names()
        if str(data) not in packaged and is_many(data):
            with opened_files([data]) as (opened, notes):
                table = pd.DataFrame(opened.table())
            table.attrs[NOTES] = notes
            return table
        if str(data) not in packaged and not os.path.exists(data):  # noqa: PTH110  (Path raises on too long names)
            near = near_names(str(data), packaged, cutoff=0.8)
            hint = f"did you mean {' or '.join(near)}?" if near else f"packaged are {', '.join(packaged)}"
            raise InputError("there is no such file", got=str(data), hint=hint)
        table = datasets.load(str(data)) if str(data) in packaged else read_results(data)
    else:
        from fewmark.store import open_store  # SQL takes a second to load

        with open_store(store, create=False) as opened:
            table = pd.DataFrame(opened.table())
            if table.empty:
                raise NothingMeasuredError(
                    "the store has no measurements", got=opened.url, hint="fewmark run, or fewmark import"
                )
    return table


def prepared(
    table: pd.DataFrame, *, screened: bool = True, name: str | None = None
) -> tuple[pd.DataFrame, list[Finding]]:
    """The table that models learn from, names in one spelling and screened, and what the screen found.

    ``attrs["notes"]`` says what was done to it, ``attrs["left_out"]`` which cells the screen left out. `name` is what
    `fewmark screen --data` is to be asked for.
    """
    table = one_spelling(table)
    notes = [*table.attrs.get(NOTES, []), *_no_cells(table), *map(str, unnamed_options(table))]
    left_out: list[dict[Hashable, object]] = []
    findings: list[Finding] = []
    if screened:
        whole, n_rows = table, len(table)
        findings = screen(whole)
        table = apply(whole, findings)
        notes += screen_notes(findings, n_rows, name)
        gone = [f.row - 1 for f in findings if f.action == "exclude"]
        left_out = whole.loc[list(dict.fromkeys(gone)), cell_columns(whole)].to_dict("records")
    table = with_doubt(table)
    table.attrs |= {"notes": Attached(notes), "left_out": Attached(left_out)}
    return table, findings


def _no_cells(table: pd.DataFrame) -> list[str]:
    """Which rows nothing can be learned from, whatever the screen says of them."""
    incomplete = ~is_complete(table.drop(columns="status", errors="ignore"))
    what = "no input_tokens, output_tokens, or single one of batch_size, concurrency and request_rate"
    invalid = ~incomplete & (table["status"] == Status.INVALID).to_numpy() if "status" in table else incomplete & False
    return [
        f"{int(rows.sum())} of {len(table)} rows left out, as row {int(table.index[int(rows.argmax())]) + 1}: {why}"
        for rows, why in ((incomplete, what), (invalid, "invalid, or without any value"))
        if rows.any()
    ]


def screen_notes(findings: Sequence[Finding], n_rows: int, name: str | None) -> list[str]:
    """What the screen did to a table, as sentences: what models do not see, see corrected, or should be looked at."""
    see = f"fewmark screen --data {name}" if name else "fewmark screen"
    words = {"exclude": "left out", "correct": "corrected", "warn": "kept with a warning"}
    notes = []
    for action, done in words.items():
        found = [f for f in findings if f.action == action and f.rule != "duplicate"]
        rows = {f.row for f in found}
        if not rows:
            continue
        rules = ", ".join(f"{rule} {n}" for rule, n in Counter(f.rule for f in found).most_common())
        hint = f"{see} shows them" + ("" if action == "warn" else ", --no-screen takes all as they are")
        notes.append(f"{len(rows)} of {n_rows} rows {done} ({rules}), as row {found[0].row}: {found[0].reason}. {hint}")
    return notes


def read_cases(path: Tabular, known: pd.DataFrame | None = None) -> pd.DataFrame:
    """The cases of a table. Columns that it lacks are taken over from `known` where all of `known` agree.

    So a list of workloads is enough where only one deployment was measured.
    """
    given = in_memory(path)
    cases = read_table(path) if given is None and isinstance(path, (str, Path)) else given
    assert cases is not None
    attrs, cases = dict(cases.attrs), bare(cases)
    known = None if known is None else bare(known)
    if known is not None and len(known):
        attrs["given"] = {name: Attached(cases[name].tolist()) for name in NAMED if name in cases}
        spelled = spelled_as(cases, known)
        attrs |= spelled.attrs
        cases = filled_from(bare(spelled), known)
    for name in deployment_columns(known) if known is not None else ():
        assert known is not None
        if (name not in cases or cases[name].isna().all()) and known[name].nunique(dropna=False) == 1:
            cases[name] = known[name].iloc[0]
    cases = hashable(cases)
    cases.attrs = attrs
    return cases


def named_columns(path: Tabular, cases: pd.DataFrame) -> list[str]:
    """The columns of a table's file itself, without those that reading it adds; `cases` is what `read_cases` gave."""
    if not isinstance(path, (str, Path)):
        return [name for name in cases.attrs.get("columns", map(str, cases)) if name in cases]
    path = Path(path)
    if cases.attrs.get("format") == "parquet":
        names = list(pq.read_schema(path).names)
    else:
        with path.open("rb") as stream:
            names = header_of(stream.read(HEAD_BYTES))
    named = [name for name in map(canonical_name, names) if name in cases]
    return named or [str(name) for name in cases]
