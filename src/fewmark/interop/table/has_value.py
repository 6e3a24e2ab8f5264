"""Rows that hold no value at all are no measurements, whatever their status says."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from fewmark.core import FormatError, Status
from fewmark.core.columns import METRIC_COLUMNS, SERVING_COLUMNS
from fewmark.interop.table.understanding import Understanding

NOTE: Final = "no value in the row"
_SUFFIXES: Final = ("_s", "_w")  # of every metric's name, which ends in its unit
_NO_METRICS: Final = frozenset(("wall_s", "accelerator_s", "startup_s", "duration_s"))


def has_value(frame: pd.DataFrame) -> pd.Series:
    """Which rows hold a value of any metric. A zero is none: it is what tools write for the unknown."""
    found = np.zeros(len(frame), dtype=bool)
    told = frame.attrs.get("understanding")
    unknown = told.unknown if isinstance(told, Understanding) else {}
    for name in frame.columns:
        if name in unknown:  # a name that ends as a metric's does, and that nobody understood
            continue
        metric = name in (*METRIC_COLUMNS, *SERVING_COLUMNS) or (name.endswith(_SUFFIXES) and name not in _NO_METRICS)
        if metric and pd.api.types.is_numeric_dtype(frame[name]):
            found |= (frame[name] > 0).to_numpy()
    return pd.Series(found, index=frame.index)


def require_values(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with each row that claims to be ok and has no value marked as invalid; the table given is not changed.

    Raises
    ------
    FormatError
        If no row has a value and none says that it failed; the message names the columns that nobody understood.
    """
    empty = ~has_value(frame) & (frame["status"] == str(Status.OK))
    if not empty.any():
        return frame
    if empty.all():
        raise FormatError("no row has a value", got=_columns(frame), hint=_hint(frame))
    out = frame.copy()
    out.loc[empty, "status"] = str(Status.INVALID)
    notes = out["note"] if "note" in out else pd.Series([None] * len(out), index=out.index, dtype=object)
    out["note"] = [
        (f"{note}; {NOTE}" if isinstance(note, str) and note else NOTE) if is_empty else note
        for note, is_empty in zip(notes, empty, strict=True)
    ]
    return out


def _columns(frame: pd.DataFrame) -> str:
    told = frame.attrs.get("understanding")
    unknown = list(told.unknown) if isinstance(told, Understanding) else []
    return f"columns not understood: {', '.join(unknown[:20])}" if unknown else "no column of a metric"


def _hint(frame: pd.DataFrame) -> str:
    told = frame.attrs.get("understanding")
    near = {name: names for name, names in told.unknown.items() if names} if isinstance(told, Understanding) else {}
    shown = "; ".join(f"{name}: did you mean {' or '.join(names)}?" for name, names in list(near.items())[:5])
    reasons = "; ".join(told.notes) if isinstance(told, Understanding) else ""
    metrics = f"metrics are {', '.join(METRIC_COLUMNS)}; units may be in the name, as in ttft_ms"
    return "; ".join(filter(None, [reasons, shown, metrics]))
