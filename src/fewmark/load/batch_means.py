"""What is known of a sum of correlated observations, from the sums of its successive batches.

Notation: B_1 … B_k the batches' sums, φ their lag-1 correlation, that of a stationary first-order autoregression with
innovations of standard deviation σ around a mean μ; S = ΣB_j, the sum, whose expectation is kμ.

Batches long enough are nearly independent (Schmeiser, Operations Research 30, 1982), but in a run of a minute they are
not, and k of them do not tell φ well: taken at its estimate, intervals are too narrow whenever that comes out small.
So φ is integrated over. With flat priors of μ, log σ and, on [-0.4, 0.9], φ, μ given φ has Student's t distribution
with k - 1 degrees around its generalised least squares estimate μ̂ (Zellner, An Introduction to Bayesian Inference in
Econometrics, 1971, chapter IV). Left of zero are batches that make up for one another, as where streams go in step;
without them every independent series would count as somewhat correlated. Beyond -0.4 lie only waves as long as two
batches, which say nothing of what is slower.

w(φ) = 2(1-φ) + (k-2)(1-φ)²                 k²/w is the variance of S over σ²
Q(φ) = (1-φ²) e_1² + Σ (e_j - φ e_{j-1})²   e_j = B_j - μ̂(φ)
p(φ | B) ∝ (1-φ²)^½ w^-½ Q^-(k-1)/2

The interval is that of the mixture over φ, around S itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Final

from fewmark.core.errors import InputError

MAX_PHI: Final = 0.8  # taken at its estimate
PHIS: Final = tuple(i / 10 for i in range(-4, 10))
MIN_WEIGHT: Final = 1e-5
_MAX_STEPS: Final = 50


def batch_sums(values: Sequence[float], k: int) -> list[float]:
    """Sums of k successive batches whose sizes differ by at most one."""
    n = len(values)
    edges = [n * j // k for j in range(k + 1)]
    return [math.fsum(values[a:b]) for a, b in pairwise(edges)]


def interval_of_sum(batches: Sequence[float], level: float) -> float:
    """Half the width of an interval around the sum of at least three batches."""
    k = len(batches)
    total, ends = math.fsum(batches), batches[0] + batches[-1]
    if max(batches) - min(batches) <= 1e-12 * math.fsum(map(abs, batches)):
        return 0.0
    logs, sds = [], []
    for phi in PHIS:
        inner, outer = (1 - phi) ** 2, 1 - phi
        weight = 2 * outer + (k - 2) * inner
        mean = (inner * total + (outer - inner) * ends) / weight
        errors = [batch - mean for batch in batches]
        squares = (1 - phi**2) * errors[0] ** 2 + math.fsum((b - phi * a) ** 2 for a, b in pairwise(errors))
        squares = max(squares, 1e-300)
        logs.append(0.5 * math.log((1 - phi**2) / weight) - 0.5 * (k - 1) * math.log(squares))
        sds.append(k * math.sqrt(squares / ((k - 1) * weight)))
    weights = [math.exp(log - max(logs)) for log in logs]
    kept = [(weight, sd) for weight, sd in zip(weights, sds, strict=True) if weight >= MIN_WEIGHT]
    norm = math.fsum(weight for weight, _ in kept)
    half = student_t_quantile((1 + level) / 2, k - 1) * min(sd for _, sd in kept)
    for _ in range(_MAX_STEPS):  # Newton's, from below, where the probability is concave
        short = level - math.fsum(w * (2 * student_t_cdf(half / sd, k - 1) - 1) for w, sd in kept) / norm
        step = short * norm / math.fsum(2 * w / sd * _student_t_density(half / sd, k - 1) for w, sd in kept)
        half += step
        if step <= 1e-6 * half:
            break
    return half


def autocorrelation(values: Sequence[float]) -> float:
    """Lag-1 autocorrelation, 0 where the values are all alike."""
    mean = math.fsum(values) / len(values)
    deviations = [value - mean for value in values]
    total = math.fsum(d * d for d in deviations)
    if total == 0:
        return 0.0
    return math.fsum(a * b for a, b in pairwise(deviations)) / total


def variance_of_sum(batches: Sequence[float]) -> tuple[float, int]:
    """The variance of the sum of k batches with φ at its estimate, and its degrees of freedom.

    φ = (k r + 1) / (k - 3), r the autocorrelation without its bias (Kendall, Biometrika 41, 1954), within [0, 0.8];
    k batches count as k (1-φ) / (1+φ) (as in Skart: Tafazzoli, Steiger, Wilson, INFORMS J. on Computing 23, 2011).
    """
    k = len(batches)
    mean = math.fsum(batches) / k
    spread = math.fsum((batch - mean) ** 2 for batch in batches) / (k - 1)
    phi = min(max((k * autocorrelation(batches) + 1) / (k - 3), 0.0), MAX_PHI)
    inflation = (1 + phi) / (1 - phi)
    return k * spread * inflation, max(int((k - 1) / inflation), 2)


def student_t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t, for whole degrees of freedom and probabilities from 0.5 up.

    By bisection of the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    if not 0.5 <= probability < 1 or degrees < 1:
        raise InputError("t quantiles are for 0.5 ≤ p < 1 and degrees ≥ 1", got=(probability, degrees))
    if degrees > 1000:
        return NormalDist().inv_cdf(probability)
    low, high = 0.0, 1.0
    while student_t_cdf(high, degrees) < probability:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        if student_t_cdf(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def student_t_cdf(t: float, degrees: int) -> float:
    """P(T ≤ t) for t of at least 0 and whole degrees of freedom."""
    theta = math.atan(t / math.sqrt(degrees))
    cos2 = math.cos(theta) ** 2
    if degrees % 2:
        term, total = math.cos(theta), 0.0
        for j in range(3, degrees + 1, 2):
            total += term
            term *= cos2 * (j - 1) / j
        central = 2 / math.pi * (theta + math.sin(theta) * total)
    else:
        term, total = 1.0, 0.0
        for j in range(2, degrees + 1, 2):
            total += term
            term *= cos2 * (j - 1) / j
        central = math.sin(theta) * total
    return (1 + central) / 2


def _student_t_density(t: float, degrees: int) -> float:
    log_norm = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
    return math.exp(log_norm - 0.5 * (degrees + 1) * math.log1p(t * t / degrees))
