"""How a latency grows with the load: what few noisy measurements say, as curves drawn from the posterior.

Notation: L the load (streams, or requests per second), y(L) a metric that does not fall with it, a its value unloaded,
c the load at which it bends, θ = (log a, log c, two shapes). Three kinds of curves, each rising for all θ:

batch   log y/a = (q/s) log(1 + (L/c)^s): flat, then rising as L^q; s = q = 1 is a step that grows with its batch.
queue   y/a = 1 + g L/c + r max(L/c - 1, 0): a corner where all places are taken and the rest waits (closed loop).
pole    log y/a = -q log(1 - (L/c)^s), infinite from the capacity c on (open loop).

Priors: log a normal around the first value, log c uniform a little beyond the range of loads, log s, log q, log g and
log r normal. A measurement's log y has Student's t errors (10 degrees) of its interval's standard deviation, at least
1%, and the curve's own: `MISFIT` for each factor e between its load and where the curve is wanted, since no curve is
right everywhere. A measurement of which only a lower bound is known bounds the curve from below.

The posterior is sampled by sequential Monte Carlo over tempered likelihoods with random-walk Metropolis moves (Del
Moral, Doucet, Jasra, JRSS B 68, 2006), its temperatures chosen by the effective sample size (Jasra et al., 2011).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from scipy.special import log_ndtr

from fewmark.tables.arrays import BoolArray, FloatArray, IntArray

Loop = Literal["closed", "open"]
N_CURVES: Final = 1000
MIN_SD: Final = 0.01
MISFIT: Final = 0.03
DEGREES: Final = 10
BEYOND: Final = 1.5  # log units beyond the range of loads in which a bend may lie
BATCH, QUEUE, POLE = 0, 1, 2
# of the kinds, a priori: a closed loop holds its own load back and has no pole
SHARES: Final[Mapping[Loop, tuple[float, float, float]]] = {"closed": (0.5, 0.5, 0.0), "open": (0.3, 0.2, 0.5)}
N_MOVES: Final = 12  # fewer, and the kinds' shares depend on the seed
SCALES: Final = (1.2, 0.6, 0.25)  # of random-walk steps, in standard deviations
MAX_STAGES: Final = 60
MAX_LOG: Final = 12.0  # above log a: what a pole is cut off at
_LOG_A_SD: Final = 3.0
# by kind: means and standard deviations of its two shapes, (log s, log q) or (log g, log r)
_SHAPE_MEAN: Final = np.array([[0.4, 0.0], [-1.5, 1.5], [0.4, 0.0]])
_SHAPE_SD: Final = np.array([[0.6, 0.35], [1.5, 2.0], [0.6, 0.35]])


@dataclass(frozen=True)
class Readings:
    """Measurements of one metric: loads, log values, their standard deviations, and which are lower bounds only."""

    load: FloatArray
    log_value: FloatArray
    sd: FloatArray
    is_bound: BoolArray


@dataclass
class LatencyCurves:
    """Curves drawn from the posterior of one metric.

    Parameters
    ----------
    low, high : float
        The range of loads.
    loop : {"closed", "open"}
        Whether the load is streams or requests per second.
    random_state : int
    """

    low: float
    high: float
    loop: Loop = "closed"
    random_state: int = 0
    theta: FloatArray = field(init=False)  # (N_CURVES, 4)
    kind: IntArray = field(init=False)  # (N_CURVES,)

    def fit(self, readings: Readings, wanted: float) -> LatencyCurves:
        """Draw curves given measurements; `wanted` is the load near which they should be right."""
        rng = np.random.default_rng(self.random_state)
        middle = float(readings.log_value[0])
        self._middle = middle
        sd = np.hypot(np.maximum(readings.sd, MIN_SD), MISFIT * np.abs(np.log(readings.load / wanted)))
        self.kind = rng.choice(3, N_CURVES, p=SHARES[self.loop])
        self.theta = np.column_stack(
            [
                rng.normal(middle, _LOG_A_SD, N_CURVES),
                rng.uniform(*self._bends(), N_CURVES),
                rng.normal(_SHAPE_MEAN[self.kind], _SHAPE_SD[self.kind]),
            ]
        )
        likelihood = self._log_likelihood(self.theta, self.kind, readings, sd)
        temperature = 0.0
        for _ in range(MAX_STAGES):
            step = _next_step(likelihood, 1.0 - temperature)
            weights = np.exp(step * (likelihood - likelihood.max()))
            chosen = _resample(weights / weights.sum(), rng)
            self.theta, self.kind, likelihood = self.theta[chosen], self.kind[chosen], likelihood[chosen]
            temperature += step
            likelihood = self._move(likelihood, temperature, readings, sd, rng)
            if temperature >= 1.0:
                break
        return self

    def log_values(self, load: float) -> FloatArray:
        """log y(load) of each curve, (N_CURVES,)."""
        return _log_curve(self.theta, self.kind, np.array([load]))[:, 0]

    def limits(self, log_limit: float) -> FloatArray:
        """The load at which each curve reaches a limit, (N_CURVES,); 0 where it is above it at all loads."""
        log_a, c, first, second = self.theta[:, 0], *np.exp(self.theta[:, 1:]).T
        room = log_limit - log_a
        more = np.expm1(np.clip(room, 0.0, MAX_LOG))
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            batch = np.expm1(np.minimum(first * room / second, 600.0)) ** (1 / first)
            queue = np.where(more <= first, more / first, (more + second) / (first + second))
            pole = (-np.expm1(-room / second)) ** (1 / first)
        return np.asarray(np.where(room > 0, c * np.choose(self.kind, [batch, queue, pole]), 0.0))

    def _bends(self) -> tuple[float, float]:
        return np.log(self.low) - BEYOND, np.log(self.high) + BEYOND

    def _log_prior(self, theta: FloatArray) -> FloatArray:
        first, last = self._bends()
        shapes = (theta[:, 2:] - _SHAPE_MEAN[self.kind]) / _SHAPE_SD[self.kind]
        out = -0.5 * (((theta[:, 0] - self._middle) / _LOG_A_SD) ** 2 + (shapes**2).sum(axis=1))
        return np.asarray(np.where((theta[:, 1] >= first) & (theta[:, 1] <= last), out, -np.inf))

    @staticmethod
    def _log_likelihood(theta: FloatArray, kind: IntArray, readings: Readings, sd: FloatArray) -> FloatArray:
        residual = (readings.log_value - _log_curve(theta, kind, readings.load)) / sd
        terms = -0.5 * (DEGREES + 1) * np.log1p(residual**2 / DEGREES)
        if readings.is_bound.any():
            terms[:, readings.is_bound] = log_ndtr(-residual[:, readings.is_bound])
        return np.asarray(terms.sum(axis=1))

    def _move(
        self, likelihood: FloatArray, temperature: float, readings: Readings, sd: FloatArray, rng: np.random.Generator
    ) -> FloatArray:
        """Random-walk steps of each kind of curve, scaled by how its curves lie."""
        prior = self._log_prior(self.theta)
        members = [np.flatnonzero(self.kind == kind) for kind in (BATCH, QUEUE, POLE)]
        roots = [_root(np.cov(self.theta[rows].T)) if len(rows) > 8 else None for rows in members]
        for move in range(N_MOVES):
            normal = rng.standard_normal(self.theta.shape) * SCALES[move % len(SCALES)]
            steps = np.zeros_like(self.theta)
            for rows, root in zip(members, roots, strict=True):
                if root is not None:
                    steps[rows] = normal[rows] @ root.T
            proposed = self.theta + steps
            prior_then = self._log_prior(proposed)
            then = self._log_likelihood(proposed, self.kind, readings, sd)
            ratio = temperature * (then - likelihood) + prior_then - prior
            accepted = np.log(rng.random(N_CURVES)) < ratio
            self.theta[accepted], likelihood[accepted], prior[accepted] = (
                proposed[accepted],
                then[accepted],
                prior_then[accepted],
            )
        return likelihood


def _log_curve(theta: FloatArray, kind: IntArray, load: FloatArray) -> FloatArray:
    """(n_curves, n_loads)."""
    log_a, log_c, first, second = theta[:, :1], theta[:, 1:2], np.exp(theta[:, 2:3]), np.exp(theta[:, 3:4])
    relative = np.log(load)[None, :] - log_c
    out = np.full(relative.shape, MAX_LOG)
    batch, queue, pole = (kind == which for which in (BATCH, QUEUE, POLE))
    out[batch] = second[batch] / first[batch] * np.logaddexp(0.0, first[batch] * relative[batch])
    ratio = np.exp(relative[queue])
    out[queue] = np.log1p(first[queue] * ratio + second[queue] * np.maximum(ratio - 1, 0.0))
    with np.errstate(divide="ignore"):
        beyond = -second[pole] * np.log1p(-np.exp(np.minimum(first[pole] * relative[pole], 0.0)))
    out[pole] = beyond
    return np.asarray(log_a + np.minimum(out, MAX_LOG))


def _next_step(likelihood: FloatArray, most: float) -> float:
    """The largest rise of the temperature that keeps half of the curves effective."""
    low, high = 0.0, most
    if _effective(likelihood * most) >= 0.5:
        return most
    for _ in range(40):
        middle = (low + high) / 2
        if _effective(likelihood * middle) >= 0.5:
            low = middle
        else:
            high = middle
    return max(low, 1e-6)


def _effective(log_weights: FloatArray) -> float:
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))


def _resample(weights: FloatArray, rng: np.random.Generator) -> IntArray:
    """Systematic resampling."""
    places = (np.arange(len(weights)) + rng.random()) / len(weights)
    return np.minimum(np.searchsorted(np.cumsum(weights), places), len(weights) - 1).astype(np.int64)


def _root(covariance: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 1e-12)))
