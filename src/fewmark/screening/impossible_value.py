"""Metrics that cannot be: zero or negative times and rates."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from fewmark.core.columns import METRIC_COLUMNS
from fewmark.screening.base import Finding


class ImpossibleValue:
    """Nothing takes no time.

    A zero or a negative number stands for "unknown", as many tools write it: it alone is dropped, and the row where
    nothing else is known.
    """

    name = "impossible-value"
    description = "a metric that is zero or negative"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Correct such values to unknown; exclude rows that have no other."""
        ok = (frame["status"] == "ok").to_numpy()
        values = frame[[*METRIC_COLUMNS]].to_numpy(dtype=np.float64)
        for position in np.flatnonzero(ok & (values <= 0).any(axis=1)).tolist():
            known = dict(zip(METRIC_COLUMNS, values[position].tolist(), strict=True))
            bad = {name: value for name, value in known.items() if value <= 0}
            row = int(frame.index[position]) + 1
            said = " and ".join(f"{name} {value:g}" for name, value in bad.items())
            reason = f"no run can have {said}; taken as unknown"
            if any(value > 0 for value in known.values()):
                yield Finding(row, self.name, reason, "correct", dict.fromkeys(bad))
            else:
                yield Finding(row, self.name, f"{reason}, and no other value is known", "exclude")
