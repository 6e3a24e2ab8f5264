"""Means, percentiles and shares of correlated observations, with intervals that allow for the correlation.

Requests of one run share queues, batches and the state of the machine, so n of them do not count as n independent ones.

Notation: X_1 … X_n the observations in order of time, B_j the sums of k = 20 batches of successive ones, z the normal
quantile.

mean        X̄ ± h / n, h half the width of the interval of ΣX from the B_j (`fewmark.load.batch_means`).
ratio       ΣY / ΣZ: the same on the residuals (Y_j - R Z_j) / Z̄ of the batches' sums (delta method).
percentile  order statistics X_(l), X_(u) such that P(l ≤ Bin(n', p) < u) ≥ the level (David, Nagaraja, Order
            Statistics, 2003, section 7.1); n' = n / max(1, D), D the variance of the mean of 1[X ≤ X_(⌈np⌉)] with φ at
            its estimate and ν degrees of freedom over p(1-p)/n, times (t(ν)/z)². Where no u ≤ n' does, only the lower
            bound is known; where no u ≤ n does, no value is given, least of all the maximum.
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
from fewmark.load.batch_means import batch_sums, interval_of_sum, student_t_quantile, variance_of_sum

DEFAULT_LEVEL: Final = 0.9
N_BATCHES: Final = 20
MIN_BATCHES: Final = 8
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
    half = interval_of_sum(batches, level) / total
    variance = variance_of_sum(batches)[0] / total**2
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
