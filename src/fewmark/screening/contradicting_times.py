"""End-to-end latencies that contradict the first token's time and the time per token of the same row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.grid import robust_scale
from fewmark.tables.arrays import FloatArray

TOLERANCE: Final = 0.05  # of a logarithm, even where all other rows agree exactly
SPREADS: Final = 6.0  # how many robust standard deviations of the table's own disagreement are its usual noise
MIN_ROWS: Final = 8  # with fewer rows, the spread says nothing yet
FEW_ROWS_TOLERANCE: Final = 0.25


def log_disagreement(frame: pd.DataFrame) -> FloatArray:
    """log(e2e / (ttft + (output - 1) × tpot)); 0 where the three agree, NaN where one is unknown."""
    ttft, tpot = frame["ttft_s"].to_numpy(), frame["tpot_s"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = ttft + (frame["output_tokens"].to_numpy() - 1) * tpot
        out = np.log(frame["e2e_latency_s"].to_numpy() / parts)
    return np.where(np.isfinite(out), out, np.nan)


class ContradictingTimes:
    """By definition e2e = ttft + (output - 1) × tpot. A run that stopped early breaks it; so does a mixed-up row."""

    name = "contradicting-times"
    description = "end-to-end latency against ttft + (output_tokens - 1) × tpot of the same row"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude rows whose disagreement is far outside that of the table; which of the three is wrong is unknown."""
        disagreement = log_disagreement(frame)
        known = np.isfinite(disagreement)
        if not known.any():
            return
        centre, spread = float(np.median(disagreement[known])), robust_scale(disagreement)
        limit = max(TOLERANCE, SPREADS * spread) if known.sum() >= MIN_ROWS else FEW_ROWS_TOLERANCE
        for position in np.flatnonzero(known & (np.abs(disagreement - centre) > limit)).tolist():
            row = frame.iloc[position]
            parts = row["ttft_s"] + (row["output_tokens"] - 1) * row["tpot_s"]
            reason = (
                f"the last token came after {row['e2e_latency_s']:.4g} s, but {row['ttft_s']:.4g} s to the first and "
                f"{row['output_tokens'] - 1:g} × {row['tpot_s']:.4g} s make {parts:.4g} s"
            )
            if row["e2e_latency_s"] < parts:
                reason += "; it may have stopped before the requested length"
            yield Finding(int(frame.index[position]) + 1, self.name, reason, "exclude")
