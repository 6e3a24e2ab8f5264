"""How a decode step's time grows with the KV cache, learned from every run of a deployment at once.

Notation, for measurement i with load B_i (sequences) and stretch s of its steps:

    y_is = (mean step of the stretch) / m(B_i)    relative step time; m(B) = mean step of the measurements with load B
    x_is                                          mean KV length, tokens a sequence
    y_is = α(B_i) + (b0 + b1·B_i)/m(B_i) · x_is + u_i + ε_is
    u_i ~ N(0, τ²): what a whole visit of the machine has in common;  ε_is ~ N(0, σ²/count_is)

A step reads the weights once and the cache of every sequence, hence the growth b0 + b1·B, both at least 0. One short
run says next to nothing of its own growth; the cases of a deployment, with inputs of many lengths, and full runs say a
lot. α has a flat prior, the growth over a doubling of the largest KV length one of sd `PRIOR_GROWTH` (a ridge), σ and
τ are estimated from the residuals with a prior worth `PRIOR_DF` observations. Generalised least squares: V is
diagonal plus τ²·11ᵀ for each measurement (Sherman & Morrison 1950).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fewmark.runner.steps import FloatArray, Stretches

PRIOR_GROWTH: Final = 1.0
PRIOR_SIGMA: Final = 0.2  # of one step
PRIOR_TAU: Final = 0.03
PRIOR_DF: Final = 3.0
ROUNDS: Final = 3


@dataclass(frozen=True)
class Growth:
    """The fitted growth: seconds a step gains for each token of KV length, with its uncertainty."""

    coefficients: FloatArray  # (b0, b1)
    covariance: FloatArray  # (2, 2)
    sigma: float
    tau: float
    scatter: float

    def slope(self, load: int) -> tuple[float, float]:
        """Seconds a step gains per token of KV length at this load, and the standard deviation of that."""
        row = np.array([1.0, float(load)])
        return float(row @ self.coefficients), float(np.sqrt(max(0.0, row @ self.covariance @ row)))


def fit_growth(runs: Sequence[Stretches]) -> Growth:
    """Fit the model to the runs of one deployment (at least one)."""
    loads = sorted({run.load for run in runs})
    level = {b: float(np.mean([run.mean_s for run in runs if run.load == b])) for b in loads}
    longest = max(float(run.kv_at.max()) for run in runs)
    designs, values, counts = [], [], []
    for run in runs:
        m = level[run.load]
        one = np.zeros((len(run.step_s), len(loads)))
        one[:, loads.index(run.load)] = 1.0
        grown = run.kv_at / longest
        # scaled so that a coefficient is the relative growth that load max(B) sees over the longest cache
        designs.append(np.column_stack([one, grown * level[loads[0]] / m, grown * run.load * level[loads[0]] / m]))
        values.append(run.step_s / m)
        counts.append(run.count)
    sigma = _sigma(values, counts)
    tau, free = PRIOR_TAU, np.array([True] * len(loads) + [True, True])
    ridge = np.concatenate([np.zeros(len(loads)), [PRIOR_GROWTH**-2, (loads[0] / PRIOR_GROWTH) ** 2]])
    theta, cov = np.zeros(len(free)), np.zeros((len(free), len(free)))
    for _ in range(ROUNDS):
        theta, cov = _solve(designs, values, counts, sigma, tau, ridge, free)
        for k in (len(loads), len(loads) + 1):  # a growth below zero is none
            if free[k] and theta[k] < 0:
                free[k] = False
                theta, cov = _solve(designs, values, counts, sigma, tau, ridge, free)
        left = [v - d @ theta for v, d in zip(values, designs, strict=True)]
        own = np.array([np.average(r, weights=c) for r, c in zip(left, counts, strict=True)])
        known = np.array([sigma**2 / c.sum() for c in counts])
        df = max(0, len(runs) - len(loads))
        excess = max(0.0, float((own**2 - known).sum()))
        tau = float(np.sqrt((PRIOR_DF * PRIOR_TAU**2 + excess) / (PRIOR_DF + df)))
    scale = level[loads[0]] / longest
    last = slice(len(loads), len(loads) + 2)
    return Growth(theta[last] * scale, cov[last, last] * scale**2, sigma, tau, _scatter(runs))


def _solve(
    designs: list[FloatArray],
    values: list[FloatArray],
    counts: list[FloatArray],
    sigma: float,
    tau: float,
    ridge: FloatArray,
    free: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Coefficients (those not free are 0) and their covariance."""
    n = len(free)
    precision, right = np.diag(ridge), np.zeros(n)
    for design, value, count in zip(designs, values, counts, strict=True):
        weight = count / sigma**2
        total = weight @ design
        shrink = 1.0 / (tau**-2 + weight.sum())
        precision += (design.T * weight) @ design - shrink * np.outer(total, total)
        right += (design.T * weight) @ value - shrink * total * (weight @ value)
    theta, cov = np.zeros(n), np.zeros((n, n))
    at = np.flatnonzero(free)
    cov[np.ix_(at, at)] = np.linalg.pinv(precision[np.ix_(at, at)])
    theta[at] = cov[np.ix_(at, at)] @ right[at]
    return theta, cov


def _sigma(values: list[FloatArray], counts: list[FloatArray]) -> float:
    """The relative sd of one step, from neighbouring stretches: what grows cancels there."""
    parts = [(np.diff(v) ** 2 / (1 / c[1:] + 1 / c[:-1])) for v, c in zip(values, counts, strict=True) if len(v) > 1]
    squares = np.concatenate(parts) if parts else np.zeros(0)
    return float(np.sqrt((PRIOR_DF * PRIOR_SIGMA**2 + squares.sum()) / (PRIOR_DF + len(squares))))


def _scatter(runs: Sequence[Stretches]) -> float:
    """The relative sd of one run's latency among the repeats of its case."""
    squares = [float(np.var(np.log(r.latencies), ddof=1)) for r in runs if len(r.latencies) > 1]
    degrees = [len(r.latencies) - 1 for r in runs if len(r.latencies) > 1]
    pooled = float(np.dot(squares, degrees)) if degrees else 0.0
    return float(np.sqrt((PRIOR_DF * 0.02**2 + pooled) / (PRIOR_DF + sum(degrees))))
