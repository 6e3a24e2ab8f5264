"""Metrics that cannot be: zero or negative times and rates, or a first token after the last one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pandas as pd

from fewmark.core.columns import METRIC_COLUMNS
from fewmark.screening.base import Finding

LATER: Final = 1.05  # the two are often taken from different repeats


class ImpossibleValue:
    """Nothing takes no time, and no first token comes after the last."""

    name = "impossible-value"
    description = "a metric that is zero or negative, or a time to first token above the end-to-end latency"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude such rows."""
        ok = frame["status"] == "ok"
        for name in METRIC_COLUMNS:
            bad = frame.loc[ok & (frame[name] <= 0), name]
            for label, value in zip(bad.index, bad.to_numpy(), strict=True):
                reason = f"{name} is {value:g}, which no run can have; unknown values are left empty"
                yield Finding(int(label) + 1, self.name, reason, "exclude")
        late = frame[ok & (frame["e2e_latency_s"] > 0) & (frame["ttft_s"] > LATER * frame["e2e_latency_s"])]
        for label, ttft, e2e in zip(late.index, late["ttft_s"].tolist(), late["e2e_latency_s"].tolist(), strict=True):
            reason = f"the first token came after {ttft:.4g} s, the last one after {e2e:.4g} s"
            yield Finding(int(label) + 1, self.name, reason, "exclude")
