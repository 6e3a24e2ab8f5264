"""The cells that are off in the same direction along all their axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fewmark.screening.grid import remembered
from fewmark.screening.neighbours import noise, residuals


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
    rough = noise(cells, found)[found["cell"].to_numpy()]
    size = found["residual"].abs()
    found = found.assign(sign=np.sign(found["residual"]), size=size)
    for kind in ("spread", "least_spread"):
        found[kind] = size / np.maximum(found[kind], rough)
    by_cell = found.groupby("cell")
    out = by_cell[["size", "spread", "least_spread", "sign"]].min()
    out[["sides", "lighter", "heavier"]] = by_cell[["sign", "lighter", "heavier"]].max().astype({"sign": float})
    out["n_axes"] = by_cell.size()
    safe = np.where(out["sign"] > 0, out["heavier"], out["lighter"])
    several = out["n_axes"] > 1
    accused = np.zeros(len(out), dtype=bool)
    for limits, situation in (
        (guarded, several & safe),
        (edge, several & ~safe),
        (one_axis, ~several & out["lighter"] & out["heavier"]),
    ):
        accused |= situation & (out["size"] > limits.far) & (out[limits.spread] > limits.spreads)
    out = out[accused & (out["sign"] == out["sides"])]
    if out.empty:
        return []
    off = out["sign"] * out["size"]
    named = found[found["cell"].isin(out.index)].groupby("cell")["axis"].agg(" and ".join)
    return [Suspect(int(c), float(o), str(named[c])) for c, o in zip(out.index, off, strict=True)]
