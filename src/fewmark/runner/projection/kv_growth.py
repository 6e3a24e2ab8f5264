"""How a decode step's time grows with the KV cache, learned from every run of a deployment at once.

Notation, for visit i (one measurement of a case: runs one after the other) with load B_i (sequences), and stretch s of
its steps:

    y_is = (interquartile mean step of the stretch) / m(B_i)      m(B) = the median over the visits with load B
    x_is                                                          mean KV length, tokens a sequence
    y_is = α(B_i) + (b0 + b1·B_i)/m(B_i) · x_is + c_i + v_i + d_i·z_is + ε_is
    c_i ~ N(0, κ²): what the case has of its own;  v_i ~ N(0, τ²): what a visit meets of the machine;
    d_i ~ N(0, δ²): by how much it changes from one end of a run (z = −½) to the other (z = ½);
    ε_is ~ N(0, σ²/count_is);  g_i = plain mean step / interquartile mean step, log g_i ~ N(log g, σ_g²/count_i)

A step reads the weights once and the cache of every sequence, hence the growth b0 + b1·B, both at least 0, and b0 the
lesser part. One short run says next to nothing of its own growth; the cases of a deployment, with inputs of many
lengths, and full runs say a lot, a full run less where the machine drifts while it lasts. α has a flat prior, the
growth over the longest KV length one of sd `PRIOR_COMMON` (b0) and `PRIOR_GROWTH` (b1, of the least load). Generalised
least squares: V is diagonal plus (κ² + τ²)·11ᵀ + δ²·zzᵀ for each visit; visits far off weigh less (Student's t with
`ROBUST_DF` degrees of freedom). δ comes from the repeats, which differ as the ends of a run do, κ² + τ² from what is
left of the visits, τ² from visits of the same case, both with priors worth `PRIOR_DF` observations.

Of a case's own level above the fit only the share κ²/(κ² + τ² + σ²/count) is the case's: on a quiet machine all of
it, on a noisy one little, and what the deployment's other cases say counts for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fewmark.runner.projection.decode_steps import FloatArray, Stretches

PRIOR_GROWTH: Final = 1.0
PRIOR_COMMON: Final = 0.15
PRIOR_SIGMA: Final = 0.1  # of one step
PRIOR_CASE: Final = 0.03
PRIOR_TAU: Final = 0.007
PRIOR_DF: Final = 3.0
ROBUST_DF: Final = 4.0
ROUNDS: Final = 6
MIN_STEP_SHARE: Final = 0.1  # of the case's own mean step: no noise makes the steps left cost next to nothing


@dataclass(frozen=True)
class Level:
    """The mean step of a case over the steps left: seconds, and its relative standard deviation."""

    step_s: float
    sd: float


@dataclass(frozen=True)
class Growth:
    """The fitted growth, with its uncertainty.

    `theta` and `covariance` are of α(B) for each of `loads`, then b0 and b1, both scaled; `scatter` is the relative sd
    of one run among the repeats of its case, `inflation` g, `spikes` σ_g.
    """

    loads: tuple[int, ...]
    levels: FloatArray
    longest: float
    theta: FloatArray
    covariance: FloatArray
    sigma: float
    tau: float
    case: float
    scatter: float
    inflation: float
    spikes: float

    def slope(self, load: int) -> tuple[float, float]:
        """Seconds a step gains per token of KV length at this load, and the standard deviation of that."""
        unit = self.levels[0] / self.longest
        row = np.array([1.0, load / self.loads[0]]) * unit
        covariance = self.covariance[-2:, -2:]
        return float(row @ self.theta[-2:]), float(np.sqrt(max(0.0, row @ covariance @ row)))

    def level(self, run: Stretches, kv: float) -> Level:
        """The mean step at KV length `kv` of the case that `run` is of; `run` must have been in the fit."""
        m = self.levels[self.loads.index(run.load)]
        here, there = (self._row(run.load, at, m) for at in (run.kv, kv))
        noise = self.tau**2 + self.sigma**2 / run.steps
        share = self.case**2 / (self.case**2 + noise)
        own = run.mean_s / m - float(here @ self.theta)
        base = max(float(there @ self.theta) + share * own, MIN_STEP_SHARE * run.mean_s / m)
        mixed = there - share * here
        variance = float(mixed @ self.covariance @ mixed) + share**2 * noise + (1 - share) ** 2 * self.case**2
        sampled = self.spikes**2 / run.steps
        trust = PRIOR_CASE**2 / 4 / (PRIOR_CASE**2 / 4 + sampled)
        inflation = self.inflation * float(np.exp(trust * np.log(run.inflation / self.inflation)))
        return Level(float(base * m * inflation), float(np.sqrt(variance / base**2 + trust * sampled)))

    def _row(self, load: int, kv: float, m: float) -> FloatArray:
        row = np.zeros(len(self.loads) + 2)
        row[self.loads.index(load)] = 1.0
        row[-2:] = np.array([1.0, load / self.loads[0]]) * kv / self.longest * self.levels[0] / m
        return row


def fit_growth(runs: Sequence[Stretches]) -> Growth:
    """Fit the model to the visits of one deployment (at least one)."""
    loads = tuple(sorted({run.load for run in runs}))
    levels = np.array([np.median([run.mean_s for run in runs if run.load == b]) for b in loads])
    longest = max(float(run.kv_at.max()) for run in runs)
    designs, values, counts = [], [], []
    for run in runs:
        at = loads.index(run.load)
        one = np.zeros((len(run.step_s), len(loads)))
        one[:, at] = 1.0
        grown = run.kv_at / longest * levels[0] / levels[at]
        designs.append(np.column_stack([one, grown, grown * run.load / loads[0]]))
        values.append(run.step_s / levels[at])
        counts.append(run.count)
    sigma = _sigma(values, counts)
    known = np.array([sigma**2 / run.steps for run in runs])
    scatter = _scatter(runs, sigma)
    ridge = np.concatenate([np.zeros(len(loads)), [PRIOR_COMMON**-2, PRIOR_GROWTH**-2]])
    drifts = [_drift(run, scatter) for run in runs]
    weight, between = np.ones(len(runs)), PRIOR_CASE**2 + PRIOR_TAU**2
    theta, covariance, own = np.zeros(0), np.zeros((0, 0)), np.zeros(len(runs))
    for _ in range(ROUNDS):
        theta, covariance = _solve(designs, values, counts, sigma, between / weight, drifts, ridge, len(loads))
        left = [v - d @ theta for v, d in zip(values, designs, strict=True)]
        own = np.array([np.average(r, weights=c) for r, c in zip(left, counts, strict=True)])
        excess = max(0.0, float((weight * own**2 - known).sum()))
        prior = PRIOR_CASE**2 + PRIOR_TAU**2 + scatter**2
        free = max(0.0, len(runs) - len(loads))
        between = (PRIOR_DF * prior + excess) / (PRIOR_DF + free) if free else prior
        weight = (ROBUST_DF + 1) / (ROBUST_DF + own**2 / (between + known))
    tau = _tau(runs, own, known, max(PRIOR_TAU**2 + scatter**2, between - PRIOR_CASE**2))
    case = float(np.sqrt(max(PRIOR_CASE**2 / 4, between - tau**2)))
    spikes = _spikes(runs, sigma)
    logs, steps = np.log([run.inflation for run in runs]), np.array([run.steps for run in runs])
    precision = 1 / (PRIOR_CASE**2 / 4 + tau**2 + spikes**2 / steps)
    inflation = float(np.exp(np.average(logs, weights=precision)))
    return Growth(loads, levels, longest, theta, covariance, sigma, tau, case, scatter, inflation, spikes)


def _solve(
    designs: list[FloatArray],
    values: list[FloatArray],
    counts: list[FloatArray],
    sigma: float,
    between: FloatArray,
    drifts: Sequence[FloatArray],
    ridge: FloatArray,
    n_loads: int,
) -> tuple[FloatArray, FloatArray]:
    """Coefficients and their covariance; a growth below zero is none."""
    n = len(ridge)
    precision, right = np.diag(ridge), np.zeros(n)
    for design, value, count, share, drift in zip(designs, values, counts, between, drifts, strict=True):
        shared = np.column_stack([np.full(len(value), np.sqrt(share)), drift])
        inverse = np.linalg.inv(np.diag(sigma**2 / count) + shared @ shared.T)
        precision += design.T @ inverse @ design
        right += design.T @ inverse @ value
    free = np.ones(n, dtype=bool)
    while True:
        theta, covariance = np.zeros(n), np.zeros((n, n))
        at = np.flatnonzero(free)
        covariance[np.ix_(at, at)] = np.linalg.pinv(precision[np.ix_(at, at)])
        theta[at] = covariance[np.ix_(at, at)] @ right[at]
        below = [k for k in (n_loads, n_loads + 1) if theta[k] < 0]
        if not below:
            return theta, covariance
        free[min(below, key=lambda k: theta[k])] = False


def _drift(run: Stretches, scatter: float) -> FloatArray:
    """The sd of what a visit's steps drift by from its middle, (stretches,): as repeats differ, so do its ends."""
    span = np.ptp(run.kv_at)
    along = (run.kv_at - run.kv) / span if span else np.zeros(len(run.kv_at))
    return np.asarray(along * 2 * np.sqrt(PRIOR_TAU**2 + scatter**2 / max(1, len(run.repeats_s))))


def _sigma(values: list[FloatArray], counts: list[FloatArray]) -> float:
    """The relative sd of one step, from neighbouring stretches: what grows cancels there."""
    parts = [(np.diff(v) ** 2 / (1 / c[1:] + 1 / c[:-1])) for v, c in zip(values, counts, strict=True) if len(v) > 1]
    squares = np.concatenate(parts) if parts else np.zeros(0)
    return float(np.sqrt((PRIOR_DF * PRIOR_SIGMA**2 + squares.sum()) / (PRIOR_DF + len(squares))))


def _tau(runs: Sequence[Stretches], own: FloatArray, known: FloatArray, prior: float) -> float:
    """The relative sd of a visit, from cases that were visited more than once; `prior` is what it may be else."""
    squares, df = 0.0, 0
    for case in {run.case for run in runs if run.case}:
        at = [i for i, run in enumerate(runs) if run.case == case]
        if len(at) > 1:
            squares += max(0.0, float(np.var(own[at], ddof=1)) - float(known[at].mean())) * (len(at) - 1)
            df += len(at) - 1
    return float(np.sqrt((PRIOR_DF * prior + squares) / (PRIOR_DF + df)))


def _spikes(runs: Sequence[Stretches], sigma: float) -> float:
    """σ_g: what one step adds to the scatter of the inflation."""
    logs, steps = np.log([run.inflation for run in runs]), np.array([run.steps for run in runs])
    middle = np.average(logs, weights=steps)
    squares = float((steps * (logs - middle) ** 2).sum())
    return float(np.sqrt((PRIOR_DF * sigma**2 + squares) / (PRIOR_DF + len(runs) - 1)))


def _scatter(runs: Sequence[Stretches], sigma: float) -> float:
    """The relative sd of one run among the repeats of its case, beyond what its steps scatter."""
    squares, df = 0.0, 0
    for run in runs:
        if (n := len(run.repeats_s)) > 1:
            expected = sigma**2 * n / run.steps
            squares += (n - 1) * (float(np.var(np.log(run.repeats_s), ddof=1)) - expected)
            df += n - 1
    return float(np.sqrt((PRIOR_DF * PRIOR_TAU**2 + max(0.0, squares)) / (PRIOR_DF + df)))
