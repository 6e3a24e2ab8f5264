"""Measuring one case on a loaded engine: warm-up, then repeats until the median is known well enough.

How many repeats are enough. With order statistics x(1) ≤ … ≤ x(n) of the end-to-end latencies, the interval
[x(c), x(n − c + 1)] holds the median with probability 1 − α whatever the distribution, where
α = 2 · P(Binomial(n, ½) ≤ c − 1) and c = max(1, round((n + 1)/2 − √n)). Its half-width over z(1 − α/2) estimates the
standard error of the median, so that

    half-width of the interval at confidence level γ = z((1 + γ)/2) · (x(n − c + 1) − x(c)) / (2 · z(1 − α/2))

which works from n = 3 on, without resampling (Price & Bonett 2002, J. Stat. Comput. Simul. 72(2), 119–124). At 95% it
covers the median of normal and of exponential values in 91–96% of cases for n = 4…10, and in 87% for n = 3.
Measuring stops when this half-width over the median falls to `target_half_width`.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

from fewmark.core import (
    Case,
    Cost,
    FrozenMap,
    InputError,
    Measurement,
    Sample,
    Status,
    Workload,
    content_hash,
    derive_metrics,
)
from fewmark.core.errors import MALFORMED
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json, JsonObject
from fewmark.core.text import brief, masked, printable, without_secrets
from fewmark.core.validity import reason_unlike
from fewmark.core.values import MEASUREMENT_PROVENANCES
from fewmark.engines.base import OWN, CaseFailure, Engine, Recorded, SelfMeasuring, Windowed
from fewmark.engines.host import CpuWatch
from fewmark.engines.measuring import faults
from fewmark.engines.measuring.outliers import outliers, quality_flags
from fewmark.engines.measuring.windows import measure_windows
from fewmark.engines.memory import allocator
from fewmark.engines.memory.exhaustion import speaks_of_memory
from fewmark.engines.memory.peak import PeakMemory

MIN_JUDGED_REPEATS = 3  # repeats below which nothing can be said of how well their median is known
MAX_SAMPLES = 100_000
MAX_ERROR = 4_000  # characters
WARMUP_TOKENS = 16  # a warm-up run needs the shapes of the case, not its length


@dataclass(frozen=True, slots=True)
class Policy:
    """How a case is measured.

    Parameters
    ----------
    min_repeats, max_repeats : int
        Fewest and most timed runs.
    target_half_width : float
        Enough repeats are made when the half-width of the median's interval, over the median, is at most this.
    confidence_level : float
        Of that interval.
    warmup : int
        Untimed runs before the first timed one.
    time_limit_s : float or None
        No repeat is begun that would end after this many seconds; at least one is made.
    truncate : int or None
        Output tokens after which a longer generation of a static batch is cut short, to be projected; at least 2.
        Whether the case fits is judged of the whole generation.
    n_requests, window_s : int or None, float or None
        Of a window of a loop on a server: its requests or, in their place, its seconds; by default as many as the load
        needs to be steady.
    slo : tuple of tuple of (metric, seconds)
        Tiers of objectives; goodput is of the first.
    validity : tuple of (name, number)
        Thresholds that are not as `fewmark.load.validity.Thresholds` has them.
    """

    min_repeats: int = 3
    max_repeats: int = 10
    target_half_width: float = 0.03
    confidence_level: float = 0.95
    warmup: int = 1
    time_limit_s: float | None = None
    truncate: int | None = None
    n_requests: int | None = None
    window_s: float | None = None
    slo: tuple[tuple[tuple[str, float], ...], ...] = ()
    validity: tuple[tuple[str, float], ...] = ()

    @property
    def is_judged(self) -> bool:
        """Whether it allows so many repeats that how well the median is known can be said at all."""
        return self.max_repeats >= MIN_JUDGED_REPEATS

    def __post_init__(self) -> None:
        for name, least in (("min_repeats", 1), ("max_repeats", 1), ("warmup", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name} must be a whole number of at least {least}", got=value)
        if self.min_repeats > self.max_repeats:
            raise InputError(
                "min_repeats must not exceed max_repeats",
                got={"min_repeats": self.min_repeats, "max_repeats": self.max_repeats},
            )
        if not 0 < self.confidence_level < 1:
            raise InputError("confidence_level must lie between 0 and 1", got=self.confidence_level)
        if not self.target_half_width >= 0:
            raise InputError("target_half_width must be a fraction of at least 0", got=self.target_half_width)
        if self.time_limit_s is not None and not self.time_limit_s > 0:
            raise InputError("time_limit_s must be positive", got=self.time_limit_s)
        self._check_windows()
        if self.truncate is not None and (not isinstance(self.truncate, int) or self.truncate < 2):
            raise InputError("truncate must be a whole number of at least 2 tokens", got=self.truncate)

    def _check_windows(self) -> None:
        n, window_s = self.n_requests, self.window_s
        if n is not None and (not isinstance(n, int) or isinstance(n, bool) or n < 1):
            raise InputError("n_requests must be a whole number of at least 1", got=n)
        if window_s is not None and not window_s > 0:
            raise InputError("window_s must be a positive number of seconds", got=window_s)
        tiers = tuple(tuple((str(name), float(limit)) for name, limit in tier) for tier in self.slo)
        object.__setattr__(self, "slo", tiers)
        object.__setattr__(self, "validity", tuple((str(name), limit) for name, limit in self.validity))

    def asked(self, workload: Workload) -> Workload:
        """What is really generated of the workload."""
        if self.truncate is None or workload.batch_size is None or workload.output_tokens <= self.truncate:
            return workload
        return replace(workload, output_tokens=self.truncate)


@dataclass(slots=True)
class Outcome:
    """What came of one case. `wall_s` is the whole time that it took, warm-up included."""

    status: Status = Status.OK
    samples: list[Sample] = field(default_factory=list)
    wall_s: float | None = None
    provenance: str = "measured"
    flags: list[str] = field(default_factory=list)
    error: str | None = None
    energy_j: float | None = None
    extra: dict[str, Json] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Json]:
        """The known fields, JSON-ready."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        data |= {"status": str(self.status), "samples": [sample.to_dict() for sample in self.samples]}
        return {key: value for key, value in data.items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """The outcome behind `to_dict`; other keys are ignored. Raises `InputError` where it is malformed."""
        known = {item.name for item in fields(cls)}
        try:
            rest = {key: value for key, value in data.items() if key in known}
            samples = [Sample(**sample) for sample in rest.pop("samples", ())]
            outcome = cls(status=Status(rest.pop("status")), samples=samples, **rest)
        except MALFORMED as error:
            raise InputError("not the outcome of a case", got=data, hint=str(error)) from None
        outcome._check()
        return outcome

    def _check(self) -> None:
        """Refuse fields of the wrong kind, and what contradicts itself."""
        if self.status is Status.OK and not self.samples:
            raise InputError("a case that was measured has a sample", got="none")
        if self.status is Status.OK and not all(sample.known() for sample in self.samples):
            raise InputError("a sample knows at least one number", got="none")
        if len(self.samples) > MAX_SAMPLES:
            raise InputError(f"a case has at most {MAX_SAMPLES} samples", got=len(self.samples))
        if self.provenance not in MEASUREMENT_PROVENANCES:
            raise InputError("unknown provenance", got=self.provenance)
        if not isinstance(self.flags, list) or not all(isinstance(flag, str) for flag in self.flags):
            raise InputError("flags are a list of words", got=self.flags)
        if self.error is not None:
            if not isinstance(self.error, str):
                raise InputError("an error is a text", got=self.error)
            self.error = printable(without_secrets(self.error[:MAX_ERROR]))
        cost = Cost(wall_s=self.wall_s, energy_j=self.energy_j)
        self.wall_s, self.energy_j = cost.wall_s, cost.energy_j
        if not isinstance(self.extra, Mapping):
            raise InputError("what was found beside is a mapping", got=self.extra)
        self.extra = masked(thaw(FrozenMap(self.extra)))

    def to_measurement(self, case: Case, *, startup_s: float | None, environment: JsonObject) -> Measurement:
        """The measurement of `case`, as of now. `startup_s` is its share of the engine's start."""
        accelerators = case.deployment.accelerator_count or 1
        return Measurement(
            case=case,
            status=self.status,
            samples=tuple(self.samples),
            provenance=self.provenance,
            cost=Cost(
                wall_s=self.wall_s,
                accelerator_s=None if self.wall_s is None else self.wall_s * accelerators,
                energy_j=self.energy_j,
                startup_s=startup_s,
            ),
            environment=environment if isinstance(environment, FrozenMap) else FrozenMap(environment),
            flags=tuple(self.flags),
            error=self.error,
            measured_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            n_repeats=len(self.samples),
            extra=FrozenMap(self.extra),
        )


def case_seed(seed: int, case: Case) -> int:
    """The seed of a case's prompts: it follows from the run's seed and from what is measured alone."""
    return int(content_hash({"seed": seed, "case": case.case_id}, 8), 16)


def median_half_width(values: Sequence[float], confidence_level: float = 0.95) -> float | None:
    """Half the width of the median's confidence interval, in the values' unit; None below `MIN_JUDGED_REPEATS`."""
    n = len(values)
    if n < MIN_JUDGED_REPEATS:
        return None
    x = sorted(values)
    c = max(1, round((n + 1) / 2 - math.sqrt(n)))
    alpha = sum(math.comb(n, i) for i in range(c)) * 0.5 ** (n - 1)
    normal = statistics.NormalDist()
    return normal.inv_cdf((1 + confidence_level) / 2) * (x[n - c] - x[c - 1]) / (2 * normal.inv_cdf(1 - alpha / 2))


def measure(
    engine: Engine,
    workload: Workload,
    policy: Policy,
    seed: int,
    on_sample: Callable[[Sample], None] = lambda sample: None,
) -> Outcome:
    """Measure a workload on a loaded engine. Never raises for what the engine does: every failure is an outcome.

    Parameters
    ----------
    seed : int
        Each run draws its prompts from a seed of its own that follows from this one.
    on_sample : callable
        Told of each timed run as soon as it is over.
    """
    if isinstance(engine, Recorded):
        return recall(engine, workload)
    asked = policy.asked(workload)
    outcome = Outcome(provenance="measured" if asked == workload else "projected")
    allocator.trim()
    watch, peak = CpuWatch(), PeakMemory()
    uses: list[faults.Use] = []
    own: list[dict[str, float]] = []  # what the engine says of each repeat
    began = time.perf_counter()
    try:
        engine.check(workload)
        if isinstance(engine, Windowed) and workload.batch_size is None:
            measure_windows(
                engine, workload, policy, lambda run: _run_seed(seed, run), outcome, on_sample,
                lambda latencies: _half_width(latencies, policy),
            )  # fmt: skip
        else:
            _repeat(engine, asked, policy, seed, outcome, on_sample, began, uses, own)
    except CaseFailure as failure:
        outcome.status, outcome.error = _failed(failure.status), str(failure.reason)
    except InputError as error:  # a value that no sample can have
        outcome.status, outcome.error = Status.INVALID, str(error)
    except MemoryError as error:
        outcome.status, outcome.error = Status.OUT_OF_MEMORY, f"out of memory: {error}"
    except Exception as error:  # whatever an engine does costs one case, never the sweep
        said = f"{type(error).__name__}: {error}"
        outcome.status, outcome.error = Status.OUT_OF_MEMORY if speaks_of_memory(said) else Status.CRASHED, said
    outcome.wall_s = time.perf_counter() - began
    if outcome.status is Status.OK and any(own):
        names = dict.fromkeys(name for told in own for name in told)
        outcome.extra[OWN] = {name: [told.get(name) for told in own] for name in names}
    outcome.extra |= watch.facts() | peak.facts() | faults.facts(uses)
    latencies = [sample.e2e_latency_s for sample in outcome.samples if sample.e2e_latency_s is not None]
    outcome.flags += quality_flags(latencies)
    if faults.differ(uses):
        outcome.flags.append(faults.FLAG)
    if apart := outliers(latencies):
        outcome.extra["outlier_repeats"] = apart
    return outcome


def _repeat(
    engine: Engine,
    workload: Workload,
    policy: Policy,
    seed: int,
    outcome: Outcome,
    on_sample: Callable[[Sample], None],
    began: float,
    uses: list[faults.Use],
    own: list[dict[str, float]],
) -> None:
    short = replace(workload, output_tokens=min(workload.output_tokens, WARMUP_TOKENS))
    for run in range(policy.warmup):
        engine.run(short, seed=_run_seed(seed, -1 - run))
    latencies: list[float] = []
    while len(latencies) < policy.max_repeats:
        used = faults.use_so_far()
        before = time.perf_counter()
        sample = engine.run(workload, seed=_run_seed(seed, len(latencies)))
        after = time.perf_counter()
        if used is not None and (now := faults.use_so_far()) is not None:
            uses.append(now.since(used))
        latencies.append(_checked(sample, workload))
        outcome.samples.append(sample)
        own.append(_own_metrics(engine))
        on_sample(sample)
        if len(latencies) >= policy.min_repeats and _half_width(latencies, policy) <= policy.target_half_width:
            return
        if policy.time_limit_s is not None and (after - began) + (after - before) > policy.time_limit_s:
            break
    if policy.is_judged and _half_width(latencies, policy) > policy.target_half_width:
        outcome.flags.append("imprecise")


def _own_metrics(engine: Engine) -> dict[str, float]:
    """What an engine says of its last run, where it says something; a number that is none is unknown."""
    found: dict[str, float] = {}
    if isinstance(engine, SelfMeasuring):
        with contextlib.suppress(Exception):  # what an engine says of itself is no reason not to measure
            found = {name: float(value) for name, value in engine.own_metrics().items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _failed(status: object) -> Status:
    """The status of a failure; one that is none, or says ok, is a crash."""
    try:
        return Status.CRASHED if Status(str(status)) is Status.OK else Status(str(status))
    except ValueError:
        return Status.CRASHED


def _checked(sample: object, workload: Workload) -> float:
    if not isinstance(sample, Sample):
        raise CaseFailure(Status.INVALID, f"the engine gave no sample but {brief(sample)}")
    if sample.output_tokens != workload.output_tokens:
        raise CaseFailure(
            Status.INVALID,
            f"asked for {workload.output_tokens:g} output tokens a sequence, got "
            f"{'an unknown number' if sample.output_tokens is None else format(sample.output_tokens, 'g')}",
        )
    if sample.e2e_latency_s is None or sample.e2e_latency_s <= 0:
        raise CaseFailure(Status.INVALID, f"the engine gave no positive end-to-end latency: {sample.e2e_latency_s}")
    if (reason := reason_unlike(sample)) is not None:
        raise CaseFailure(Status.INVALID, reason)
    return sample.e2e_latency_s


def _half_width(latencies: list[float], policy: Policy) -> float:
    half = median_half_width(latencies, policy.confidence_level)
    return math.inf if half is None else half / statistics.median(latencies)


def recall(engine: Recorded, workload: Workload) -> Outcome:
    """What a record holds of a workload. Never raises for what the engine does."""
    outcome = Outcome(provenance="imported", flags=["replayed"])
    try:
        outcome.samples = list(engine.recorded(workload))
        if not outcome.samples or not all(isinstance(sample, Sample) for sample in outcome.samples):
            raise CaseFailure(Status.INVALID, "the engine gave no samples")
    except CaseFailure as failure:
        outcome.status, outcome.error, outcome.samples = _failed(failure.status), str(failure.reason), []
        return outcome
    except Exception as error:  # whatever an engine does costs one case, never the sweep
        outcome.status = Status.INVALID if isinstance(error, InputError) else Status.CRASHED
        outcome.error = f"{type(error).__name__}: {error}"
        return outcome
    latencies = [
        derive_metrics(
            sample.to_dict(),
            input_tokens=workload.input_tokens,
            output_tokens=workload.output_tokens,
            batch_size=workload.batch_size,
        )["e2e_latency_s"]
        for sample in outcome.samples
    ]
    known = [value for value in latencies if value is not None]
    # What measuring it would have cost: the recorded runs, one after the other.
    outcome.wall_s = sum(known) if len(known) == len(latencies) else None
    return outcome


def _run_seed(seed: int, run: int) -> int:
    return (seed * 1_000_003 + run * 7_919 + 12_345) % 2**31
