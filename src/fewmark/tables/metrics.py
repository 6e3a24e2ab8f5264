"""Metrics of a whole table: what follows from what by the definitions of `fewmark.core.metrics`.

Notation: n rows; ii, oo (n,) tokens in and out; load (n,) the batch size or, in a closed loop, the users. Rates follow
from latencies offline by definition, in a closed loop by Little's law (load = rate × latency). At a request rate nobody
knows how many are in flight, and neither follows from the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.metrics import TARGETS
from fewmark.tables.arrays import FloatArray
from fewmark.tables.columns import numbers_of, sequences_of

TTFT: Final = "ttft_s"
TPOT: Final = "tpot_s"
E2E: Final = "e2e_latency_s"
LATENCIES: Final = (TTFT, TPOT, E2E)
REQUESTS: Final = "request_throughput_req_s"
RATES: Final = ("throughput_tok_s", "total_throughput_tok_s", REQUESTS)
VALUES: Final = (*TARGETS, "power_w")


def latency_of(target: str) -> str:
    """The latency from which the target follows: a rate's is the end-to-end latency."""
    return E2E if target in RATES else target


def convert(target: str, values: FloatArray, ii: FloatArray, oo: FloatArray, load: FloatArray) -> FloatArray:
    """The target's latency from its values, and the other way round: a rate inverts alike; (n,)."""
    if target not in RATES:
        return values
    return np.asarray(load * {RATES[0]: oo, RATES[1]: ii + oo, REQUESTS: np.ones_like(oo)}[target] / values)


def tokens_and_load(X: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Input tokens, output tokens and load of each row, (n,) each; 1 where unknown."""
    found = (numbers_of(X, "input_tokens"), numbers_of(X, "output_tokens"), sequences_of(X))
    ii, oo, load = (np.where(values >= 1, values, 1.0) for values in found)
    return ii, oo, load


def latency_and_seconds(X: pd.DataFrame, y: FloatArray, target: str) -> tuple[str, FloatArray]:
    """The latency behind a target, and its values."""
    return latency_of(target), convert(target, y, *tokens_and_load(X))


def target_of(target: str, latencies: Mapping[str, FloatArray], *tokens: FloatArray) -> FloatArray:
    """The target's values from the latencies' (n,) by name."""
    ii, oo, load = tokens
    return convert(target, latencies[latency_of(target)], ii, oo, load)


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with every metric of `VALUES` as a column, filled where it follows from the others."""
    out: pd.DataFrame = table.copy()
    for name in VALUES:
        out[name] = numbers_of(table, name)
    ii, oo = numbers_of(table, "input_tokens"), numbers_of(table, "output_tokens")
    load = sequences_of(table)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = load * (ii + oo) / out["total_throughput_tok_s"]
        out[E2E] = out[E2E].fillna(load * oo / out["throughput_tok_s"]).fillna(total)
        # at one output token there is no time per token, and the first token is the last
        rest = np.where(oo > 1, out[TPOT] * (oo - 1), np.where(oo == 1, 0.0, np.nan))
        out[E2E] = out[E2E].fillna(out[TTFT] + rest)
        out["throughput_tok_s"] = out["throughput_tok_s"].fillna(load * oo / out[E2E])
        out["throughput_tok_s"] = out["throughput_tok_s"].fillna(out["total_throughput_tok_s"] * oo / (ii + oo))
        out["total_throughput_tok_s"] = out["total_throughput_tok_s"].fillna(out["throughput_tok_s"] * (ii + oo) / oo)
        decode = ((out[E2E] - out[TTFT]) / (oo - 1)).where(oo > 1)
    out[TPOT] = out[TPOT].fillna(decode)
    return out
