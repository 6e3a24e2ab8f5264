"""When requests are sent: streams of a closed loop, or planned send times of an open loop.

Notation: r(t) the request rate at time t, R(t) its integral from 0 to t, S_k the k-th arrival of a renewal process with
gaps of mean 1. The k-th request is sent at R⁻¹(S_k), so a constant rate, a ramp and steps are one rule, and a process
that is Poisson at rate 1 becomes the inhomogeneous Poisson process of rate r(t) (Çinlar, Introduction to Stochastic
Processes, 1975, chapter 4.7). Gaps of the renewal process: 1 (constant), exponential (Poisson), or gamma of shape a and
mean 1, whose squared coefficient of variation is 1/a: a < 1 is burstier than Poisson, a > 1 more regular.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from fewmark.core.errors import InputError

Process = Literal["constant", "poisson", "gamma"]
PROCESSES: Final[tuple[Process, ...]] = ("constant", "poisson", "gamma")
MAX_REQUESTS: Final = 10_000_000  # of one schedule: a slip of the keyboard must not fill the memory
MAX_STAGES: Final = 10_000


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """A fixed number of streams, each of which sends its next request when the last one has ended.

    Parameters
    ----------
    concurrency : int
        Streams, and so the most requests in flight.
    ramp_s : float
        Seconds over which the streams start, evenly; 0 starts all at once.
    """

    concurrency: int
    ramp_s: float = 0.0

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise InputError("concurrency must be at least 1", got=self.concurrency)
        _check_finite("ramp_s", self.ramp_s, at_least=0.0)

    def start_times(self) -> tuple[float, ...]:
        """Seconds after the start at which each stream sends its first request."""
        return tuple(self.ramp_s * stream / self.concurrency for stream in range(self.concurrency))


@dataclass(frozen=True, slots=True)
class RateStage:
    """A part of an open loop: the rate goes straight from `start_rate` to `end_rate` in `duration_s`.

    Parameters
    ----------
    duration_s : float
        Seconds; infinite only in the last stage, and then at a constant rate.
    start_rate, end_rate : float
        Requests per second; at least 0, and one of them more.
    """

    duration_s: float
    start_rate: float
    end_rate: float

    def __post_init__(self) -> None:
        if not self.duration_s > 0:
            raise InputError("a stage must last longer than 0 s", got=self.duration_s)
        _check_finite("a request rate", self.start_rate, at_least=0.0)
        _check_finite("a request rate", self.end_rate, at_least=0.0)
        if self.start_rate == 0 and self.end_rate == 0 and math.isinf(self.duration_s):
            raise InputError("a stage without end needs a request rate above 0", got=0)
        if math.isinf(self.duration_s) and self.start_rate != self.end_rate:
            raise InputError("a stage without end has one rate", got=(self.start_rate, self.end_rate))

    @property
    def expected_requests(self) -> float:
        """The integral of the rate over the stage."""
        if math.isinf(self.duration_s):
            return math.inf
        return self.duration_s * (self.start_rate + self.end_rate) / 2

    def rate_at(self, elapsed_s: float) -> float:
        """The rate so many seconds into the stage, requests per second."""
        if math.isinf(self.duration_s):
            return self.start_rate
        return self.start_rate + (self.end_rate - self.start_rate) * elapsed_s / self.duration_s

    def time_of(self, requests: float) -> float:
        """Seconds into the stage at which the integral of the rate is `requests`: the inverse of R."""
        slope = 0.0 if math.isinf(self.duration_s) else (self.end_rate - self.start_rate) / self.duration_s
        # the root of start_rate·t + slope·t²/2 = requests, in the form that keeps its digits when slope is small
        root = math.sqrt(max(self.start_rate**2 + 2 * slope * requests, 0.0))
        denominator = self.start_rate + root
        return 2 * requests / denominator if denominator > 0 else 0.0


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Send times that do not wait for answers.

    Parameters
    ----------
    stages : sequence of RateStage
        In order of time; see `constant`, `ramp` and `steps`.
    process : {"constant", "poisson", "gamma"}
        How gaps between requests vary around the rate.
    burstiness : float
        Shape of the gamma gaps (`process="gamma"` only): 1 is Poisson, less is burstier; the squared coefficient of
        variation of a gap is its inverse.
    """

    stages: tuple[RateStage, ...]
    process: Process = "poisson"
    burstiness: float = 1.0

    def __post_init__(self) -> None:
        if not self.stages or len(self.stages) > MAX_STAGES:
            raise InputError(f"an open loop has 1 to {MAX_STAGES} stages", got=len(self.stages))
        if any(math.isinf(stage.duration_s) for stage in self.stages[:-1]):
            raise InputError("only the last stage may be without end", got=[s.duration_s for s in self.stages])
        if all(stage.expected_requests == 0 for stage in self.stages):
            raise InputError("an open loop needs a request rate above 0", got=0)
        if self.process not in PROCESSES:
            raise InputError("unknown arrival process", got=self.process, hint=f"one of {', '.join(PROCESSES)}")
        if not (math.isfinite(self.burstiness) and self.burstiness > 0):
            raise InputError("burstiness is a gamma shape above 0", got=self.burstiness)
        if self.burstiness != 1.0 and self.process != "gamma":
            raise InputError(
                f"burstiness has no meaning with process {self.process}", got=self.burstiness, hint="process gamma"
            )

    @classmethod
    def constant(
        cls, request_rate: float, duration_s: float = math.inf, process: Process = "poisson", burstiness: float = 1.0
    ) -> OpenLoop:
        """One rate throughout."""
        return cls((RateStage(duration_s, request_rate, request_rate),), process, burstiness)

    @classmethod
    def ramp(
        cls,
        start_rate: float,
        end_rate: float,
        duration_s: float,
        hold_s: float = 0.0,
        process: Process = "poisson",
        burstiness: float = 1.0,
    ) -> OpenLoop:
        """Straight from one rate to another in `duration_s`, then `hold_s` at the latter."""
        stages = [RateStage(duration_s, start_rate, end_rate)]
        if hold_s > 0:
            stages.append(RateStage(hold_s, end_rate, end_rate))
        return cls(tuple(stages), process, burstiness)

    @classmethod
    def steps(
        cls, rates: Sequence[float], step_s: float, process: Process = "poisson", burstiness: float = 1.0
    ) -> OpenLoop:
        """Each rate for `step_s` seconds, in turn."""
        return cls(tuple(RateStage(step_s, rate, rate) for rate in rates), process, burstiness)

    @property
    def duration_s(self) -> float:
        """Seconds of all stages."""
        return math.fsum(stage.duration_s for stage in self.stages)

    @property
    def expected_requests(self) -> float:
        """The integral of the rate over all stages: the mean number of requests of a Poisson process."""
        return math.fsum(stage.expected_requests for stage in self.stages)

    def rate_at(self, elapsed_s: float) -> float:
        """The planned rate at a time, requests per second; 0 after the end."""
        for stage in self.stages:
            if elapsed_s < stage.duration_s:
                return stage.rate_at(elapsed_s)
            elapsed_s -= stage.duration_s
        return 0.0

    def send_times(self, seed: int = 0, limit: int = MAX_REQUESTS) -> Iterator[float]:
        """Planned send times, seconds after the start, rising; the same seed gives the same ones.

        A constant process sends its first request at the start, the others after a first gap. At most `limit` times.
        """
        if limit > MAX_REQUESTS:
            raise InputError(f"a schedule has at most {MAX_REQUESTS} requests", got=limit)
        return _warp(self.stages, self._unit_arrivals(seed, limit))

    def _unit_arrivals(self, seed: int, limit: int) -> Iterator[float]:
        rng = random.Random(seed)
        arrived = 0.0
        for index in range(limit):
            if self.process == "constant":
                yield float(index)
                continue
            arrived += rng.expovariate(1.0) if self.process == "poisson" else _gamma_gap(rng, self.burstiness)
            yield arrived


def _gamma_gap(rng: random.Random, shape: float) -> float:
    return rng.gammavariate(shape, 1.0 / shape)


def _warp(stages: Sequence[RateStage], arrivals: Iterable[float]) -> Iterator[float]:
    """R⁻¹ of rising arrivals of unit rate; ends with the last stage."""
    remaining = iter(stages)
    stage = next(remaining)
    start_s, requests_before = 0.0, 0.0
    for arrival in arrivals:
        while arrival - requests_before >= stage.expected_requests:
            start_s += stage.duration_s
            requests_before += stage.expected_requests
            following = next(remaining, None)
            if following is None:
                return
            stage = following
        yield start_s + stage.time_of(arrival - requests_before)


def _check_finite(name: str, value: float, at_least: float) -> None:
    if not (math.isfinite(value) and value >= at_least):
        raise InputError(f"{name} must be a finite number of at least {at_least:g}", got=value)
