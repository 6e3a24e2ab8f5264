"""Projections that something better came after."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.remembered import deployment_codes, workload_codes


class Superseded:
    """What a generation cut short was projected to gives way to a full measurement of the same cell, and to what it was
    projected to later, when more was known."""

    name = "superseded"
    description = "a projection of a cell that was also measured in full, or projected anew"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude the projections."""
        if "provenance" not in frame.columns:
            return
        projected = (frame["provenance"] == "projected").to_numpy()
        if not projected.any():
            return
        cells = pd.Series(list(zip(deployment_codes(frame), workload_codes(frame), strict=True)), index=frame.index)
        full = set(cells[~projected & (frame["status"] == "ok").to_numpy()])
        for label in frame.index[projected & np.array([cell in full for cell in cells])]:
            yield Finding(int(label) + 1, self.name, "the same cell was also measured in full", "exclude")
        left = cells[projected & np.array([cell not in full for cell in cells])]
        for label in left.index[left.duplicated(keep="last")]:
            yield Finding(int(label) + 1, self.name, "the same cell was projected anew, when more was known", "exclude")
