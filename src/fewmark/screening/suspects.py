"""The cells that are off in the same direction along all their axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fewmark.screening.neighbours import noise, residuals


@dataclass(frozen=True)
class Suspect:
    """A cell (position in the table of cells), how far it is off along the axis that accuses it least (a logarithm,
    positive is too slow), and the names of its axes.
    """

    cell: int
    off: float
    axes: str


def suspects(
    cells: pd.DataFrame, *, far: float, far_one_axis: float, spreads: float, spread: str = "spread"
) -> list[Suspect]:
    """The cells whose residuals along all axes have one sign and are large.

    Parameters
    ----------
    cells : as `fewmark.screening.grid.cell_table` makes them
    far, far_one_axis : how far (a logarithm) every residual must be, with several axes and with only one
    spreads : how many usual spreads every residual must be
    spread : "spread" to measure by the wider of the two expectations, "least_spread" by the narrower
    """
    if cells.empty:
        return []
    found = residuals(cells)
    if found.empty:
        return []
    usual = np.maximum(found[spread], noise(cells, found)[found["cell"].to_numpy()])
    found = found.assign(
        sign=np.sign(found["residual"]), size=found["residual"].abs(), score=found["residual"].abs() / usual
    )
    out = found.groupby("cell").agg(
        signs=("sign", "nunique"),
        sign=("sign", "first"),
        size=("size", "min"),
        score=("score", "min"),
        n_axes=("axis", "size"),
        axes=("axis", " and ".join),
    )
    limit = np.where(out["n_axes"] > 1, far, far_one_axis)
    out = out[(out["signs"] == 1) & (out["size"] > limit) & (out["score"] > spreads)]
    off = out["sign"] * out["size"]
    return [Suspect(int(c), float(o), str(a)) for c, o, a in zip(out.index, off, out["axes"], strict=True)]
