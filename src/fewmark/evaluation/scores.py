"""Scores of predictions against what was measured. Errors, widths and shares are fractions."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import pandas as pd

from fewmark.tables.arrays import BoolArray, FloatArray


class AcceleratorScores(TypedDict):
    """The scores of one model over its hidden cells of one accelerator."""

    n: int
    median_ape: float | None
    picp_90: float | None


class Scores(TypedDict):
    """The scores of one model over its hidden cells; None where it answered none."""

    n: int
    median_ape: float | None
    p90_ape: float | None
    mape: float | None
    picp_90: float | None
    median_relative_width_90: float | None
    abstained: int
    forecast_mae: float | None
    by_accelerator: dict[str, AcceleratorScores]


def scores(details: pd.DataFrame) -> Scores:
    """The scores of one model over its hidden cells.

    Parameters
    ----------
    details : DataFrame
        One row a hidden cell: ``deployment``, ``accelerator``, ``measured``, ``value``, ``low``, ``high`` (NaN where
        the model abstained), ``forecast`` (of the median APE of its deployment's cells in its turn).
    """
    answered = details[details["value"].notna()]
    ape = absolute_percentage_error(answered)
    return {
        "n": len(answered),
        "median_ape": _known(np.median(ape)) if len(ape) else None,
        "p90_ape": _known(np.quantile(ape, 0.9)) if len(ape) else None,
        "mape": _known(ape.mean()) if len(ape) else None,
        "picp_90": _known(_inside(answered).mean()) if len(ape) else None,
        "median_relative_width_90": _median_width(answered),
        "abstained": len(details) - len(answered),
        "forecast_mae": forecast_mae(answered),
        "by_accelerator": {
            "unknown" if pd.isna(name) else str(name): {
                "n": len(part),
                "median_ape": _known(np.median(absolute_percentage_error(part))),
                "picp_90": _known(_inside(part).mean()),
            }
            for name, part in answered.groupby("accelerator", dropna=False)
        },
    }


def absolute_percentage_error(details: pd.DataFrame) -> FloatArray:
    """|value − measured| / measured of each row, as a fraction."""
    measured = details["measured"].to_numpy(float)
    return np.asarray(np.abs(details["value"].to_numpy(float) - measured) / measured)


def forecast_mae(answered: pd.DataFrame) -> float | None:
    """Mean over deployments of |forecast − actual median APE|.

    A deployment's forecast is the mean, over its hidden cells, of the forecasts made in their turns.
    """
    frame = answered.assign(ape=absolute_percentage_error(answered))
    grouped = frame.groupby("deployment")
    gaps = (grouped["forecast"].mean() - grouped["ape"].median()).abs().dropna()
    return _known(gaps.mean()) if len(gaps) else None


def _inside(details: pd.DataFrame) -> BoolArray:
    measured = details["measured"].to_numpy(float)
    return np.asarray((details["low"].to_numpy(float) <= measured) & (measured <= details["high"].to_numpy(float)))


def _median_width(answered: pd.DataFrame) -> float | None:
    width = ((answered["high"] - answered["low"]) / answered["value"]).to_numpy(float)
    return _known(np.median(width)) if len(width) else None


def _known(value: float | np.floating) -> float | None:
    """A float for JSON; infinite and undefined are unknown."""
    return float(value) if np.isfinite(value) else None
