"""Single latencies far from what all their neighbours imply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.grid import cell_table, describe_cell, log_latency, robust_scale
from fewmark.screening.suspects import Limits, suspects

GUARDED: Final = Limits(float(np.log(1.4)), 5.0, "least_spread")
EDGE: Final = Limits(float(np.log(1.5)), 6.0)
ONE_AXIS: Final = Limits(float(np.log(2.0)), 6.0)  # one axis alone cannot tell a bend from a fault
REPEAT: Final = Limits(float(np.log(1.5)), 6.0)
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
        gone = set()
        for finding in self._repeats(frame, cells):
            gone.add(finding.row - 1)
            yield finding
        if gone:
            cells = cell_table(frame[~frame.index.isin(gone)])
        for suspect in suspects(cells, guarded=GUARDED, edge=EDGE, one_axis=ONE_AXIS):
            row = cells.iloc[suspect.cell]
            reason = (
                f"took {np.exp(row['l']):.4g} s, {_times(suspect.off)} than its neighbours along {suspect.axes} imply "
                f"for {describe_cell(row['ii'], row['oo'], row['bb'], row['online'])}"
            )
            for label in row["rows"]:
                yield Finding(int(label) + 1, self.name, reason, "exclude")

    def _repeats(self, frame: pd.DataFrame, cells: pd.DataFrame) -> Iterable[Finding]:
        latency = pd.Series(log_latency(frame), index=frame.index)
        for rows, median in zip(cells["rows"], cells["l"], strict=True):
            if len(rows) < REPEATS:
                continue
            off = latency[rows].to_numpy() - median
            limit = max(REPEAT.far, REPEAT.spreads * robust_scale(off))
            for position in np.flatnonzero(np.abs(off) > limit):
                took = np.exp(off[position] + median)
                reason = f"took {took:.4g} s, {_times(off[position])} than the median of the cell's {len(rows)} repeats"
                yield Finding(int(rows[position]) + 1, self.name, reason, "exclude")


def _times(difference: float) -> str:
    return f"{np.exp(abs(difference)):.2f} times {'longer' if difference > 0 else 'shorter'}"
