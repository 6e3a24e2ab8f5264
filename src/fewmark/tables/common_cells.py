"""The cells that two tables share, where some columns of their deployments are what is compared.

A column of the deployment in which no value of one table is in the other is what sets the two apart, and is no part of
the cells' identity: `engine_version` of two versions. Text is matched without regard to case; lengths that clients
count (tokens in and out) match within a tolerance.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.columns import WORKLOAD_COLUMNS
from fewmark.core.errors import InputError
from fewmark.tables.arrays import BoolArray, FloatArray, IntArray
from fewmark.tables.columns import numbers_of
from fewmark.tables.identity import cell_columns, group_codes, is_of_deployment
from fewmark.tables.repeats import is_complete

FAILED: Final = ("out_of_memory", "timeout", "crashed", "unsupported")
LENGTHS: Final = ("input_tokens", "output_tokens")
MAX_SPANS: Final = 3.0  # a run of neighbouring lengths that spans more tolerances than this is no one length
MAX_NAMED: Final = 5

Values = tuple[object, ...]


@dataclass(frozen=True)
class CommonCells:
    """Two tables' rows by cell.

    Attributes
    ----------
    a, b : DataFrame
        The rows of each that are complete cells, measured or failed.
    code_a, code_b : (n_a,), (n_b,) int
        The cell of each row, by a numbering that both share.
    compared : mapping from column to (values of A, values of B)
        What sets the two apart.
    known_once : mapping, likewise
        Columns that only one of them knows; no part of the cells' identity either.
    n_lengths : int
        Counted lengths that were matched although they are not equal.
    """

    a: pd.DataFrame
    b: pd.DataFrame
    code_a: IntArray
    code_b: IntArray
    compared: Mapping[str, tuple[Values, Values]]
    known_once: Mapping[str, tuple[Values, Values]]
    n_lengths: int

    def failed(self) -> tuple[set[int], set[int]]:
        """The cells of A, and of B, of which every run failed."""
        return _failed(self.a, self.code_a), _failed(self.b, self.code_b)


def common_cells(
    a: pd.DataFrame, b: pd.DataFrame, *, length_tolerance: float = 0.02, ignored: Collection[str] = ()
) -> CommonCells:
    """Number the cells of two canonical tables alike.

    Parameters
    ----------
    length_tolerance : float, default 0.02
        Neighbouring lengths that differ by no more than this fraction are one.
    ignored : columns that are no part of a cell's identity

    Raises
    ------
    InputError
        If a side has no complete cell, or several deployments where the other has one to compare with.
    """
    a, b = (_complete(side, name) for side, name in ((a, "A"), (b, "B")))
    names = [name for name in dict.fromkeys([*cell_columns(a), *cell_columns(b)]) if name not in ignored]
    n_a = len(a)
    rows = pd.DataFrame(
        {name: [*map(_plain, _column(a, name)), *map(_plain, _column(b, name))] for name in names}, dtype=object
    )
    n_lengths = 0
    for name in LENGTHS:
        lengths, n_moved = _merged(rows[name].to_numpy(float), length_tolerance)
        rows[name] = lengths
        n_lengths += n_moved
    compared: dict[str, tuple[Values, Values]] = {}
    known_once: dict[str, tuple[Values, Values]] = {}
    for name in names:
        if name in WORKLOAD_COLUMNS:
            continue
        first, second = set(rows[name].iloc[:n_a]), set(rows[name].iloc[n_a:])
        if first & second:
            continue
        shown = _shown(a, name), _shown(b, name)
        if {None} in (first, second):
            known_once[name] = shown
        elif is_of_deployment(name):
            compared[name] = shown
    key = [name for name in names if name not in compared and name not in known_once]
    codes, _ = group_codes(rows, key)
    for name in (*compared, *known_once):
        for side, found in (("A", slice(None, n_a)), ("B", slice(n_a, None))):
            _require_one(rows[name].iloc[found], codes[found], name, side)
    return CommonCells(a, b, codes[:n_a], codes[n_a:], compared, known_once, n_lengths)


def mismatch(cells: CommonCells) -> str:
    """Why two tables have no cell in common: the columns of which they share no value."""
    apart = []
    for name in dict.fromkeys([*cell_columns(cells.a), *cell_columns(cells.b)]):
        first, second = (set(map(_plain, _column(side, name))) for side in (cells.a, cells.b))
        if not first & second and name not in cells.compared and name not in cells.known_once:
            apart.append(f"{name} (A: {_listed(_shown(cells.a, name))}; B: {_listed(_shown(cells.b, name))})")
    return ", ".join(apart) or "every column by itself has values in common, but no row does"


def _complete(table: pd.DataFrame, side: str) -> pd.DataFrame:
    """Rows that say what they are of and were measured or failed."""
    status = table["status"] if "status" in table else pd.Series("ok", index=table.index)
    kept = is_complete(table.drop(columns=["status"], errors="ignore"))
    kept &= (status.isna() | status.isin(["ok", *FAILED])).to_numpy()
    if not kept.any():
        hint = "a row needs input_tokens, output_tokens and one of batch_size, concurrency, request_rate"
        raise InputError(f"{side} has no row that is a cell", got=f"{len(table)} rows", hint=hint)
    return table.loc[kept].reset_index(drop=True)


def is_failed(table: pd.DataFrame) -> BoolArray:
    """Which rows are runs that failed, (n,)."""
    return np.asarray(table["status"].isin(FAILED)) if "status" in table else np.zeros(len(table), np.bool_)


def _failed(table: pd.DataFrame, code: IntArray) -> set[int]:
    wrong = is_failed(table)
    return set(code[wrong].tolist()) - set(code[~wrong].tolist())


def _require_one(values: pd.Series, codes: IntArray, name: str, side: str) -> None:
    several = values.groupby(codes).nunique(dropna=False)
    if (several > 1).any():
        cell = several.idxmax()
        found = [str(value) for value in values[codes == cell].unique()]
        raise InputError(
            f"{side} has several {name} for the same cell, and none of them is the other side's",
            got=_listed(tuple(found)),
            hint=f"choose one with --{side.lower()} {name}=VALUE, or pass over the column with --ignore {name}",
        )


def _column(table: pd.DataFrame, name: str) -> list[object]:
    return table[name].tolist() if name in table else [None] * len(table)


def _plain(value: object) -> object:
    """A value to be matched: numbers as floats, text without case, unknown None, anything else as written."""
    if isinstance(value, str):
        return value.strip().casefold()
    if isinstance(value, (list, tuple, dict, set, np.ndarray)):
        return repr(value)
    if value is None or value is pd.NA or value != value:  # NaN and NaT are unlike themselves
        return None
    return float(value) if isinstance(value, (int, float, np.number)) else value


def _shown(table: pd.DataFrame, name: str) -> Values:
    """The values of a column as they stand, each once; unknown is None."""
    found = {_plain(value): value for value in _column(table, name)}
    return tuple(None if key is None else value for key, value in found.items())


def _listed(values: Values) -> str:
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values[:MAX_NAMED]]
    return ", ".join(texts) + (f" and {len(values) - MAX_NAMED} more" if len(values) > MAX_NAMED else "")


def _merged(lengths: FloatArray, tolerance: float) -> tuple[FloatArray, int]:
    """Lengths (n,) with neighbours within the tolerance made one, and how many distinct ones were so matched."""
    values = np.unique(lengths)
    if tolerance <= 0 or len(values) < 2:
        return lengths, 0
    step = np.log1p(tolerance)
    group = np.concatenate([[0], np.cumsum(np.diff(np.log(values)) > step)])
    target, moved = values.copy(), 0
    for number in np.unique(group):
        of = group == number
        if of.sum() > 1 and np.log(values[of][-1] / values[of][0]) <= MAX_SPANS * step:
            target[of] = values[of][0]
            moved += int(of.sum())
    return target[np.searchsorted(values, lengths)], moved


def values_by_cell(table: pd.DataFrame, code: IntArray, metric: str) -> tuple[FloatArray, IntArray]:
    """The known values of a metric in rows that did not fail, and their cells."""
    values = numbers_of(table, metric)
    kept = np.isfinite(values) & (values > 0) & ~is_failed(table)
    return values[kept], code[kept]
