"""The rows of a table as the rules look at them: which deployment, which cell, and how long it took.

Notation: l = natural logarithm of the end-to-end latency in seconds. Where a table has no latency, the one that
batch (or users) × output tokens / throughput implies stands in for it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.columns import WORKLOAD_PREFIX
from fewmark.screening.remembered import deployment_codes, held_of, remembered_of, workload_codes
from fewmark.tables.arrays import FloatArray
from fewmark.tables.columns import load_kind_of, load_of, sequences_of
from fewmark.tables.identity import group_codes


def log_latency(frame: pd.DataFrame) -> FloatArray:
    """l of each row; NaN where neither a latency nor a throughput is known, or the run did not end well."""
    return remembered_of(frame, "latency", _log_latency)


def _log_latency(frame: pd.DataFrame) -> FloatArray:
    ii, oo, bb = (frame["input_tokens"].to_numpy(), frame["output_tokens"].to_numpy(), sequences_of(frame))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        latency = frame["e2e_latency_s"].to_numpy(dtype=np.float64)
        latency = np.where(np.isnan(latency), bb * oo / frame["throughput_tok_s"].to_numpy(), latency)
        latency = np.where(np.isnan(latency), bb * (ii + oo) / frame["total_throughput_tok_s"].to_numpy(), latency)
        out = np.where(latency > 0, np.log(latency), np.nan)
    ended_well = (frame["status"] == "ok").to_numpy()
    return np.where(ended_well & np.isfinite(out), out, np.nan)


def robust_scale(values: FloatArray) -> float:
    """The standard deviation of a normal distribution with the same median absolute deviation; 0 with no values."""
    known = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(known - np.median(known)))) if len(known) else 0.0


CONTESTED: Final = float(np.log(1.5))  # repeats farther apart give no latency to judge by
CONFIRMING: Final = 3  # so many repeats that agree are evidence, however odd what they say


def cell_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a cell with known latency: deployment, ii, oo, bb, online (the kind of load, a position in
    `LOAD_COLUMNS`), l (median over repeats), rows (labels of its rows, in file order), confirmed (whether enough
    repeats, no copies of each other, agree).

    Cells whose repeats contradict one another are not among them: they accuse nobody, and are not accused.
    """
    out = remembered_of(frame, "cells", _cell_table).copy(deep=False)
    out.attrs["cells_of"] = id(frame)
    return out


def remembered(cells: pd.DataFrame, work_out: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """What is worked out of the cells of a table, once where its cells are remembered; not to be changed."""
    held = held_of(cells.attrs.get("cells_of", 0), "cells")
    if not isinstance(held, pd.DataFrame) or len(held) != len(cells):
        return work_out(cells)
    return remembered_of(held, "residuals", work_out)


def _cell_table(frame: pd.DataFrame) -> pd.DataFrame:
    flat = pd.DataFrame(
        {
            "deployment": deployment_codes(frame),
            "workload": workload_codes(frame),
            "ii": frame["input_tokens"].to_numpy(),
            "oo": frame["output_tokens"].to_numpy(),
            "bb": load_of(frame),
            "online": load_kind_of(frame),
            "further": group_codes(frame, _prefixed(frame, WORKLOAD_PREFIX))[0],
            "l": log_latency(frame),
            "label": frame.index.to_numpy(),
        }
    ).dropna(subset=["ii", "oo", "bb", "l"])
    if flat.empty:
        return flat.assign(rows=pd.Series(dtype=object), confirmed=pd.Series(dtype=bool))
    grouped = flat.groupby(["deployment", "workload"], sort=False)
    out = grouped.agg({"ii": "first", "oo": "first", "bb": "first", "online": "first", "further": "first"})
    out["l"] = grouped["l"].median()
    code = grouped.ngroup().to_numpy()
    label = flat["label"].to_numpy()[np.argsort(code, kind="stable")]
    labels, ends = label.tolist(), np.bincount(code).cumsum().tolist()
    rows = [labels[start:end] for start, end in pairwise([0, *ends])]
    out["rows"] = pd.Series(rows, index=out.index, dtype=object)
    width = grouped["l"].max() - grouped["l"].min()
    out["confirmed"] = (grouped.size() >= CONFIRMING) & (width > 0)
    return out[width <= CONTESTED].reset_index()


def verdict_on(rows: list[int], *, confirmed: bool, reason: str) -> tuple[str, str]:
    """The action on a cell that its neighbours accuse, and the reason: repeats that agree are only warned of."""
    if not confirmed:
        return "exclude", reason
    return "warn", f"{reason}; but {len(rows)} repeats agree, so it is believed"


def describe_cell(ii: float, oo: float, bb: float, online: int = 0) -> str:
    """A cell for a reader: tokens in, tokens out, load."""
    return f"{ii:g}→{oo:g} tokens at {('batch', 'concurrency', 'request rate')[int(online)]} {bb:g}"


def _prefixed(frame: pd.DataFrame, prefix: str) -> list[str]:
    return [name for name in frame.columns if name.startswith(prefix)]
