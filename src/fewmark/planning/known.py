"""What is known: the measured cells of a canonical table, once each, with the values that follow by definition."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.errors import InputError, ModelError
from fewmark.core.metrics import TARGETS
from fewmark.evaluate.meta_metrics import cell_codes
from fewmark.models.base import FloatArray, JointModel, Model
from fewmark.planning.belief import Belief, model_belief, prior_belief
from fewmark.planning.space import Space

VALUES: Final = (*TARGETS, "power_w")
MIN_ROWS: Final = 2  # below this no model is asked


def measured_cells(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """The cells whose target is known, once each (repeats reduced to their median), index 0…n-1.

    Rows with a status other than ok, without a length or a load, or without the target (also after deriving it from
    the other metrics) are left out.

    Raises
    ------
    InputError
        If the target is unknown.
    """
    if target not in TARGETS:
        raise InputError("unknown target", got=target, hint=f"one of {', '.join(TARGETS)}")
    axes = table.reindex(columns=["input_tokens", "output_tokens", "batch_size", "concurrency"]).to_numpy(dtype=float)
    whole = np.isfinite(axes[:, :2]).all(axis=1) & (np.isfinite(axes[:, 2]) != np.isfinite(axes[:, 3]))
    if "status" in table.columns:
        whole &= (table["status"].isna() | (table["status"] == "ok")).to_numpy()
    rows = derive(table.loc[whole])
    value = rows[target].to_numpy(dtype=float)
    rows = pd.DataFrame(rows.loc[np.isfinite(value) & (value > 0)])
    if rows.empty:
        return rows.reset_index(drop=True)
    codes = cell_codes(rows)
    first = np.sort(np.unique(codes, return_index=True)[1])
    medians = rows[list(VALUES)].groupby(codes).median()
    out: pd.DataFrame = rows.iloc[first].copy()
    out[list(VALUES)] = medians.loc[codes[first]].to_numpy()
    return out.reset_index(drop=True)


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with every metric of `VALUES` as a column, filled where it follows from the others; see `core.metrics`."""
    out: pd.DataFrame = table.copy()
    for name in VALUES:
        out[name] = pd.to_numeric(out[name], errors="coerce") if name in out.columns else np.nan
    ii, oo, bb = (
        out[name].astype(float) if name in out.columns else pd.Series(np.nan, out.index)
        for name in ("input_tokens", "output_tokens", "batch_size")
    )
    total = bb * (ii + oo) / out["total_throughput_tok_s"]
    out["e2e_latency_s"] = out["e2e_latency_s"].fillna(bb * oo / out["throughput_tok_s"]).fillna(total)
    out["e2e_latency_s"] = out["e2e_latency_s"].fillna(out["ttft_s"] + out["tpot_s"] * (oo - 1))
    out["throughput_tok_s"] = out["throughput_tok_s"].fillna(bb * oo / out["e2e_latency_s"])
    out["throughput_tok_s"] = out["throughput_tok_s"].fillna(out["total_throughput_tok_s"] * oo / (ii + oo))
    out["total_throughput_tok_s"] = out["total_throughput_tok_s"].fillna(out["throughput_tok_s"] * (ii + oo) / oo)
    decode = ((out["e2e_latency_s"] - out["ttft_s"]) / (oo - 1)).where(oo > 1)
    out["tpot_s"] = out["tpot_s"].fillna(decode)
    return out


def run_seconds(cells: pd.DataFrame, space: Space, target: str) -> FloatArray:
    """Seconds of one run of each recorded cell, (n,): its latency, else what its target implies, else NaN."""
    recorded = cells["e2e_latency_s"].to_numpy(dtype=float)
    return np.where(np.isfinite(recorded), recorded, space.latency_s(target, cells[target].to_numpy(dtype=float)))


def fit(model: Model | None, known: pd.DataFrame, target: str) -> Model | None:
    """The model fitted on known cells (see `measured_cells`); None where there is none or too little to fit it on."""
    if model is None or len(known) < MIN_ROWS:
        return None
    try:
        return model.fit(known, known[target].to_numpy(dtype=float))
    except ModelError:
        return None


def joined(known: pd.DataFrame, relatives: pd.DataFrame | None, target: str) -> tuple[pd.DataFrame, int]:
    """What is known, with relatives measured elsewhere where it is too little to fit a model on; how many joined."""
    if relatives is None or relatives.empty or (len(known) and len(measured_cells(known, target)) >= MIN_ROWS):
        return known, 0
    if known.empty:
        return relatives, len(relatives)
    return pd.concat([known.astype(object), relatives.astype(object)], ignore_index=True), len(relatives)


def believe(space: Space, known: pd.DataFrame, target: str, fitted: Model | None) -> Belief:
    """What is believed of a space by a model fitted on `known`; the space's cells among them are marked as measured.

    Without a model only the space's own known cells count.
    """
    belief = prior_belief(space, target) if fitted is None else model_belief(space, fitted)
    knows = isinstance(fitted, JointModel)  # its posterior has the known values in it already
    values = np.log(known[target].to_numpy(dtype=float)) if len(known) else np.zeros(0)
    for position, value in zip(space.locate(known), values, strict=True):
        if position >= 0:
            belief = belief.recall(position, value) if knows else belief.tell(position, value)
    return belief
