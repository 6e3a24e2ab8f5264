"""Means, percentiles and shares of correlated observations, with intervals that allow for the correlation.

Requests of one run share queues, batches and the state of the machine, so n of them do not count as n independent ones.

Notation: X_1 … X_n the observations in order of time, k = 20 batches of m successive ones, B_j their means, r the lag-1
autocorrelation of the B_j.

mean        X̄ ± t(ν) · √(s²_B / k · c), c = (1+φ)/(1-φ), ν = (k-1) / c: non-overlapping batch means (Schmeiser,
            Operations Research 30, 1982), with what is left of the correlation between batches taken as that of a
            first-order autoregression (as in Skart: Tafazzoli, Steiger, Wilson, INFORMS J. on Computing 23, 2011), so
            that k batches count as k / c; φ = (k r + 1) / (k - 3), within [0, 0.8], is r without its bias (Kendall,
            Biometrika 41, 1954).
ratio       ΣY / ΣZ: the same on the residuals (Y_j - R Z_j) / Z̄ of the batches' sums (delta method).
percentile  order statistics X_(l), X_(u) such that P(l ≤ Bin(n', p) < u) ≥ the level (David, Nagaraja, Order
            Statistics, 2003, section 7.1); n' = n / max(1, D), D the variance of the mean of 1[X ≤ X_(⌈np⌉)] as above
            over p(1-p)/n, times (t(ν)/z)². Where no u ≤ n' does, only the lower bound is known; where no u ≤ n does, no
            value is given, least of all the maximum.
share       Wilson's interval (JASA 22, 1927) with n' in the place of n.
runs        means of R runs: t(R-1) on their own spread, which holds what differs from run to run as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Final

from fewmark.core.errors import InputError

DEFAULT_LEVEL: Final = 0.9
N_BATCHES: Final = 20
MIN_BATCHES: Final = 8
MAX_PHI: Final = 0.8  # more correlation between batches than this, and the run is too short for any interval
_SPAN_SD: Final = 12.0  # how far from its mean a binomial count is looked at


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval; None where it is not known.

    Parameters
    ----------
    value, low, high : float or None
        A `high` of None beside a `low` means: at least that, no upper bound.
    confidence_level : float
    n : int
        Observations (runs, where runs were combined).
    n_effective : float or None
        As many independent observations would say as much.
    note : str
        What is not known and why.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    confidence_level: float = DEFAULT_LEVEL
    n: int = 0
    n_effective: float | None = None
    note: str = ""

    @property
    def relative_half_width(self) -> float | None:
        """Half the interval's width over the value."""
        if self.value is None or self.low is None or self.high is None or self.value == 0:
            return None
        return (self.high - self.low) / 2 / abs(self.value)


def mean_estimate(values: Sequence[float], level: float = DEFAULT_LEVEL) -> Estimate:
    """The mean of observations in order of time."""
    return ratio_estimate(values, [1.0] * len(values), level)


def ratio_estimate(
    numerators: Sequence[float], denominators: Sequence[float], level: float = DEFAULT_LEVEL
) -> Estimate:
    """The sum of the one over the sum of the other, pairs in order of time; a mean where all denominators are 1."""
    n = len(numerators)
    total = math.fsum(denominators)
    if n == 0 or total <= 0:
        return Estimate(None, confidence_level=level, n=n, note="nothing was observed")
    value = math.fsum(numerators) / total
    k = min(N_BATCHES, n)
    if k < MIN_BATCHES:
        note = f"fewer than {MIN_BATCHES} observations: no interval"
        return Estimate(value, confidence_level=level, n=n, note=note)
    residuals = [y - value * z for y, z in zip(numerators, denominators, strict=True)]
    batches = batch_sums(residuals, k)
    variance, degrees = variance_of_sum(batches)
    variance /= total**2
    half = student_t_quantile((1 + level) / 2, degrees) * math.sqrt(variance)
    independent = math.fsum(residual**2 for residual in residuals) / total**2
    effective = n if variance == 0 else min(n, n * independent / variance)
    return Estimate(value, value - half, value + half, level, n, effective)


def percentile_estimates(
    values: Sequence[float],
    percents: Sequence[float],
    level: float = DEFAULT_LEVEL,
    clusters: Sequence[int] | None = None,
) -> list[Estimate]:
    """Percentiles of observations in order of time, by order statistics.

    Parameters
    ----------
    values : sequence of float, (n,)
    percents : sequence of float
        Above 0, below 100.
    level : float
    clusters : sequence of int, (n_clusters,), optional
        Numbers of successive values that belong together (the gaps of one stream) and are never parted by a batch.
    """
    ordered = sorted(values)
    return [_percentile(values, ordered, percent, level, clusters) for percent in percents]


def _percentile(
    values: Sequence[float],
    ordered: Sequence[float],
    percent: float,
    level: float,
    clusters: Sequence[int] | None,
) -> Estimate:
    n = len(values)
    if n == 0:
        return Estimate(None, confidence_level=level, n=0, note="nothing was observed")
    p = percent / 100
    value = ordered[min(max(math.ceil(n * p - 1e-9), 1), n) - 1]
    effective = n / _design_effect([float(x <= value) for x in values], clusters, p, level)
    whole = max(int(effective), 1)
    low_rank, high_rank = binomial_ranks(whole, p, level)
    low = ordered[max(int(low_rank * n / whole), 1) - 1] if low_rank >= 1 else None
    if high_rank <= whole:
        high = ordered[min(math.ceil(high_rank * n / whole), n) - 1]
        return Estimate(value, low, high, level, n, effective)
    needed = samples_for_percentile(percent, level)
    note = (
        f"a lower bound: for an upper one, p{percent:g} needs {needed} independent observations, and there are {whole}"
    )
    return Estimate(value if n >= needed else None, low, None, level, n, effective, note)


def share_estimate(hits: Sequence[bool], level: float = DEFAULT_LEVEL) -> Estimate:
    """The share of observations that are true, in order of time, with Wilson's interval."""
    n = len(hits)
    if n == 0:
        return Estimate(None, confidence_level=level, n=0, note="nothing was observed")
    share = sum(hits) / n
    effective = n / _design_effect([float(hit) for hit in hits], None, share, level)
    low, high = wilson_interval(share, effective, level)
    return Estimate(share, low, high, level, n, effective)


def runs_estimate(values: Sequence[float], level: float = DEFAULT_LEVEL) -> Estimate:
    """The mean over runs of a number that each run gave."""
    n = len(values)
    if n == 0:
        return Estimate(None, confidence_level=level, n=0, note="nothing was observed")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, confidence_level=level, n=1, note="one run: its difference from others is not known")
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = student_t_quantile((1 + level) / 2, n - 1) * math.sqrt(variance / n)
    return Estimate(mean, mean - half, mean + half, level, n, float(n))


def wilson_interval(share: float, n: float, level: float = DEFAULT_LEVEL) -> tuple[float, float]:
    """Wilson's interval of a share of n observations."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def samples_for_percentile(percent: float, level: float = DEFAULT_LEVEL) -> int:
    """The fewest independent observations that have an upper bound of a percentile: the smallest n with p^n ≤ α/2."""
    p = percent / 100
    return math.ceil(math.log((1 - level) / 2) / math.log(p) - 1e-9)


def batch_sums(values: Sequence[float], k: int) -> list[float]:
    """Sums of k successive batches whose sizes differ by at most one."""
    n = len(values)
    edges = [n * j // k for j in range(k + 1)]
    return [math.fsum(values[a:b]) for a, b in pairwise(edges)]


def autocorrelation(values: Sequence[float]) -> float:
    """Lag-1 autocorrelation, 0 where the values are all alike."""
    mean = math.fsum(values) / len(values)
    deviations = [value - mean for value in values]
    total = math.fsum(d * d for d in deviations)
    if total == 0:
        return 0.0
    return math.fsum(a * b for a, b in pairwise(deviations)) / total


def variance_of_sum(batches: Sequence[float]) -> tuple[float, int]:
    """The variance of the sum of k batches, from their spread and their correlation, and its degrees of freedom."""
    k = len(batches)
    mean = math.fsum(batches) / k
    spread = math.fsum((batch - mean) ** 2 for batch in batches) / (k - 1)
    phi = min(max((k * autocorrelation(batches) + 1) / (k - 3), 0.0), MAX_PHI)
    inflation = (1 + phi) / (1 - phi)
    return k * spread * inflation, max(int((k - 1) / inflation), 2)


def _design_effect(indicators: Sequence[float], clusters: Sequence[int] | None, p: float, level: float) -> float:
    """How many of the observations say as much as one independent one, at least 1."""
    n = len(indicators)
    binomial = p * (1 - p) * n  # the variance of the sum, were they independent
    if binomial <= 0:
        return 1.0
    mean = math.fsum(indicators) / n
    if clusters is None:
        series = [x - mean for x in indicators]
    else:
        edges = [0]
        for size in clusters:
            edges.append(edges[-1] + size)
        if edges[-1] != n:
            raise InputError("clusters must hold all values", got=(edges[-1], n))
        series = [math.fsum(indicators[a:b]) - (b - a) * mean for a, b in pairwise(edges)]
    k = min(N_BATCHES, len(series))
    if k < MIN_BATCHES:
        return max(n / max(k, 1), 1.0) if clusters is not None else 1.0
    variance, degrees = variance_of_sum(batch_sums(series, k))
    uncertain = student_t_quantile((1 + level) / 2, degrees) / NormalDist().inv_cdf((1 + level) / 2)
    return max(1.0, variance / binomial * uncertain**2)


def binomial_ranks(n: int, p: float, level: float = DEFAULT_LEVEL) -> tuple[int, int]:
    """Ranks l, u of order statistics around the p-quantile: P(count < l) ≤ α/2 and P(count ≥ u) ≤ α/2.

    l = 0 where no observation is a lower bound, u = n + 1 where none is an upper one.
    """
    tail = (1 - level) / 2
    sd = math.sqrt(n * p * (1 - p))
    first, last = max(int(n * p - _SPAN_SD * sd) - 1, 0), min(int(n * p + _SPAN_SD * sd) + 1, n)
    low, high, below = 0, n + 1, 0.0
    for count in range(first, last + 1):
        if below <= tail:
            low = count  # P(count < low) = below
        below += math.exp(_log_binomial(n, count, p))
        if 1 - below <= tail:
            high = count + 1  # P(count ≥ high) = 1 - below
            break
    return low, min(high, n + 1)


def _log_binomial(n: int, k: int, p: float) -> float:
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return choose + k * math.log(p) + (n - k) * math.log1p(-p)


def student_t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t, for whole degrees of freedom and probabilities from 0.5 up.

    By bisection of the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    if not 0.5 <= probability < 1 or degrees < 1:
        raise InputError("t quantiles are for 0.5 ≤ p < 1 and degrees ≥ 1", got=(probability, degrees))
    if degrees > 1000:
        return NormalDist().inv_cdf(probability)
    low, high = 0.0, 1.0
    while _student_t_cdf(high, degrees) < probability:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        if _student_t_cdf(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _student_t_cdf(t: float, degrees: int) -> float:
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
