"""The cells that are off in the same direction along all their axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fewmark.screening.grid import remembered
from fewmark.screening.neighbours import noise, residuals
from fewmark.tables.arrays import FloatArray


@dataclass(frozen=True)
class Suspect:
    """A cell (position in the table of cells), how far it is off along the axis that accuses it least (a logarithm,
    positive is too slow), and the names of its axes.
    """

    cell: int
    off: float
    axes: str


@dataclass(frozen=True)
class Limits:
    """How far a residual must be to accuse: as a logarithm, and in usual spreads of the wider or narrower kind."""

    far: float
    spreads: float
    spread: str = "spread"


def suspects(cells: pd.DataFrame, *, guarded: Limits, edge: Limits, one_axis: Limits) -> list[Suspect]:
    """The cells whose residuals along all axes have one sign and are large.

    Memory that runs out makes every cell beyond some load slow, however lawfully. So a slow cell is `guarded` against
    a wrong accusation if a heavier neighbour, too, finds it slow, and a fast one if a lighter neighbour finds it fast;
    other cells are at an `edge`. A cell with a single axis (`one_axis`) is accused from both its sides or not at all.

    Parameters
    ----------
    cells : as `fewmark.screening.grid.cell_table` makes them
    guarded, edge, one_axis : the limits for each of these situations
    """
    if len(cells) < 2:  # no neighbours; a folder of single runs is screened file by file
        return []
    found = remembered(cells, residuals)
    if found.empty:
        return []
    axis, cell = pd.factorize(found["axis"])[0], found["cell"].to_numpy(dtype=np.intp)
    shape = int(axis.max()) + 1, len(cells)

    def along_axes(name: str) -> FloatArray:
        """A column of the residuals by axis and cell, NaN where a cell has none."""
        out: FloatArray = np.full(shape, np.nan)
        out[axis, cell] = found[name].to_numpy(dtype=np.float64)
        return out

    residual = along_axes("residual")
    size, sign = np.abs(residual), np.sign(residual)
    rough = noise(cells, residual)
    least = {"size": np.fmin.reduce(size), "sign": np.fmin.reduce(sign)}
    for kind in ("spread", "least_spread"):
        with np.errstate(divide="ignore", invalid="ignore"):
            least[kind] = np.fmin.reduce(size / np.fmax(along_axes(kind), rough))
    lighter, heavier = (np.fmax.reduce(along_axes(name)) > 0 for name in ("lighter", "heavier"))
    safe = np.where(least["sign"] > 0, heavier, lighter)
    several = np.bincount(cell, minlength=len(cells)) > 1
    accused = np.zeros(len(cells), dtype=bool)
    for limits, situation in (
        (guarded, several & safe),
        (edge, several & ~safe),
        (one_axis, ~several & lighter & heavier),
    ):
        accused |= situation & (least["size"] > limits.far) & (least[limits.spread] > limits.spreads)
    places = np.flatnonzero(accused & (least["sign"] == np.fmax.reduce(sign)))
    if not len(places):
        return []
    off = (least["sign"] * least["size"])[places]
    named = found[found["cell"].isin(places)].groupby("cell")["axis"].agg(" and ".join)
    return [Suspect(int(c), float(o), str(named[c])) for c, o in zip(places, off, strict=True)]
