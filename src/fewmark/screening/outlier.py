"""Single latencies far from what all their neighbours imply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.grid import cell_table, describe_cell, verdict_on
from fewmark.screening.suspects import Limits, suspects

GUARDED: Final = Limits(float(np.log(1.4)), 5.0, "least_spread")
EDGE: Final = Limits(float(np.log(1.5)), 6.0)
ONE_AXIS: Final = Limits(float(np.log(2.0)), 6.0)  # one axis alone cannot tell a bend from a fault


class Outlier:
    """A cell is an outlier only if it is off in the same direction along every axis on which it has neighbours.

    So a bend (memory runs out from some batch on) accuses nobody: it shows along one axis only.
    """

    name = "outlier"
    description = "a latency far from what its neighbours along every axis imply"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude the outliers."""
        cells = cell_table(frame)
        for suspect in suspects(cells, guarded=GUARDED, edge=EDGE, one_axis=ONE_AXIS):
            row = cells.iloc[suspect.cell]
            reason = (
                f"took {np.exp(row['l']):.4g} s, {_times(suspect.off)} than its neighbours along {suspect.axes} imply "
                f"for {describe_cell(row['ii'], row['oo'], row['bb'], row['online'])}"
            )
            action, reason = verdict_on(row["rows"], confirmed=row["confirmed"], reason=reason)
            for label in row["rows"]:
                yield Finding(int(label) + 1, self.name, reason, action)


def _times(difference: float) -> str:
    return f"{np.exp(abs(difference)):.2f} times {'longer' if difference > 0 else 'shorter'}"
