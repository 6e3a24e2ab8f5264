"""The noise of a deployment alone, which no other deployment helps to tell from signal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from fewmark.models.analytic.mechanistic import N_TERMS, Mechanistic
from fewmark.tables.arrays import FloatArray
from fewmark.tables.metrics import latency_and_seconds

MAX_OWN_NOISE: Final = 0.15  # log sd; more than this is a shape that the parametric model lacks


def scatter_alone(X: pd.DataFrame, values: FloatArray, target: str, noise_scales: Mapping[int, float]) -> float:
    """The scatter about a parametric model that a process takes for signal, a standard deviation of the log.

    A deployment alone has no others to calibrate by, and a flexible process follows the noise of few cells; what
    scatters about the few terms of `fewmark.models.analytic.mechanistic` may all be noise.

    Parameters
    ----------
    X, values : n cells and the target's values, (n,)
    noise_scales : by deployment, the standard deviation that the process has taken for noise

    Returns
    -------
    float
        0 where there are several deployments, or too few cells.
    """
    n = len(values)
    if len(noise_scales) > 1 or n <= 2 * N_TERMS - 5:
        return 0.0
    latency, seconds = latency_and_seconds(X, values, target)
    parametric = Mechanistic(target=latency).fit(X, seconds).predict(X)
    scatter = np.log(parametric / seconds) ** 2
    own = next(iter(noise_scales.values()))
    found = np.sqrt(max(0.0, float(np.nansum(scatter)) / (n - N_TERMS + 1) - own**2))
    return float(min(found, MAX_OWN_NOISE))
