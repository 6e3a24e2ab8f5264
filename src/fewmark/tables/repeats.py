"""One row a cell: repeats reduced to their median. The one place that says which rows of a table count."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fewmark.core.errors import InputError
from fewmark.core.metrics import ALL_TARGETS, PERCENTILE_METRICS, SERVING_TARGETS
from fewmark.tables.arrays import BoolArray, FloatArray
from fewmark.tables.cells import check_target
from fewmark.tables.columns import load_kind_of, numbers_of
from fewmark.tables.identity import cell_codes, cell_columns, group_codes, hashable
from fewmark.tables.metrics import REQUESTS, VALUES, derive
from fewmark.tables.precision import DEFAULT_CONFIDENCE_LEVEL, INTERVAL, log_sd

CONTESTED: Final = 1.5
"""Repeats that lie farther apart than this factor contradict one another."""
MAX_HALF: Final = 2.7
"""The widest that they are learned with, a factor to either side: wider, a model would learn nothing at all."""


def median_of_repeats(X: pd.DataFrame, y: ArrayLike) -> tuple[pd.DataFrame, FloatArray]:
    """One row a cell, in the order of first appearance, with the median of its repeats' values.

    A cell of which a row has no interval was measured: then none of its rows' intervals counts.
    """
    values = check_target(y, len(X))
    cell, first = group_codes(X, cell_columns(X))
    medians = np.asarray(pd.Series(values).groupby(cell).median(), float)
    intervals = [name for name in INTERVAL if name in X]
    if not intervals or len(first) == len(X):
        return X.iloc[first], medians
    sd = log_sd(X)
    measured = np.asarray(pd.Series(sd).groupby(cell).min(), float) == 0
    kept = X.iloc[first].copy()
    for name in intervals:
        kept[name] = np.where(measured, np.nan, numbers_of(kept, name))
    return kept, medians


def is_complete(table: pd.DataFrame) -> BoolArray:
    """Which rows are measured cells, (n,): no status but ok, positive lengths, exactly one load."""
    out = load_kind_of(table) >= 0
    out &= (numbers_of(table, "input_tokens") > 0) & (numbers_of(table, "output_tokens") > 0)
    if "status" in table:
        out &= (table["status"].isna() | (table["status"] == "ok")).to_numpy()
    return np.asarray(out, np.bool_)


def measured_cells(table: pd.DataFrame, target: str, *, related: bool = False) -> pd.DataFrame:
    """The cells whose target is known, once each (repeats reduced to their median), index 0…n-1.

    Rows that failed, that are no complete cell, or whose target is not positive (also after deriving it from the other
    metrics) are left out. Metrics that follow from others are filled in. With `related`, a percentile's cells are those
    of which its metric's mean or any of its percentiles is known.

    Raises
    ------
    InputError
        If the target is unknown.
    """
    if target not in ALL_TARGETS:
        raise InputError("unknown target", got=target, hint=f"one of {', '.join(ALL_TARGETS)}")
    rows = hashable(derive(table.loc[is_complete(table)]))
    values = list(dict.fromkeys((*VALUES, *(name for name in SERVING_TARGETS if name in table), target)))
    for name in values[len(VALUES) :]:
        rows[name] = numbers_of(rows, name)
    if target == REQUESTS:  # each request has its tokens
        rows[target] = rows[target].fillna(rows["throughput_tok_s"] / numbers_of(rows, "output_tokens"))
    told = [target]
    if related and target in PERCENTILE_METRICS:
        base = PERCENTILE_METRICS[target][0]
        told += [name for name in values if name == base or PERCENTILE_METRICS.get(name, ("",))[0] == base]
    found = rows[told].to_numpy(dtype=float)
    rows = pd.DataFrame(rows.loc[(np.isfinite(found) & (found > 0)).any(axis=1)])
    if rows.empty:
        return rows.reset_index(drop=True)
    codes = cell_codes(rows)
    medians = rows[values].groupby(codes).median()
    out, _ = median_of_repeats(rows, np.ones(len(rows)))
    out = out.copy()
    out[values] = medians.to_numpy()
    return out.reset_index(drop=True)


def target_cells(table: pd.DataFrame, target: str, *, related: bool = False) -> tuple[pd.DataFrame, FloatArray]:
    """The cells of `measured_cells` and the target's values (n,); metrics that the table has not are left out.

    With `related`, values may be unknown (NaN) where others tell of a percentile.

    Raises
    ------
    InputError
        If the target is unknown, or no row has it.
    """
    cells = measured_cells(table, target, related=related)
    if cells.empty:
        has = [name for name in VALUES if name in table and (numbers_of(table, name) > 0).any()]
        done = [str(note) for note in table.attrs.get("notes", []) if " rows " in str(note)]  # by the screen
        raise InputError(
            f"no row of the table has {target} for a complete cell",
            got=f"{len(table)} rows{', with ' + ', '.join(has) if has else ''}",
            hint=next(iter(done), None),
        )
    y = cells[target].to_numpy(dtype=float)
    return cells.drop(columns=[name for name in VALUES if name not in table]), y


def reduce_cells(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """One row a cell: the target's median over the rows that have it, and in ``n_rows`` how many these are.

    ``projected`` says whether any of them comes from a generation cut short. Intervals of projections are kept where no
    row of the cell was measured.
    """
    known = frame[frame[target].notna() & (frame[target] > 0)]
    projected = known["provenance"] == "projected" if "provenance" in known else False
    intervals = [name for name in INTERVAL if name in known]
    known = known.assign(projected=projected, measured=log_sd(known) == 0)
    cells = known.groupby(cell_columns(frame), dropna=False, sort=False).agg(
        **{target: (target, "median"), "n_rows": (target, "size"), "projected": ("projected", "any")},
        measured=("measured", "any"),
        **{name: (name, "first") for name in intervals},
    )
    cells.loc[cells.pop("measured"), intervals] = None
    return cells.reset_index()


def contested(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """The cells whose repeats contradict one another, one row each: cell columns, `low`, `high` and `n_repeats_apart`.

    `low` and `high` are the least and the most that any repeat says of the target.
    """
    rows = hashable(derive(table.loc[is_complete(table)]))
    rows["_value"] = numbers_of(rows, target)
    rows = rows.loc[rows["_value"] > 0]
    columns = cell_columns(rows)
    codes = cell_codes(rows)
    grouped = rows["_value"].groupby(codes)
    low, high, n = (grouped.transform(how) for how in ("min", "max", "size"))
    apart = (high > CONTESTED * low).to_numpy()
    out = rows.loc[apart, columns].assign(low=low[apart], high=high[apart], n_repeats_apart=n[apart])
    return out.drop_duplicates(columns)


def with_doubt(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an interval for the latency of cells whose repeats contradict one another.

    Models then learn their median as something known no better than that.
    """
    rows = derive(table.loc[is_complete(table)])
    latency = numbers_of(rows, "e2e_latency_s")
    grouped = pd.Series(np.where(latency > 0, latency, np.nan), index=rows.index).groupby(cell_codes(rows))
    low, high = grouped.transform("min"), grouped.transform("max")
    apart = rows.index[(high > CONTESTED * low).to_numpy()]
    if not len(apart):
        return table
    out = table.copy()
    for name in INTERVAL:
        if name not in out:
            out[name] = np.nan
    middle, half = np.sqrt(low * high)[apart], np.minimum(np.sqrt(high / low), MAX_HALF)[apart]
    out.loc[apart, INTERVAL[0]] = middle / half
    out.loc[apart, INTERVAL[1]] = middle * half
    out.loc[apart, INTERVAL[2]] = DEFAULT_CONFIDENCE_LEVEL
    return out
