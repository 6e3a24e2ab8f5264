"""Single latencies far from what all their neighbours imply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.grid import cell_table, describe_cell, log_latency, robust_scale
from fewmark.screening.neighbours import noise, residuals

FAR: Final = float(np.log(1.5))
FAR_ONE_AXIS: Final = float(np.log(2.0))  # one axis alone cannot tell a bend from a fault
SPREADS: Final = 6.0
REPEATS: Final = 3  # from so many on, a repeat can be told from its siblings


class Outlier:
    """A cell is an outlier only if it is off in the same direction along every axis on which it has neighbours.

    So a bend (memory runs out from some batch on) accuses nobody: it shows along one axis only. A repeat is an
    outlier if it is far from the median of at least three.
    """

    name = "outlier"
    description = "a latency far from what its neighbours along every axis imply, or a repeat far from its siblings"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude the outliers."""
        cells = cell_table(frame)
        if cells.empty:
            return
        latency = pd.Series(log_latency(frame), index=frame.index)
        for rows, median in zip(cells["rows"], cells["l"], strict=True):
            if len(rows) >= REPEATS:
                off = latency[rows] - median
                limit = max(FAR, SPREADS * robust_scale(off.to_numpy()))
                for label in off.index[off.abs() > limit]:
                    reason = f"took {np.exp(latency[label]):.4g} s, {_times(off[label])} than the median of {len(rows)} repeats"
                    yield Finding(int(label) + 1, self.name, reason, "exclude")
        for cell in suspects(cells, FAR, FAR_ONE_AXIS, SPREADS).itertuples():
            if abs(cell.least) > 0:
                row = cells.iloc[cell.cell]
                reason = (
                    f"took {np.exp(row['l']):.4g} s, {_times(cell.least)} than its neighbours along {cell.axes} imply "
                    f"for {describe_cell(row['ii'], row['oo'], row['bb'], row['online'])}"
                )
                for label in row["rows"]:
                    yield Finding(int(label) + 1, self.name, reason, "exclude")


def suspects(cells: pd.DataFrame, far: float, far_one_axis: float, spreads: float) -> pd.DataFrame:
    """The cells that are off in the same direction along all their axes.

    Returns
    -------
    DataFrame with columns cell (position), least (the residual that accuses least, a logarithm), axes (their names).
    """
    found = residuals(cells)
    if found.empty:
        return pd.DataFrame(columns=["cell", "least", "axes"])
    rough = noise(cells, found)
    found["sign"] = np.sign(found["residual"])
    found["score"] = found["residual"].abs() / np.maximum(found["spread"], rough[found["cell"].to_numpy()])
    found["size"] = found["residual"].abs()
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
    return out.assign(least=out["sign"] * out["size"]).reset_index()[["cell", "least", "axes"]]


def _times(difference: float) -> str:
    return f"{np.exp(abs(difference)):.2f} times {'longer' if difference > 0 else 'shorter'}"
