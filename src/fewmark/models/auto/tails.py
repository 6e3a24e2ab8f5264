"""How far percentiles over requests lie from their mean: one tail for all percentiles of a metric, so they are ordered.

Notation: n cells with a mean m and percentiles p50 ≤ p90 ≤ p95 ≤ p99 over requests, any of them unknown; c = log m.

    log p50 = c + a(x)
    log pk  = log p50 + exp(s_k + t(x)),  k in 90, 95, 99,  s_90 ≤ s_95 ≤ s_99

a and t are functions of the cell: a linear trend in log2 of load, input and output over all deployments, what a
deployment (with its kind of load) has for itself, and what its cells near x show. Each begins at what serving shows in
general and is believed as far as there are cells. Where no mean is known, p50 - a stands for it.

The error of a percentile, given the mean, is that of cells left out: one by one where the deployment is known, and by
deployments where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pandas as pd

from fewmark.core.metrics import PERCENTILE_METRICS, PERCENTS
from fewmark.models.state import Arrays, State, floats, table, text
from fewmark.tables.arrays import BoolArray, FloatArray, IntArray
from fewmark.tables.cells import read_cells
from fewmark.tables.columns import numbers_of, tidy
from fewmark.tables.identity import cell_codes, cell_columns

MEDIAN: Final = -0.05  # a, before any cell is known
GAPS: Final = (0.42, 0.56, 0.85)  # exp(s) of the 90th, 95th and 99th percentile: in the proportions of a lognormal's
PRIOR_CELLS: Final = 2.0  # how many cells these count as
PRIOR_SD: Final = (0.1, 0.25)  # of the log: where cells of the deployment are known, and where not
MIN_GAP: Final = 1e-3  # log: percentiles that are equal
REACH: Final = 0.7  # octaves over which cells resemble their neighbours
OWN_CELLS: Final = 1.0  # how many cells the belief that a deployment is like all others counts as
MAX_CELLS: Final = 4_000  # of one deployment that are compared with each other


@dataclass(frozen=True)
class Tail:
    """The tail of a metric, learned from a table.

    Attributes
    ----------
    table : DataFrame (n,)
        The learned cells.
    offset, spread : (n,) float
        a and t of each of them; NaN where unknown.
    levels : (3,) float
        s.
    sd : (4, 2) float
        The error of the log of each percentile, where cells of the deployment are known and where not.
    """

    base: str
    table: pd.DataFrame
    offset: FloatArray
    spread: FloatArray
    levels: FloatArray
    sd: FloatArray

    @classmethod
    def learn(cls, X: pd.DataFrame, base: str, known: dict[str, FloatArray]) -> Self:
        """From cells (n rows) with the metric `base` and its percentiles, arrays (n,) by name; NaN is unknown."""
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.log(known[base])
            p50, *higher = (np.log(known[name]) for name in percentiles_of(base))
        mean, p50, *higher = (np.where(np.isfinite(values), values, np.nan) for values in (mean, p50, *higher))
        offset = p50 - mean
        table = X[cell_columns(X)].reset_index(drop=True)
        middle = np.where(np.isfinite(p50), p50, mean + _shrunk_mean(offset, MEDIAN))
        gaps = np.column_stack([np.log(np.maximum(values - middle, MIN_GAP)) for values in higher])
        some = np.isfinite(gaps).any(axis=1)
        off = gaps[some] - np.log(GAPS)
        common = _shrunk_mean(np.nanmean(off, axis=1), 0.0)  # a level that nobody measured moves with the others
        levels = np.log(GAPS) + common + [_shrunk_mean(off[:, k] - common, 0.0) for k in range(3)]
        levels = np.maximum.accumulate(levels)
        spread = np.full(len(X), np.nan)
        spread[some] = np.nanmean(gaps[some] - levels, axis=1)
        tail = cls(base, table, offset, spread, levels, np.zeros((4, 2)))
        return cls(base, table, offset, spread, levels, tail._errors(mean, p50, higher))

    def shares(self, X: pd.DataFrame) -> FloatArray:
        """log(percentile / mean) of cells (m,), for the 50th, 90th, 95th and 99th: (m, 4), ascending."""
        return self._shares(*self._at(X)[:2])

    def mean(self, X: pd.DataFrame, known: dict[str, FloatArray]) -> FloatArray:
        """The mean of each cell (m,): as it is known, else as the lowest percentile that is known implies it."""
        out = np.asarray(known[self.base], dtype=float).copy()
        shares = self.shares(X)
        for place, name in enumerate(percentiles_of(self.base)):
            blank = ~(out > 0)
            out[blank] = (known[name] / np.exp(shares[:, place]))[blank]
        return np.asarray(np.where(out > 0, out, np.nan))

    def deviation(self, X: pd.DataFrame, place: int) -> FloatArray:
        """The error of the log of a percentile, given the mean, a standard deviation, (m,)."""
        return np.asarray(np.where(self._at(X)[2] > 0, self.sd[place, 0], self.sd[place, 1]))

    def n_known(self, X: pd.DataFrame) -> IntArray:
        """How many cells of each row's deployment and kind of load have percentiles, (m,)."""
        return self._at(X)[2]

    def has(self, X: pd.DataFrame) -> BoolArray:
        """Which cells (m,) are learned ones with a percentile of their own."""
        names = list(dict.fromkeys([*self.table.columns, *cell_columns(X)]))
        both = pd.concat([part.reindex(columns=names).astype(object) for part in (self.table, X)], ignore_index=True)
        codes, n = cell_codes(both), len(self.table)
        return np.isin(codes[n:], codes[:n][np.isfinite(self.offset) | np.isfinite(self.spread)])

    def to_state(self) -> tuple[State, Arrays]:
        """The tail as JSON values and arrays."""
        table = self.table.astype(object).where(self.table.notna(), None)
        state: State = {"base": self.base, "table": {str(name): table[name].tolist() for name in table}}
        arrays: Arrays = {"offset": self.offset, "spread": self.spread, "levels": self.levels, "sd": self.sd}
        return state, arrays

    @classmethod
    def from_state(cls, state: State, arrays: Arrays) -> Self:
        """The tail behind `to_state`."""
        cells = tidy(table(state, "table"))
        return cls(text(state, "base"), cells, *(floats(arrays, name) for name in ("offset", "spread", "levels", "sd")))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _shares(self, offset: FloatArray, spread: FloatArray) -> FloatArray:
        gaps = np.exp(np.clip(self.levels[None, :] + spread[:, None], np.log(MIN_GAP), np.log(10.0)))
        return np.column_stack([offset, offset[:, None] + gaps])

    def _at(self, X: pd.DataFrame) -> tuple[FloatArray, FloatArray, IntArray]:
        """a and t of cells (m,), and how many cells of their deployment are known."""
        names = list(dict.fromkeys([*self.table.columns, *cell_columns(X)]))
        both = pd.concat([part.reindex(columns=names).astype(object) for part in (self.table, X)], ignore_index=True)
        cells, n = read_cells(both), len(self.table)
        curve, axes = cells.curve, cells.log_workload
        known = np.isfinite(self.offset) | np.isfinite(self.spread)
        counts = np.array([(known & (curve[:n] == code)).sum() for code in curve[n:]], dtype=np.intp)
        found = [
            _smooth(values, curve[:n], axes[:n], curve[n:], axes[n:], centre, leave=None)
            for values, centre in ((self.offset, MEDIAN), (self.spread, 0.0))
        ]
        return found[0], found[1], counts

    def _errors(self, mean: FloatArray, p50: FloatArray, higher: list[FloatArray]) -> FloatArray:
        """`sd`: of cells left out one by one, and deployment by deployment."""
        cells = read_cells(self.table)
        curve, axes = cells.curve, cells.log_workload
        out = np.empty((4, 2))
        for column, leave in enumerate(("cell", "deployment")):
            offset, spread = (
                _smooth(values, curve, axes, curve, axes, centre, leave=leave)
                for values, centre in ((self.offset, MEDIAN), (self.spread, 0.0))
            )
            shares = self._shares(offset, spread)
            for place, values in enumerate((p50, *higher)):
                error = values - mean - shares[:, place]
                error = error[np.isfinite(error)]
                prior = PRIOR_SD[column] * (1 + place) / 2
                out[place, column] = np.sqrt((np.sum(error**2) + PRIOR_CELLS * prior**2) / (len(error) + PRIOR_CELLS))
        return out


def percentiles_of(base: str) -> tuple[str, ...]:
    """The names of a metric's percentiles, ascending."""
    names = {percent: name for name, (of, percent) in PERCENTILE_METRICS.items() if of == base}
    return tuple(names[percent] for percent in PERCENTS)


def known_of(X: pd.DataFrame, base: str) -> dict[str, FloatArray]:
    """What a table says of a metric and its percentiles, arrays (n,) by name; NaN where unknown or not positive."""
    found = {name: numbers_of(X, name) for name in (base, *percentiles_of(base))}
    return {name: np.where(values > 0, values, np.nan) for name, values in found.items()}


def _shrunk_mean(values: FloatArray, prior: float) -> float:
    found = values[np.isfinite(values)]
    return float((found.sum() + PRIOR_CELLS * prior) / (len(found) + PRIOR_CELLS))


def _smooth(
    values: FloatArray,
    curve: IntArray,
    axes: FloatArray,
    at_curve: IntArray,
    at_axes: FloatArray,
    centre: float,
    *,
    leave: str | None,
) -> FloatArray:
    """A function of cells known at n of them, at m others: trend, deployment, neighbours; (m,).

    With `leave`, the others are the same cells, and each is answered without itself or without its deployment.
    """
    known = np.isfinite(values)
    if not known.any():
        return np.full(len(at_curve), centre)
    rows = np.flatnonzero(known)
    level = _shrunk_mean(values, centre)
    design = _design(axes[rows], axes[rows])
    gram = design.T @ design + 4.0 * np.eye(design.shape[1])
    slope = np.linalg.solve(gram, design.T @ (values[rows] - level))
    residual = values[rows] - level - design @ slope
    out = level + _design(at_axes, axes[rows]) @ slope
    for code in np.unique(at_curve):
        asked, own = np.flatnonzero(at_curve == code), rows[curve[rows] == code][:MAX_CELLS]
        if not len(own) or leave == "deployment":
            continue
        told = residual[np.isin(rows, own)]
        weight = np.ones((len(asked), len(own)))
        near = np.exp(-((at_axes[asked][:, None, :] - axes[own][None, :, :]) ** 2).sum(axis=2) / (2 * REACH**2))
        if leave == "cell":
            itself = asked[:, None] == own[None, :]
            weight, near = np.where(itself, 0.0, weight), np.where(itself, 0.0, near)
        group = (weight @ told) / (weight.sum(axis=1) + OWN_CELLS)
        rest = told[None, :] - group[:, None]
        out[asked] += group + (near * rest).sum(axis=1) / (near.sum(axis=1) + 0.1)
    return np.asarray(out)


def _design(axes: FloatArray, learned: FloatArray) -> FloatArray:
    """log2 of input, output and load about the middle of what was learned, no further out than that reached."""
    low, high = learned.min(axis=0), learned.max(axis=0)
    return np.asarray(np.clip(axes, low, high) - learned.mean(axis=0))
