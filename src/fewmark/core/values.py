"""The frozen values that everything else speaks in: deployments, workloads, cases, measurements, predictions.

Unknown is None: never 0, never the requested value. Raw samples are immutable; statistics are derived.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from typing import Any

from fewmark.core.columns import LOAD_COLUMNS, STATISTICS
from fewmark.core.errors import InputError
from fewmark.core.fields import build, field_names, known_fields, positive, require_text
from fewmark.core.frozen import FrozenMap, content_hash, thaw
from fewmark.core.json_types import Json
from fewmark.core.metrics import derive_metrics, median_of_repeats
from fewmark.core.projection import Projection
from fewmark.core.samples import Sample, number
from fewmark.core.text import encodable
from fewmark.core.validity import reason_invalid


class Status(StrEnum):
    """How the measurement of a case ended. A failed case is a measurement, not an exception."""

    OK = "ok"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    UNSUPPORTED = "unsupported"
    INVALID = "invalid"


RUN_PROVENANCES = ("measured", "projected")  # of what a runner ran, whole or cut short
MEASUREMENT_PROVENANCES = (*RUN_PROVENANCES, "imported")
PREDICTION_PROVENANCES = ("measured", "interpolated", "extrapolated", "transferred", "abstained", "imported")


@dataclass(frozen=True, slots=True)
class Advice:
    """A warning as a value: a short code, what was seen, and what to do next."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Deployment:
    """What serves: an engine with a model on accelerators. None is unknown."""

    engine: str
    model: str
    engine_version: str | None = None
    precision: str | None = None
    accelerator: str | None = None
    accelerator_count: int | None = None
    tensor_parallel_size: int | None = None
    placement: str | FrozenMap | None = None
    engine_options: FrozenMap = field(default_factory=FrozenMap)

    def __post_init__(self) -> None:
        for name in ("engine", "model"):
            require_text(name, getattr(self, name))
        for name in ("engine_version", "precision", "accelerator"):
            if getattr(self, name) is not None:
                require_text(name, getattr(self, name))
        _make_encodable(self, ("engine", "model", "engine_version", "precision", "accelerator", "placement"))
        for name in ("accelerator_count", "tensor_parallel_size"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, positive(name, value, whole=True))
        if isinstance(self.placement, Mapping) and not isinstance(self.placement, FrozenMap):
            object.__setattr__(self, "placement", FrozenMap(self.placement))
        if not isinstance(self.engine_options, FrozenMap):
            object.__setattr__(self, "engine_options", FrozenMap(self.engine_options))

    def to_dict(self) -> dict[str, Json]:
        """The known fields as a plain dictionary."""
        return known_fields(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Deployment:
        """The deployment behind `to_dict`. Raises `InputError` on unknown or invalid fields."""
        return build(cls, data)

    @cached_property
    def deployment_id(self) -> str:
        """A content hash, stable across processes and versions."""
        return content_hash(self.to_dict())

    @property
    def label(self) -> str:
        """A short name for people."""
        count = f"{self.accelerator_count}×" if self.accelerator_count and self.accelerator_count > 1 else ""
        where = f" on {count}{self.accelerator}" if self.accelerator else ""
        precision = f" {self.precision}" if self.precision else ""
        placement = self.placement if isinstance(self.placement, str) else None
        tail = f" ({placement})" if placement and placement != "accelerator" else ""
        return f"{self.model}{precision} · {self.engine}{where}{tail}"


@dataclass(frozen=True)
class Workload:
    """What is asked: tokens in and out, and exactly one load.

    The load is a static batch (`batch_size`), a number of requests in flight in a closed loop (`concurrency`), or
    requests that arrive per second in an open loop (`request_rate`). `input_tokens` and `output_tokens` may be
    fractional: means of a request mix. `options` holds further axes, so that new ones break nothing.
    """

    input_tokens: float
    output_tokens: float
    batch_size: int | None = None
    concurrency: int | None = None
    request_rate: float | None = None
    options: FrozenMap = field(default_factory=FrozenMap)

    def __post_init__(self) -> None:
        for name in ("input_tokens", "output_tokens", "request_rate"):
            if name != "request_rate" or self.request_rate is not None:
                object.__setattr__(self, name, positive(name, getattr(self, name)))
        for name in ("batch_size", "concurrency"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, positive(name, value, whole=True))
        given = [name for name in LOAD_COLUMNS if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(
                "a workload needs exactly one of batch_size (offline), concurrency (online, closed loop) and "
                "request_rate (online, open loop)",
                got={name: getattr(self, name) for name in LOAD_COLUMNS},
            )
        if not isinstance(self.options, FrozenMap):
            object.__setattr__(self, "options", FrozenMap(self.options))

    def to_dict(self) -> dict[str, Json]:
        """The known fields as a plain dictionary."""
        return known_fields(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Workload:
        """The workload behind `to_dict`. Raises `InputError` on unknown or invalid fields."""
        return build(cls, data)

    @property
    def load_kind(self) -> str:
        """The column that states the load: ``batch_size``, ``concurrency`` or ``request_rate``."""
        return next(name for name in LOAD_COLUMNS if getattr(self, name) is not None)

    @property
    def load(self) -> float:
        """The batch size, the concurrency, or the request rate in requests per second, whichever is given."""
        return getattr(self, self.load_kind)  # type: ignore[no-any-return]

    @property
    def sequences(self) -> int:
        """How many sequences are held at once: the batch size or the concurrency.

        Raises
        ------
        InputError
            At a request rate, where nobody knows it before.
        """
        held = self.batch_size if self.batch_size is not None else self.concurrency
        if held is None:
            raise InputError("a request rate does not say how many requests are in flight", got=self.load_label)
        return held

    @property
    def load_label(self) -> str:
        """The load for people: ``batch 8``, ``8 users``, ``2.5 req/s``."""
        if self.batch_size is not None:
            return f"batch {self.batch_size}"
        if self.concurrency is not None:
            return f"{self.concurrency} user{'s' if self.concurrency > 1 else ''}"
        return f"{self.request_rate:g} req/s"


@dataclass(frozen=True)
class Case:
    """One cell of the space: a deployment under a workload."""

    deployment: Deployment
    workload: Workload

    @cached_property
    def case_id(self) -> str:
        """A content hash (24 hex digits), stable across processes and versions."""
        return content_hash(self.to_dict())

    def to_dict(self) -> dict[str, Json]:
        """The known fields as a plain dictionary."""
        return {"deployment": self.deployment.to_dict(), "workload": self.workload.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Case:
        """The case behind `to_dict`. Raises `InputError` on unknown or invalid fields."""
        if not isinstance(data, Mapping) or set(data) != {"deployment", "workload"}:
            raise InputError("a case needs a deployment and a workload", got=data)
        return cls(build(Deployment, data["deployment"]), build(Workload, data["workload"]))


@dataclass(frozen=True, slots=True)
class Cost:
    """What a measurement cost: wall-clock and accelerator seconds, joules, and its share of the engine's start."""

    wall_s: float | None = None
    accelerator_s: float | None = None
    energy_j: float | None = None
    startup_s: float | None = None

    def __post_init__(self) -> None:
        for name in field_names(Cost):
            value = getattr(self, name)
            if value is not None:
                value = number(name, value)
                if value < 0:
                    raise InputError(f"{name} must not be negative", got=value)
                object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Json]:
        """The known fields as a plain dictionary."""
        return known_fields(self)


@dataclass(frozen=True)
class Measurement:
    """A case as it was measured, projected or imported, with the raw samples of every repeat.

    `environment` is where it ran (a mapping of facts). `row` is the 1-based data row of an imported file.
    `statistic` says what a metric without a percentile in its name means: ``mean`` over requests, ``median`` over
    repeats. `extra` carries foreign columns along. Of what is projected, the samples are those of the generation cut
    short.
    """

    case: Case
    status: Status = Status.OK
    samples: tuple[Sample, ...] = ()
    provenance: str = "measured"
    cost: Cost = field(default_factory=Cost)
    environment: FrozenMap = field(default_factory=FrozenMap)
    flags: tuple[str, ...] = ()
    error: str | None = None
    source: str | None = None
    row: int | None = None
    measured_at: str | None = None
    n_repeats: int | None = None
    extra: FrozenMap = field(default_factory=FrozenMap)
    projection: Projection | None = None
    statistic: str | None = None

    def __post_init__(self) -> None:
        if self.statistic is not None and self.statistic not in STATISTICS:
            raise InputError("unknown statistic", got=self.statistic, hint=f"one of {', '.join(STATISTICS)}")
        if isinstance(self.projection, Mapping):
            object.__setattr__(self, "projection", Projection.from_dict(self.projection))
        try:
            object.__setattr__(self, "status", Status(self.status))
        except ValueError:
            raise InputError("unknown status", got=self.status, hint=f"one of {', '.join(Status)}") from None
        if self.provenance not in MEASUREMENT_PROVENANCES:
            raise InputError(
                "unknown provenance", got=self.provenance, hint=f"one of {', '.join(MEASUREMENT_PROVENANCES)}"
            )
        for name in ("samples", "flags"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _make_encodable(self, ("error", "source", "measured_at"))
        if self.projection is not None and len(self.projection.e2e_latency_s) != len(self.samples):
            raise InputError("a projection has one latency for each sample", got=len(self.projection.e2e_latency_s))
        for name in ("environment", "extra"):
            if not isinstance(getattr(self, name), FrozenMap):
                object.__setattr__(self, name, FrozenMap(getattr(self, name)))
        if self.status is Status.OK and (reason := reason_invalid(self)) is not None:
            object.__setattr__(self, "status", Status.INVALID)
            object.__setattr__(self, "error", reason)

    @cached_property
    def measurement_id(self) -> str:
        """A content hash over everything that was recorded."""
        return content_hash(self.known_parts(), 32)

    def to_dict(self) -> dict[str, Json]:
        """The known fields as a plain dictionary, JSON-ready."""
        return {key: thaw(value) if key == "environment" else value for key, value in self.known_parts().items()}

    def known_parts(self) -> dict[str, Json]:
        """As `to_dict`, with the environment as it is held: many measurements share one."""
        return {
            key: value
            for key, value in {
                "case": self.case.to_dict(),
                "status": str(self.status),
                "samples": [sample.to_dict() for sample in self.samples],
                "provenance": self.provenance,
                "cost": self.cost.to_dict(),
                "environment": self.environment,
                "flags": list(self.flags),
                "error": self.error,
                "source": self.source,
                "row": self.row,
                "measured_at": self.measured_at,
                "n_repeats": self.n_repeats,
                "extra": thaw(self.extra),
                "projection": None if self.projection is None else self.projection.to_dict(),
                "statistic": self.statistic,
            }.items()
            if value is not None and value != {} and value != []
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Measurement:
        """The measurement behind `to_dict`. Raises `InputError` on unknown or invalid fields."""
        known = {item.name for item in fields(cls)}
        if not isinstance(data, Mapping) or "case" not in data or not set(data) <= known:
            raise InputError("a measurement needs a case and only known fields", got=sorted(data))
        rest = dict(data)
        case = Case.from_dict(rest.pop("case"))
        samples = tuple(build(Sample, sample) for sample in rest.pop("samples", ()))
        return cls(case=case, samples=samples, cost=build(Cost, rest.pop("cost", {})), **rest)

    def values(self, metric: str) -> tuple[float, ...]:
        """The metric's value in every sample that has or implies it; of a projection, for the full output length."""
        out = []
        for position in range(len(self.samples)):
            value = self._derived(position).get(metric)
            if value is not None:
                out.append(value)
        return tuple(out)

    def median(self, metric: str) -> float | None:
        """The median over the samples (`median_of_repeats`); None where unknown."""
        values = self.values(metric)
        return median_of_repeats(metric, values) if values else None

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Where the metric's median of a full measurement lies, in the metric's unit; None without a projection."""
        held, ttft_s = self.projection, self.median("ttft_s")
        if held is None or held.low_s is None or held.high_s is None or metric in ("ttft_s", "power_w"):
            return None
        ends = [whole(self.case.workload, end, ttft_s).get(metric) for end in (held.low_s, held.high_s)]
        known = [end for end in ends if end is not None]
        return (min(known), max(known)) if len(known) == len(ends) else None

    def _derived(self, position: int) -> dict[str, float | None]:
        sample, work = self.samples[position], self.case.workload
        cut = bool(sample.token_times_s) or (sample.output_tokens or math.inf) < work.output_tokens
        if self.provenance == "projected" and (self.projection is not None or cut):
            latency = None if self.projection is None else self.projection.e2e_latency_s[position]
            return whole(work, latency, sample.ttft_s) | {"power_w": sample.power_w}
        produced = sample.output_tokens if sample.output_tokens is not None else work.output_tokens
        known: dict[str, float | None] = {**sample.known()}
        return known | derive_metrics(
            known, input_tokens=work.input_tokens, output_tokens=produced, batch_size=work.batch_size
        )


@dataclass(frozen=True)
class Prediction:
    """A metric of a case that was not looked up but predicted, with its interval and where it comes from."""

    case: Case
    metric: str
    value: float | None
    low: float | None
    high: float | None
    confidence_level: float
    provenance: str
    similarity: float | None = None
    abstained: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        if self.provenance not in PREDICTION_PROVENANCES:
            raise InputError(
                "unknown provenance", got=self.provenance, hint=f"one of {', '.join(PREDICTION_PROVENANCES)}"
            )
        if not 0 < self.confidence_level < 1:
            raise InputError("confidence_level must lie between 0 and 1", got=self.confidence_level)


def whole(workload: Workload, e2e_latency_s: float | None, ttft_s: float | None) -> dict[str, float | None]:
    """The metrics of the full output length that follow from its latency and the first token's, in seconds."""
    return derive_metrics(
        {"e2e_latency_s": e2e_latency_s, "ttft_s": ttft_s},
        input_tokens=workload.input_tokens,
        output_tokens=workload.output_tokens,
        batch_size=workload.batch_size,
    )


def _make_encodable(value: Deployment | Measurement, names: Iterable[str]) -> None:
    for name in names:
        text = getattr(value, name)
        if isinstance(text, str) and not text.isascii():
            object.__setattr__(value, name, encodable(text))
