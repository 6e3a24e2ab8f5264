"""Throughputs that contradict the latency of the same row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.explanations import explain, finding_of

UNHELD: Final = float(np.log(0.5))  # a closed loop that held less of its load than this is worth a look


class InconsistentThroughput:
    """Throughput = load × tokens / latency: by definition offline, by Little's law in a closed loop.

    In a closed loop a throughput may be lower, where the load was not held for the whole run, but never higher.
    """

    name = "inconsistent-throughput"
    description = "reported throughput against load × tokens / latency of the same row"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Correct what a known slip explains, exclude the rest; warn of loads that were not held."""
        explained = explain(frame)
        for position in np.flatnonzero(explained.off).tolist():
            yield finding_of(self.name, frame, explained, position)
        output = explained.found["output"]
        with np.errstate(invalid="ignore"):
            unheld = (output < UNHELD) & np.isfinite(explained.values["e2e_latency_s"]) & ~explained.off
        for position in np.flatnonzero(unheld).tolist():
            n = explained.values["sequences"][position]
            reason = (
                f"throughput and latency are those of {n * np.exp(output[position]):.3g} requests in flight, not {n:g}"
                ": the load was not held, or generations ended early"
            )
            yield Finding(int(frame.index[position]) + 1, self.name, reason, "warn")
