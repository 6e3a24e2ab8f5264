"""What the columns of one row say of each other by definition, whatever the other rows say.

Notation (arrays (n,), one entry a row; seconds, tokens): e, f, p = e2e_latency_s, ttft_s, tpot_s; x, t, r = output and
total tokens and requests a second; ii, oo tokens in and out; N sequences at once (batch size or concurrency).

    times         e = f + (oo - 1) p            late          f <= e
    output        x e = N oo                    total         t e = N (ii + oo)
    requests      r e = N                       rates         t oo = x (ii + oo)
    per_request   x = r oo                      offered       x <= request_rate oo

Where e is unknown, f + (oo - 1) p stands in for it, or its lower bound (oo - 1) p. A residual is the logarithm of left
over right side. In a closed loop N is what Little's law makes it: a load that was not held makes x e smaller than N oo,
and nothing makes it larger; so there, and where only a bound of e is known, a residual is off on one side only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import pandas as pd

from fewmark.core.columns import LOAD_COLUMNS
from fewmark.screening.grid import robust_scale
from fewmark.screening.remembered import remembered_of
from fewmark.tables.arrays import BoolArray, FloatArray
from fewmark.tables.columns import accelerator_counts, load_kind_of, numbers_of, sequences_of

Values: TypeAlias = Mapping[str, FloatArray]

TIMES: Final = ("times", "late")
NAMES: Final = (*TIMES, "output", "total", "requests", "rates", "per_request", "offered")
METRICS: Final = (
    *("e2e_latency_s", "ttft_s", "tpot_s", "itl_s"),
    *("throughput_tok_s", "total_throughput_tok_s", "request_throughput_req_s"),
)
LAWFUL: Final = {"times": 0.25}  # of a logarithm: within it a row tells how exact its table is
LAWFUL_RATE: Final = 0.15
MIN_LIMIT: Final = {"times": 0.05}  # even where all rows agree exactly; covers rounding to two digits
MIN_LIMIT_RATE: Final = 0.02
MAX_LIMIT: Final = {"times": 0.6}  # however rough the table
MAX_LIMIT_RATE: Final = 0.25
MIN_ROWS: Final = 8  # with fewer lawful rows, their spread says nothing yet
FEW_ROWS_LIMIT: Final = {"times": 0.25}
FEW_ROWS_LIMIT_RATE: Final = 0.1
SPREADS: Final = 6.0
LATE: Final = 0.05  # the two are often taken from different repeats
LOOP: Final = 0.2  # means over requests are no totals over the run
MEDIANS: Final = 0.15  # of a logarithm: each a median over requests, times need not add up
STATIC, CLOSED, OPEN = range(len(LOAD_COLUMNS))


@dataclass(frozen=True)
class Bounds:
    """Between what a residual is lawful, (n,) each."""

    low: FloatArray
    high: FloatArray

    def broken(self, residual: FloatArray) -> BoolArray:
        """Where a known residual lies outside, (n,)."""
        with np.errstate(invalid="ignore"):
            return np.asarray((residual < self.low) | (residual > self.high))


def values_of(frame: pd.DataFrame) -> dict[str, FloatArray]:
    """The columns of rows that ended well as numbers, (n,) each; NaN where unknown or not positive."""
    return remembered_of(frame, "values", _values_of)


def _values_of(frame: pd.DataFrame) -> dict[str, FloatArray]:
    ok = (frame["status"] == "ok").to_numpy()
    out = {name: numbers_of(frame, name) for name in (*METRICS, "input_tokens", "output_tokens", "request_rate")}
    out |= {"sequences": sequences_of(frame), "accelerators": accelerator_counts(frame)}
    with np.errstate(invalid="ignore"):
        return {name: np.where(ok & (values > 0) & np.isfinite(values), values, np.nan) for name, values in out.items()}


def residuals(v: Values) -> dict[str, FloatArray]:
    """The residual of each identity, (n,); NaN where a part of it is unknown."""
    e, f, p = v["e2e_latency_s"], v["ttft_s"], v["tpot_s"]
    x, t, r = v["throughput_tok_s"], v["total_throughput_tok_s"], v["request_throughput_req_s"]
    ii, oo, n = v["input_tokens"], v["output_tokens"], v["sequences"]
    parts = f + (oo - 1) * p
    took = np.where(np.isnan(e), parts, e)
    took = np.where(np.isnan(took), (oo - 1) * p, took)
    with np.errstate(divide="ignore", invalid="ignore"):
        out = {
            "times": e / parts,
            "late": f / e,
            "output": x * took / (n * oo),
            "total": t * took / (n * (ii + oo)),
            "requests": r * took / n,
            "rates": t * oo / (x * (ii + oo)),
            "per_request": x / (r * oo),
            "offered": x / (v["request_rate"] * oo),
        }
        logs = {name: np.log(values) for name, values in out.items()}
    return {name: np.where(np.isfinite(values), values, np.nan) for name, values in logs.items()}


def is_exact(frame: pd.DataFrame, v: Values) -> BoolArray:
    """Rows whose rates follow from e exactly, (n,): static batches whose e is known."""
    known = np.isfinite(v["e2e_latency_s"]) | np.isfinite(v["ttft_s"] + v["tpot_s"])
    return np.asarray((load_kind_of(frame) == STATIC) & known)


def bounds_of(frame: pd.DataFrame, found: Mapping[str, FloatArray], exact: BoolArray) -> dict[str, Bounds]:
    """Between what each residual is lawful, (n,): about 0, and as wide as the rows near 0 scatter.

    Rows that are off never widen it, however many they are.
    """
    never = np.full(len(frame), -np.inf)
    out = {"late": Bounds(never, np.full(len(frame), LATE)), "offered": Bounds(never, np.full(len(frame), LOOP))}
    for name in NAMES:
        if name in out:
            continue
        sided = name in ("output", "total", "requests")
        used = found[name][exact] if sided else found[name]
        lawful = used[np.abs(used) <= LAWFUL.get(name, LAWFUL_RATE)]
        if len(lawful) < MIN_ROWS:
            centre, limit = 0.0, FEW_ROWS_LIMIT.get(name, FEW_ROWS_LIMIT_RATE)
        else:
            spread = SPREADS * robust_scale(lawful)
            limit = float(np.clip(spread, MIN_LIMIT.get(name, MIN_LIMIT_RATE), MAX_LIMIT.get(name, MAX_LIMIT_RATE)))
            centre = float(np.median(lawful))
        low, high = np.full(len(frame), centre - limit), np.full(len(frame), centre + limit)
        if name == "times":
            allowed = np.where(_may_be_medians(frame), np.maximum(limit, MEDIANS), limit)
            low, high = centre - allowed, centre + allowed
        if sided:
            low, high = np.where(exact, low, -np.inf), np.where(exact, high, LOOP)
        out[name] = Bounds(low, high)
    return out


def _may_be_medians(frame: pd.DataFrame) -> BoolArray:
    """Rows whose times may be medians over requests: loops that do not say that they are means, (n,)."""
    told = frame["statistic"].eq("mean").to_numpy() if "statistic" in frame else np.zeros(len(frame), dtype=bool)
    return np.asarray((load_kind_of(frame) != STATIC) & ~told)
