"""The largest load that meets objectives, found with few probes.

Of each metric, curves of it against the load are drawn from what the probes so far say (`latency_curve`). Each curve
reaches its limit at some load; the least over a tier's metrics is the tier's limit T, whose distribution the draws are.

probe    the load whose measurement is expected to narrow the standard deviation of log T most per second, summed over
         the tiers: outcomes are drawn from the curves and the noise of probes, and weigh the curves in turn.
stop     when by this distribution, for each tier, the reported limit is within the tolerance with the asked probability
         and a probe lies near it, or the limit is surely beyond the range; when the budget is spent, or when by the
         search's own forecast the probes that are left will not make any further tier certain: then what is measured is
         too noisy where its curve is flat, and longer measurements tell more than further ones.

All tiers and metrics share all probes. What a fitted model predicts beforehand counts as much as one measurement with
the prediction's own standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final, Literal, Protocol

import numpy as np

from fewmark.core.errors import InputError
from fewmark.planning.latency_curve import MIN_SD, MISFIT, LatencyCurves, Loop, Readings
from fewmark.tables.arrays import FloatArray

Where = Literal["inside", "above", "below"]
N_CANDIDATES: Final = 25
N_OUTCOMES: Final = 48
DEFAULT_SD: Final = 0.05  # of a probe before any has been made
NEAR: Final = 0.15  # log units between the limit and a probe that supports it
SURE: Final = 0.95  # that a limit lies beyond the range
FAILED_SD: Final = 0.05
MIN_PROBES: Final = 5  # before a search is given up as hopeless


class Interval(Protocol):
    """A value with its interval, as `fewmark.load.estimates.Estimate`; a low beside no value is a lower bound."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def confidence_level(self) -> float: ...


@dataclass(frozen=True)
class FrontierTier:
    """Objectives that must hold together: the most that each of some metrics may be."""

    name: str
    limits: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.limits or not all(math.isfinite(limit) and limit > 0 for limit in self.limits.values()):
            raise InputError("a tier has at least one metric with a limit above 0", got=dict(self.limits))


@dataclass(frozen=True)
class Probe:
    """A load that was measured.

    Parameters
    ----------
    load : float
    readings : mapping of str to Interval
        By metric.
    cost_s : float
        Seconds that it took.
    failed : bool
        The server could not serve this load at all (crashed, over-saturated): every limit is exceeded.
    """

    load: float
    readings: Mapping[str, Interval]
    cost_s: float = 0.0
    failed: bool = False


@dataclass(frozen=True)
class TierLimit:
    """A tier's largest load.

    Parameters
    ----------
    tier : FrontierTier
    limit : float
        The largest load, in whole steps, that meets the objectives with a probability of at least one half; the end of
        the range where the limit lies beyond.
    low, high : float
        The central interval of the limit at the search's confidence, in whole steps as well where it is inside.
    p_next_fails : float
        That one step more does not meet the objectives.
    where : {"inside", "above", "below"}
        Whether the limit lies in the range of loads.
    is_certain : bool
        Whether the stopping rule was met.
    """

    tier: FrontierTier
    limit: float
    low: float
    high: float
    p_next_fails: float
    where: Where
    is_certain: bool


@dataclass
class FrontierSearch:
    """Ask and tell: which load to probe next, and what the probes say.

    Parameters
    ----------
    tiers : sequence of FrontierTier
    low, high : float
        The range of loads.
    loop : {"closed", "open"}
        Whether the load is streams of a closed loop or requests per second of an open one.
    step : float
        Loads are multiples of it above `low` (1 for streams).
    tolerance : float
        Relative error of the limit that is wanted.
    confidence : float
        Probability with which it is wanted.
    max_probes : int
    cost_s : callable
        Seconds that a probe at a load is expected to take.
    prior : mapping of str to callable, optional
        A fitted model's prediction of a metric at a load and its log standard deviation.
    random_state : int

    Attributes
    ----------
    probes : list of Probe
    is_hopeless : bool
        Whether it was ended because the probes left will not make a further limit certain.
    """

    tiers: Sequence[FrontierTier]
    low: float
    high: float
    loop: Loop = "closed"
    step: float = 1.0
    tolerance: float = 0.05
    confidence: float = 0.9
    max_probes: int = 20
    cost_s: Callable[[float], float] = lambda load: 1.0
    prior: Mapping[str, Callable[[float], tuple[float, float]]] | None = None
    random_state: int = 0
    probes: list[Probe] = field(default_factory=list)
    is_hopeless: bool = field(init=False, default=False)
    _curves: dict[str, LatencyCurves] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tiers:
            raise InputError("a search needs objectives", got=0)
        if not (math.isfinite(self.high) and 0 < self.low < self.high and self.step > 0):
            raise InputError("a search needs 0 < low < high and a step above 0", got=(self.low, self.high, self.step))
        if not (0 < self.tolerance < 1 and 0 < self.confidence < 1 and self.max_probes >= 1):
            raise InputError("tolerance and confidence lie between 0 and 1", got=(self.tolerance, self.confidence))

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics that have a limit."""
        return tuple(dict.fromkeys(metric for tier in self.tiers for metric in tier.limits))

    def tell(self, probe: Probe) -> None:
        """Learn from a probe. Raises `InputError` if it lacks a metric or its load is none."""
        if not (math.isfinite(probe.load) and probe.load > 0):
            raise InputError("a probe's load is a number above 0", got=probe.load)
        for metric in self.metrics:
            if not probe.failed and _reading(probe.readings.get(metric)) is None:
                raise InputError("a probe lacks a metric that has a limit", got=metric, hint="measure longer")
        self.probes.append(probe)
        self._fit()

    def ask(self) -> float | None:
        """The next load to probe; None when the search is over."""
        if not self.probes:
            if self.prior is None:
                return self._whole(math.sqrt(self.low * self.high))
            self._fit()
        if len(self.probes) >= self.max_probes or all(limit.is_certain for limit in self.limits()):
            return None
        open_tiers = [tier for tier, limit in zip(self.tiers, self.limits(), strict=True) if not limit.is_certain]
        draws = [self._log_limits(tier) for tier in open_tiers]
        candidates = self._candidates(draws)
        gains = np.array([[self._gain(load, drawn) for drawn in draws] for load in candidates])
        if len(self.probes) >= MIN_PROBES and self._is_hopeless(draws, gains.max(axis=0)):
            self.is_hopeless = True
            return None
        costs_s = np.array([max(self.cost_s(load), 1e-9) for load in candidates])
        return candidates[int(np.argmax(gains.sum(axis=1) / costs_s))]

    def _is_hopeless(self, draws: Sequence[FloatArray], gains: FloatArray) -> bool:
        """Whether no open tier's limit can be expected to become certain with the probes that are left.

        Precisions add: one probe more adds 1/s'² - 1/s², s and s' the standard deviations of log T before and after it.
        """
        left = self.max_probes - len(self.probes)
        z = NormalDist().inv_cdf((1 + self.confidence) / 2)
        for drawn, gain in zip(draws, gains, strict=True):
            before = float(np.std(drawn))
            after = max(before - float(gain), 1e-9)
            wanted = max(self.tolerance, 0.5 * self.step / math.exp(float(np.median(drawn)))) / z
            each = 1 / after**2 - 1 / before**2 if before > 0 else math.inf
            if 1 / wanted**2 - 1 / max(before, 1e-9) ** 2 <= left * each:
                return False
        return True

    def limits(self) -> list[TierLimit]:
        """Each tier's limit by the probes so far. Raises `InputError` before the first probe without a prior."""
        if not self._curves:
            raise InputError("nothing has been probed yet", got=0)
        return [self._limit(tier) for tier in self.tiers]

    def _limit(self, tier: FrontierTier) -> TierLimit:
        drawn = np.exp(self._log_limits(tier))
        tail = (1 - self.confidence) / 2
        low, middle, high = (float(x) for x in np.quantile(drawn, [tail, 0.5, 1 - tail]))
        where: Where = "inside"
        if middle >= self.high:
            where, limit = "above", self.high
            certain = float(np.mean(drawn >= self.high)) >= SURE and self._probed(self.high)
        elif middle < self.low:
            where, limit = "below", self.low
            certain = float(np.mean(drawn < self.low)) >= SURE and self._probed(self.low)
        else:
            limit = self._floor(middle)
            # a limit between two steps is the lower one, so being half a step off is no error
            off = np.abs(drawn - middle) <= np.maximum(self.tolerance * middle, 0.5 * self.step)
            certain = float(np.mean(off)) >= self.confidence and self._probed(middle)
            low, high = self._floor(low), self._floor(high)
        return TierLimit(tier, limit, low, high, float(np.mean(drawn < limit + self.step)), where, certain)

    def _probed(self, load: float) -> bool:
        """Whether a probe lies near a load: no curve is believed far from what was measured."""
        near = max(NEAR, math.log1p(self.step / load))
        return any(abs(math.log(probe.load / load)) <= near for probe in self.probes)

    def _log_limits(self, tier: FrontierTier) -> FloatArray:
        """log T of each draw, (n_curves,), kept within a factor of two of the range."""
        each = [self._curves[metric].limits(math.log(limit)) for metric, limit in tier.limits.items()]
        return np.asarray(np.log(np.clip(np.min(each, axis=0), self.low / 2, self.high * 2)))

    def _candidates(self, draws: Sequence[FloatArray]) -> list[float]:
        quantiles = np.linspace(0.02, 0.98, N_CANDIDATES)
        loads = np.concatenate([np.exp(np.quantile(drawn, quantiles)) for drawn in draws])
        spread = np.geomspace(self.low, self.high, N_CANDIDATES)
        return sorted({self._whole(float(load)) for load in np.concatenate([loads, spread])})

    def _gain(self, load: float, log_limits: FloatArray) -> float:
        """By how much a probe is expected to narrow log T: its standard deviation now less the mean one afterwards.

        Outcomes are drawn from the curves themselves; each weighs the curves by how well they agree with it. All loads
        are judged by the same draws, or the best of many would be the luckiest.
        """
        rng = np.random.default_rng(self.random_state + len(self.probes))
        misfit = MISFIT * abs(math.log(load) - float(np.median(log_limits)))
        drawn = rng.integers(len(log_limits), size=N_OUTCOMES)
        log_weights = np.zeros((N_OUTCOMES, len(log_limits)))
        for metric in self.metrics:
            noise = math.hypot(self._noise(metric), misfit)
            values = self._curves[metric].log_values(load)
            outcomes = values[drawn] + rng.normal(0.0, noise, N_OUTCOMES)
            log_weights -= 0.5 * ((outcomes[:, None] - values[None, :]) / noise) ** 2
        weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        means = weights @ log_limits
        variances = np.maximum(weights @ log_limits**2 - means**2, 0.0)
        return float(np.std(log_limits) - np.mean(np.sqrt(variances)))

    def _noise(self, metric: str) -> float:
        found = [r.sd for p in self.probes if not p.failed and (r := _reading(p.readings[metric])) and not r.is_bound]
        return max(float(np.median(found)) if found else DEFAULT_SD, MIN_SD)

    def _fit(self) -> None:
        wanted = self._wanted()
        for place, metric in enumerate(self.metrics):
            seed = self.random_state + 1000 * place + len(self.probes)
            curves = LatencyCurves(self.low, self.high, self.loop, seed)
            self._curves[metric] = curves.fit(self._readings(metric), wanted)

    def _wanted(self) -> float:
        """Where curves should be right: the middle of the limits believed so far."""
        if not self._curves:
            return math.sqrt(self.low * self.high)
        middles = [float(np.median(self._log_limits(tier))) for tier in self.tiers]
        return math.exp(float(np.clip(np.mean(middles), math.log(self.low), math.log(self.high))))

    def _readings(self, metric: str) -> Readings:
        rows: list[tuple[float, float, float, bool]] = []
        for probe in self.probes:
            found = _reading(probe.readings.get(metric))
            if probe.failed:
                most = max(math.log(tier.limits[metric]) for tier in self.tiers if metric in tier.limits)
                rows.append((probe.load, most, FAILED_SD, True))
            elif found is not None:
                rows.append((probe.load, found.log_value, found.sd, found.is_bound))
        if self.prior is not None and metric in self.prior:
            loads = np.geomspace(self.low, self.high, 5)
            for load in loads:
                value, sd = self.prior[metric](float(load))
                rows.append((float(load), math.log(value), sd * math.sqrt(len(loads)), False))
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        return Readings(*columns)

    def _whole(self, load: float) -> float:
        return min(max(self.low + round((load - self.low) / self.step) * self.step, self.low), self.high)

    def _floor(self, load: float) -> float:
        return self.low + math.floor((load - self.low) / self.step + 1e-9) * self.step


def find_frontier(search: FrontierSearch, measure: Callable[[float], Probe]) -> list[TierLimit]:
    """Probe until the search is over; each tier's limit."""
    while (load := search.ask()) is not None:
        search.tell(measure(load))
    return search.limits()


@dataclass(frozen=True)
class _Reading:
    log_value: float
    sd: float
    is_bound: bool


def _reading(interval: Interval | None) -> _Reading | None:
    """The log of a value and its standard deviation; of a lower bound alone, the bound; None where neither is known."""
    if interval is None:
        return None
    if interval.value is None or interval.value <= 0:
        if interval.low is None or interval.low <= 0:
            return None
        return _Reading(math.log(interval.low), DEFAULT_SD, True)
    sd = DEFAULT_SD
    if interval.high is not None and interval.high > interval.value:
        z = NormalDist().inv_cdf((1 + interval.confidence_level) / 2)
        sd = math.log(interval.high / interval.value) / z
    elif interval.low is not None and 0 < interval.low < interval.value:
        z = NormalDist().inv_cdf((1 + interval.confidence_level) / 2)
        sd = math.log(interval.value / interval.low) / z
    return _Reading(math.log(interval.value), sd, False)
