"""End-to-end latencies that contradict the first token's time and the time per token of the same row."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.explanations import explain, finding_of
from fewmark.screening.identities import residuals, values_of
from fewmark.tables.arrays import FloatArray


def log_disagreement(frame: pd.DataFrame) -> FloatArray:
    """log(e2e / (ttft + (output - 1) × tpot)); 0 where the three agree, NaN where one is unknown."""
    return residuals(values_of(frame))["times"]


class ContradictingTimes:
    """By definition e2e = ttft + (output - 1) × tpot. A run that stopped early breaks it; so does a mixed-up row."""

    name = "contradicting-times"
    description = "end-to-end latency against ttft + (output_tokens - 1) × tpot of the same row"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Correct what a known slip explains, exclude the rest: which of the three is wrong is unknown."""
        explained = explain(frame)
        for position in np.flatnonzero(explained.by_times).tolist():
            yield finding_of(self.name, frame, explained, position)
