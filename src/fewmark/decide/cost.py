"""What tokens cost on a deployment.

Notation: a accelerators at p money an hour each, e money a kilowatt-hour, P watts of all of them, t seconds an hour;
thr output tokens per second; ii, oo tokens in and out; s the share of a request's time that is prefill (TTFT / e2e).

    hourly cost H                  a p + P e / 1000
    per million output tokens      H (1 - s) / (3600 thr) · 10^6
    per million input tokens       H s / (3600 thr ii / oo) · 10^6
    per million tokens (blended)   H / (3600 thr (ii + oo) / oo) · 10^6
    tokens per unit of money       3600 thr / H;     tokens per joule   thr / P
    replicas for a demand d tok/s  ceil(d / thr)

Splitting a request's cost by the time of its phases is fewmark's own convention; where the TTFT is unknown the two
prices are not told apart and only the blended one is given. `per million output tokens, all in` charges everything
to the output: H / (3600 thr) · 10^6. It is what recommendations rank by.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fewmark.core.errors import InputError
from fewmark.decide.prices import Prices
from fewmark.tables.arrays import FloatArray
from fewmark.tables.columns import accelerator_counts

MILLION = 1e6
HOUR_S = 3600.0


def hourly_cost(
    cells: pd.DataFrame, prices: Prices | None, *, region: str | None = None, spot: bool = False
) -> FloatArray:
    """Money an hour of each cell's deployment, (n,); NaN where its price or its number of accelerators is unknown.

    Raises
    ------
    InputError
        If there are prices of regions, but not of this one.
    """
    if prices is None:
        return np.full(len(cells), np.nan)
    if region and region not in prices.regions():
        raise InputError(
            "there are no prices of this region", got=region, hint=f"of {', '.join(prices.regions()) or 'none'}"
        )
    found = [prices.find(name, region=region, spot=spot) for name in _names(cells)]
    per_hour = np.array([np.nan if price is None else price.per_hour for price in found], dtype=float)
    energy = np.zeros(len(cells))
    if prices.energy_per_kwh:
        watts = np.array([np.nan if p is None or p.power_w is None else p.power_w for p in found], dtype=float)
        energy = np.where(np.isnan(watts), 0.0, watts) / 1000 * prices.energy_per_kwh
    return np.asarray(accelerator_counts(cells) * (per_hour + energy))


def power_w(cells: pd.DataFrame, prices: Prices | None) -> FloatArray:
    """Watts of all accelerators of each cell's deployment: as measured, else by the price file, else NaN, (n,)."""
    measured = (
        pd.to_numeric(cells["power_w"], errors="coerce").to_numpy(dtype=float)
        if "power_w" in cells.columns
        else np.full(len(cells), np.nan)
    )
    if prices is None:
        return measured
    found = [prices.find(name, spot=True) for name in _names(cells)]
    stated = np.array([np.nan if p is None or p.power_w is None else p.power_w for p in found], dtype=float)
    return np.where(np.isnan(measured), stated * accelerator_counts(cells), measured)


def token_costs(
    cells: pd.DataFrame, throughput_tok_s: FloatArray, hourly: FloatArray, prefill_share: FloatArray, power: FloatArray
) -> pd.DataFrame:
    """The figures of the notation above, a row a cell; NaN where a part is unknown.

    Parameters
    ----------
    throughput_tok_s, hourly, prefill_share, power : arrays (n,): thr, H, s, P
    """
    ii = cells["input_tokens"].to_numpy(dtype=float)
    oo = cells["output_tokens"].to_numpy(dtype=float)
    per_output = hourly / (HOUR_S * throughput_tok_s) * MILLION
    return pd.DataFrame(
        {
            "cost_per_mtok_all_in": per_output,
            "cost_per_mtok_output": per_output * (1 - prefill_share),
            "cost_per_mtok_input": per_output * prefill_share * oo / ii,
            "cost_per_mtok_blended": per_output * oo / (ii + oo),
            "tokens_per_money": HOUR_S * throughput_tok_s / hourly,
            "tokens_per_joule": throughput_tok_s / power,
        },
        index=cells.index,
    )


def require_demand(demand_tok_s: float) -> None:
    """Raise `InputError` unless a demanded output rate is a positive number."""
    if not (np.isfinite(demand_tok_s) and demand_tok_s > 0):
        raise InputError("the demanded load must be a positive number of output tokens per second", got=demand_tok_s)


def replicas(demand_tok_s: float, throughput_tok_s: FloatArray) -> FloatArray:
    """Deployments needed for a demanded output rate, (n,). Raises `InputError` if the demand is not positive."""
    require_demand(demand_tok_s)
    return np.ceil(demand_tok_s / throughput_tok_s - 1e-9)


def _names(cells: pd.DataFrame) -> list[str | None]:
    if "accelerator" not in cells.columns:
        return [None] * len(cells)
    return [name if isinstance(name, str) else None for name in cells["accelerator"]]
