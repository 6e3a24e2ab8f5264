"""Columns that are part of no cell and yet tell its repeats apart: options that nobody named as such.

A power limit or a limit of sequences in a column of its own is neither part of a deployment nor a metric, so that rows
that differ in it alone count as repeats of one cell. Where the values of such a column differ far beyond what repeats
of like value scatter, it is an option. Notation: n rows of cells that have two values of the column or more; d the log
latency less its cell's mean; F compares what the column's values explain of d with what is left.

Source: analysis of variance with blocks (Fisher 1935, chapter 4); a cell is a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.columns import KNOWN_COLUMNS, OPTION_PREFIX
from fewmark.core.metrics import ALL_TARGETS
from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.columns import numbers_of
from fewmark.tables.identity import cell_codes, group_codes, hashable, is_identity, numbered

MAX_VALUES: Final = 16  # of an option; a column with more measures something
MIN_ROWS_A_VALUE: Final = 3.0
CHANCE: Final = 1e-4
LEAST: Final = 0.05  # of a log: what matters
SPREADS: Final = 3.0  # and of the scatter of repeats alike in the column
LATENCIES: Final = ("e2e_latency_s", "tpot_s", "ttft_s")
RATES: Final = ("throughput_tok_s", "total_throughput_tok_s", "request_throughput_req_s")
BOOKKEEPING: Final = frozenset({
    "note", "statistic", "provenance", "status", "flag", "n_repeats", "n_requests", "n_failed", "source", "row", "run",
    "run_number", "repeat", "trial", "seed", "date", "timestamp", "file", "definition",
})  # fmt: skip


@dataclass(frozen=True)
class UnnamedOption:
    """A column that tells repeats apart.

    Attributes
    ----------
    column : str
    effect, noise : float
        Between the values of the column and among repeats of one value, a standard deviation of the log each.
    n_cells : int
        In how many cells it takes more than one value.
    """

    column: str
    effect: float
    noise: float
    n_cells: int

    def __str__(self) -> str:
        return (
            f"column {self.column!r} tells repeats of {self.n_cells} cells apart: they differ by {self.effect:.0%} "
            f"with it and by {self.noise:.1%} otherwise, and count as repeats all the same. Name it "
            f"{OPTION_PREFIX}{self.column}, in the measurements and the cases, to learn it as an option"
        )


def unnamed_options(table: pd.DataFrame) -> list[UnnamedOption]:
    """The columns of a table that are options by what they do, the strongest first."""
    names = [name for name in map(str, table) if _may_be(name)]
    if not names:
        return []
    log_s = _log_seconds(table)
    known = np.flatnonzero(np.isfinite(log_s))
    if not len(known):
        return []
    rows, log_s = hashable(table.iloc[known]), log_s[known]
    cell = cell_codes(rows)
    found = [_told_apart(name, group_codes(rows, [name])[0], cell, log_s) for name in names]
    return sorted((one for one in found if one is not None), key=lambda one: -one.effect)


def _may_be(name: str) -> bool:
    return (
        not is_identity(name)
        and name not in KNOWN_COLUMNS
        and name not in ALL_TARGETS
        and name not in BOOKKEEPING
        and not name.startswith("_")
    )


def _log_seconds(table: pd.DataFrame) -> FloatArray:
    """The log of a latency of each row, or of what a rate makes of one, (n,); NaN where none is known."""
    found: FloatArray = np.full(len(table), np.nan)
    for names, sign in ((LATENCIES, 1.0), (RATES, -1.0)):
        for name in names:
            if name not in table:
                continue
            values = numbers_of(table, name)
            with np.errstate(invalid="ignore", divide="ignore"):
                logs = sign * np.log(np.where(values > 0, values, np.nan))
            if np.isfinite(found).any() and np.isfinite(logs).sum() <= np.isfinite(found).sum():
                continue
            found = np.asarray(logs)
    if "status" in table:
        found = np.where((table["status"].isna() | (table["status"] == "ok")).to_numpy(), found, np.nan)
    return found


def _told_apart(name: str, value: IntArray, cell: IntArray, log_s: FloatArray) -> UnnamedOption | None:
    """What a column's values (n,) tell of log latencies within cells; None where that is nothing to speak of."""
    n_values = pd.Series(value).groupby(cell).transform("nunique").to_numpy()
    rows = np.flatnonzero(n_values > 1)
    if not len(rows):
        return None
    cells, values = numbered(cell[rows])[1], numbered(value[rows])[1]
    n, k, m = len(rows), int(values.max()) + 1, int(cells.max()) + 1
    if k > MAX_VALUES or n < MIN_ROWS_A_VALUE * k:
        return None
    d = log_s[rows] - (np.bincount(cells, log_s[rows]) / np.bincount(cells))[cells]
    pair = numbered(cells * k + values)[1]
    n_pairs = int(pair.max()) + 1
    within = d - (np.bincount(pair, d) / np.bincount(pair))[pair]
    if n - n_pairs >= n_pairs / 2:  # true repeats: whatever is not their scatter is told by the column
        noise2, free, explained = float((within**2).sum()) / (n - n_pairs), n - n_pairs, float((d**2).sum())
        explained, told = explained - float((within**2).sum()), n_pairs - m
    else:
        mean = np.bincount(values, d) / np.bincount(values)
        rest = d - mean[values]
        free, told = n - m - (k - 1), k - 1
        if free < 1:
            return None
        noise2, explained = float((rest**2).sum()) / free, float((d**2).sum() - (rest**2).sum())
    effect, noise = float(np.sqrt(max(explained, 0.0) / n)), float(np.sqrt(noise2))
    if told < 1 or effect < max(LEAST / 2, SPREADS * noise / 2):
        return None
    from scipy.special import fdtrc  # takes a while to load, and most tables have no such column

    ratio = explained / told / max(noise2, 1e-12)
    if fdtrc(told, free, ratio) > CHANCE:
        return None
    spread = float(2 * effect)  # two values that differ by x lie x / 2 from their mean
    return UnnamedOption(name, spread, noise, m)
