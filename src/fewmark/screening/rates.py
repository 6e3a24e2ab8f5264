"""Reported throughput against the one that batch, tokens and latency of the same row imply."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from fewmark.tables.arrays import FloatArray

RATE_COLUMNS: Final = ("total_throughput_tok_s", "throughput_tok_s")
EXACT: Final = 0.01  # relative; how near a ratio must come to a factor that explains it


def implied_rate(frame: pd.DataFrame, name: str) -> FloatArray:
    """The throughput `name` (tok/s) by its definition for a static batch; NaN where a part is unknown."""
    tokens = frame["output_tokens"].to_numpy(dtype=np.float64)
    if name == "total_throughput_tok_s":
        tokens = tokens + frame["input_tokens"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = frame["batch_size"].to_numpy() * tokens / frame["e2e_latency_s"].to_numpy()
    usable = (frame["status"] == "ok").to_numpy() & np.isfinite(rate) & (rate > 0)
    return np.where(usable, rate, np.nan)


def log_rate_ratio(frame: pd.DataFrame, name: str) -> FloatArray:
    """log(reported / implied) of a throughput; NaN where either is unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.log(frame[name].to_numpy(dtype=np.float64) / implied_rate(frame, name))
    return np.where(np.isfinite(out), out, np.nan)


def lacks_batch(frame: pd.DataFrame) -> pd.Series:
    """Rows with batch above 1 whose throughput is exactly 1/batch of what their latency implies."""
    out = np.zeros(len(frame), dtype=bool)
    batch = frame["batch_size"].to_numpy()
    for name in RATE_COLUMNS:
        out |= np.abs(log_rate_ratio(frame, name) + np.log(np.where(batch > 1, batch, np.nan))) < EXACT
    return pd.Series(out, index=frame.index)
