"""Throughputs that contradict the latency of the same row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.grid import robust_scale
from fewmark.screening.rates import EXACT, RATE_COLUMNS, implied_rate, lacks_batch, log_rate_ratio

TOLERANCE: Final = 0.02  # of a logarithm; covers rounding to two digits
SPREADS: Final = 6.0
MIN_ROWS: Final = 8
FEW_ROWS_TOLERANCE: Final = 0.1


class InconsistentThroughput:
    """Throughput = batch × tokens / latency, by definition.

    A ratio that one well-known slip explains to the percent (the batch or the accelerators left out or counted
    twice, milliseconds for seconds, input tokens counted or not) is corrected from the latency; any other row is
    excluded, since nobody can tell which of its two numbers is right.
    """

    name = "inconsistent-throughput"
    description = "reported throughput against batch × tokens / latency of the same row"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Correct what a known slip explains, exclude the rest."""
        for name in RATE_COLUMNS:
            ratio = log_rate_ratio(frame, name)
            known = np.isfinite(ratio)
            if not known.any():
                continue
            few = known.sum() < MIN_ROWS
            limit = FEW_ROWS_TOLERANCE if few else max(TOLERANCE, SPREADS * robust_scale(ratio))
            centre = 0.0 if few else float(np.median(ratio[known]))
            implied = implied_rate(frame, name)
            without_batch = lacks_batch(frame).to_numpy()
            for position in np.flatnonzero(known & (np.abs(ratio - centre) > limit)).tolist():
                row = frame.iloc[position]
                slip = "the batch was left out" if without_batch[position] else _slip(row, name, ratio[position])
                told = f"{name} is {row[name]:.4g}, but batch, tokens and latency make {implied[position]:.4g}"
                label = int(frame.index[position]) + 1
                if slip is None:
                    reason = f"{told} ({np.exp(ratio[position]):.3g} times); which of the two is wrong is unknown"
                    yield Finding(label, self.name, reason, "exclude")
                else:
                    changes = {name: float(implied[position])}
                    reason = f"{told}: {slip}; {name} is taken from the latency"
                    yield Finding(label, self.name, reason, "correct", changes)


def _slip(row: pd.Series, name: str, ratio: float) -> str | None:
    ii, oo, count = row["input_tokens"], row["output_tokens"], row["accelerator_count"]
    total = name == "total_throughput_tok_s"
    slips: dict[str, Any] = {
        "output tokens only were counted" if total else "input tokens were counted too": (
            oo / (ii + oo) if total else (ii + oo) / oo
        ),
        "it is that of one accelerator": 1 / count,
        "the batch was counted twice": row["batch_size"],
        "one of the two is in milliseconds": 1e-3,
    }
    for slip, factor in slips.items():
        if factor > 0 and abs(np.log(factor)) > EXACT and abs(ratio - np.log(factor)) < EXACT:
            return slip
    return None
