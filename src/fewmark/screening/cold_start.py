"""First points that paid for warming up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.grid import cell_table, describe_cell, verdict_on
from fewmark.screening.suspects import Limits, suspects

SLOW: Final = Limits(float(np.log(1.2)), 3.0, "least_spread")
SLOW_ONE_AXIS: Final = Limits(float(np.log(1.5)), 3.0, "least_spread")


class ColdStart:
    """What a deployment ran first is judged more strictly than any later point: there is a known reason for it.

    The first point is the first row of a deployment in the file, or its smallest cell.
    """

    name = "cold-start"
    description = "the first point of a deployment, slower than its neighbours imply"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude slow first points."""
        cells = cell_table(frame)
        if cells.empty:
            return
        order = cells["rows"].map(min)
        first = order == order.groupby(cells["deployment"]).transform("min")
        size = cells["ii"] * cells["oo"] * cells["bb"]
        first |= size == size.groupby(cells["deployment"]).transform("min")
        for suspect in suspects(cells, guarded=SLOW, edge=SLOW, one_axis=SLOW_ONE_AXIS):
            if not first.iloc[suspect.cell] or suspect.off <= 0:
                continue
            row = cells.iloc[suspect.cell]
            told = describe_cell(row["ii"], row["oo"], row["bb"], row["online"])
            reason = (
                f"the deployment's first point, {told}, took {np.exp(row['l']):.4g} s, {np.exp(suspect.off):.2f} times "
                f"longer than its neighbours along {suspect.axes} imply: it was probably not warmed up"
            )
            action, reason = verdict_on(row["rows"], confirmed=row["confirmed"], reason=reason)
            for label in row["rows"]:
                yield Finding(int(label) + 1, self.name, reason, action)
