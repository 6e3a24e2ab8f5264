"""What a verb learns from: a file, a packaged dataset by its name, or the store; screened unless told otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from fewmark import datasets
from fewmark.core import InputError
from fewmark.interop import read_table
from fewmark.interop.base import HEAD_BYTES
from fewmark.interop.csv_text import canonical_name, header_of
from fewmark.screening import apply, screen
from fewmark.tables.identity import deployment_columns
from fewmark.verbs.results import read_results


def read_source(data: str | Path | None = None, *, store: str | None = None, screened: bool = True) -> pd.DataFrame:
    """The table behind `data` (a file, or a packaged dataset's name) or, without it, the store's measurements.

    Raises
    ------
    InputError, FormatError, StoreError
        If both are named, or what is named cannot be read or holds nothing.
    """
    if data is not None:
        if store is not None:
            raise InputError("name a file or a store, not both", got={"data": str(data), "store": store})
        packaged = datasets.names()
        if str(data) not in packaged and not os.path.exists(data):  # noqa: PTH110  (Path raises on too long names)
            raise InputError("there is no such file", got=str(data), hint=f"packaged are {', '.join(packaged)}")
        table = datasets.load(str(data)) if str(data) in packaged else read_results(data)
    else:
        from fewmark.store import open_store  # SQL takes a second to load

        with open_store(store, create=False) as opened:
            table = pd.DataFrame(opened.table())
            if table.empty:
                raise InputError("the store has no measurements", got=opened.url, hint="fewmark run, or fewmark import")
    return apply(table, screen(table)) if screened else table


def read_cases(path: str | Path, known: pd.DataFrame | None = None) -> pd.DataFrame:
    """The cases of a table. Columns that it lacks are taken over from `known` where all of `known` agree.

    So a list of workloads is enough where only one deployment was measured.
    """
    cases = read_table(path)
    for name in deployment_columns(known) if known is not None else ():
        assert known is not None
        if (name not in cases or cases[name].isna().all()) and known[name].nunique(dropna=False) == 1:
            cases[name] = known[name].iloc[0]
    return cases


def named_columns(path: str | Path, cases: pd.DataFrame) -> list[str]:
    """The columns of a table's file itself, without those that reading it adds; `cases` is what `read_cases` gave."""
    path = Path(path)
    if cases.attrs.get("format") == "parquet":
        names = list(pq.read_schema(path).names)
    else:
        with path.open("rb") as stream:
            names = header_of(stream.read(HEAD_BYTES))
    named = [name for name in map(canonical_name, names) if name in cases]
    return named or [str(name) for name in cases]
