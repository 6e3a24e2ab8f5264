"""How precisely a value is known: intervals of projected rows, and values that were rounded."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from fewmark.tables.arrays import FloatArray
from fewmark.tables.columns import numbers_of

INTERVAL: Final = ("e2e_latency_s_low", "e2e_latency_s_high", "projection_confidence_level")
DEFAULT_CONFIDENCE_LEVEL: Final = 0.9  # of an interval that does not state its own
MIN_VALUES: Final = 8  # fewer may be multiples of anything by chance
MIN_STEPS: Final = 4.0  # steps that the smallest value must span
MAX_DIGITS: Final = 4  # how many powers of ten are tried
MIN_SHARE_ON_STEP: Final = 0.9
STEP_TOLERANCE: Final = 1e-6  # steps


def log_sd(X: pd.DataFrame) -> FloatArray:
    """The standard deviation of the log of each row's end-to-end latency, from its interval; 0 without one, (n,).

    A row that was projected from a generation cut short has an interval (`fewmark.core.Projection`).
    """
    low, high, level = (numbers_of(X, name) for name in INTERVAL)
    if not (np.isfinite(low) & np.isfinite(high)).any():
        return np.zeros(len(X))
    from scipy.special import ndtri as normal_quantile

    level = np.where((level > 0) & (level < 1), level, DEFAULT_CONFIDENCE_LEVEL)
    with np.errstate(invalid="ignore", divide="ignore"):
        sd = np.log(high / low) / (2 * normal_quantile((1 + level) / 2))
    return np.where(np.isfinite(sd) & (low > 0) & (sd > 0), sd, 0.0)


def rounding_step(y: FloatArray) -> float:
    """The power of ten to whose multiples positive values (n,) were rounded; 0 where they do not look rounded.

    One in ten may lie off it, as medians of rounded repeats do. Steps so coarse that few distinct values remain are not
    tried: whole multiples of them are no sign of rounding.
    """
    if len(y) < MIN_VALUES:
        return 0.0
    coarsest = int(np.floor(np.log10(y.min() / MIN_STEPS)))
    for step in 10.0 ** np.arange(coarsest, coarsest - MAX_DIGITS, -1):
        count = y / step
        if np.mean(np.abs(count - np.round(count)) < STEP_TOLERANCE) >= MIN_SHARE_ON_STEP:
            return float(step)
    return 0.0
