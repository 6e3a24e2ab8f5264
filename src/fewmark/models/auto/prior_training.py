"""How the packaged prior is learned from public measurements (`tools/build_prior.py`)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fewmark.models.auto.public_prior import Prior, fingerprints
from fewmark.tables.arrays import FloatArray


def learn_prior(X: pd.DataFrame, seconds: FloatArray, latency: str) -> Prior:
    """The prior of a latency from cells of many deployments, one row a cell, with `ttft_s` and `tpot_s` where known."""
    from fewmark.models.auto.latency_gp import LatencyGP

    X = X.reset_index(drop=True)
    model = LatencyGP(target=latency).fit(X, seconds)
    fold = np.zeros(len(X), dtype=np.int64)
    codes = model.featuriser_.asked(X).deployment
    for number, hyper in enumerate(model.hypers_[1:], start=1):
        fold[np.isin(codes, list(hyper.unseen))] = number
    theta = np.array([hyper.theta for hyper in model.hypers_])
    scales = np.array([hyper.log_scale for hyper in model.hypers_])
    return Prior(X, seconds, fold, theta, scales, frozenset(fingerprints(X, seconds)))
