"""A case visited in rounds: its repeats spread over the sweep, and put together to one measurement.

A machine that runs at one of several speeds for seconds at a time gives repeats made one after the other the same
speed. In rounds every case of a deployment is visited once before any is visited again; a visit makes its share of the
fewest repeats, and cases that are not known well enough after the last round are visited further. Each visit is kept in
the store by itself as soon as it exists, flagged `VISIT`, and is no measurement of the case yet; the measurement holds
the samples of all visits, in their order, and in ``extra.visits`` how many each of them gave.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final

from fewmark.core import Cost, FrozenMap, Measurement, Status
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json, JsonObject
from fewmark.engines.measuring.outliers import OUTLIER_FLAG, WARM_UP_FLAG, outliers
from fewmark.engines.measuring.policy import Policy, median_half_width
from fewmark.runner.projection.truncation import Task

VISIT: Final = "visit"
IMPRECISE: Final = "imprecise"
OF_ONE_VISIT: Final = frozenset({VISIT, IMPRECISE, OUTLIER_FLAG, WARM_UP_FLAG})  # what is judged anew of them all
METRIC: Final = "e2e_latency_s"


@dataclass
class CaseRounds:
    """One task and what its visits gave so far.

    `startup_share_s` is its share of the engine's start, which the next visit bears; `tokens` what generations are cut
    to.
    """

    task: Task
    measurements: list[Measurement] = field(default_factory=list)
    tokens: int | None = None
    startup_share_s: float = 0.0

    @property
    def n_samples(self) -> int:
        """Repeats so far."""
        return sum(len(visit.samples) for visit in self.measurements)

    def policy(self, policy: Policy, rounds: int) -> Policy:
        """How the next visit is made: with its share of the repeats."""
        cut = replace(policy, truncate=self.tokens)
        if rounds == 1:
            return cut
        left = max(1, min(rounds, policy.max_repeats) - len(self.measurements))
        wanted = math.ceil((policy.min_repeats - self.n_samples) / left)
        repeats = max(1, min(wanted, policy.max_repeats - self.n_samples))
        return replace(cut, min_repeats=repeats, max_repeats=repeats)

    def complete(self, policy: Policy, rounds: int) -> bool:
        """Whether the case needs no further visit: it failed, or there were all rounds and repeats enough."""
        last = self.measurements[-1]
        if rounds == 1 or last.status is not Status.OK or last.provenance == "imported":
            return True
        if self.n_samples >= policy.max_repeats:
            return True
        if len(self.measurements) < rounds or self.n_samples < policy.min_repeats:
            return False
        spent = sum(visit.cost.wall_s or 0.0 for visit in self.measurements)
        late = policy.time_limit_s is not None and spent + (last.cost.wall_s or 0.0) > policy.time_limit_s
        return late or is_precise(self.measurements, policy)

    def merged(self, policy: Policy) -> Measurement:
        """The measurement of all visits so far, without a projection."""
        if len(self.measurements) == 1:
            return self.measurements[0]
        last = self.measurements[-1]
        samples = tuple(sample for visit in self.measurements for sample in visit.samples)
        flags = [flag for visit in self.measurements for flag in visit.flags if flag not in OF_ONE_VISIT]
        extra = _extra([thaw(visit.extra) for visit in self.measurements])
        extra["visits"] = [len(visit.samples) for visit in self.measurements]
        if apart := outliers(_latencies(self.measurements)):
            flags.append(OUTLIER_FLAG)
            extra["outlier_repeats"] = apart
        if policy.is_judged and not is_precise(self.measurements, policy):
            flags.append(IMPRECISE)
        costs = {
            item.name: _total(getattr(visit.cost, item.name) for visit in self.measurements) for item in fields(Cost)
        }
        return replace(
            last, samples=samples, flags=tuple(dict.fromkeys(flags)), extra=FrozenMap(extra), cost=Cost(**costs),
            n_repeats=len(samples),
        )  # fmt: skip

    def resume(self, earlier: Iterable[Measurement], environment: JsonObject) -> list[Measurement]:
        """Go on from visits that a run which was stopped has left; those not of this task and machine are returned."""
        left = []
        for visit in earlier:
            lengths = {sample.output_tokens for sample in visit.samples}
            same = visit.status is Status.OK and _place(visit.environment) == _place(environment)
            if same and len(lengths) == 1 and self._is_alike(length := lengths.pop(), visit.provenance == "projected"):
                if not self.measurements and visit.provenance == "projected":
                    self.tokens = int(length or 0)
                elif not self.measurements:
                    self.tokens = None
                self.measurements.append(replace(visit, flags=tuple(flag for flag in visit.flags if flag != VISIT)))
            else:
                left.append(visit)
        return left

    def _is_alike(self, length: float | None, is_cut: bool) -> bool:
        """Whether a visit of this length, cut short or not, belongs to the task and to what was taken of it before."""
        if self.measurements:
            return is_cut == (self.tokens is not None) and (not is_cut or length == self.tokens)
        return self.task.auto or ((length == self.task.tokens) if is_cut else self.task.tokens is None)


def is_precise(visits: Sequence[Measurement], policy: Policy) -> bool:
    """Whether the median over all samples is known as well as the policy asks."""
    latencies = sorted(_latencies(visits))
    half = median_half_width(latencies, policy.confidence_level)
    return half is not None and half <= policy.target_half_width * latencies[len(latencies) // 2]


def as_visit(measurement: Measurement) -> Measurement:
    """The measurement marked as a visit."""
    return replace(measurement, flags=(*measurement.flags, VISIT))


def left_over(visits: Iterable[Measurement], measured: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """The visits that no measurement holds: those later than every measurement of their case and kind."""
    latest: dict[tuple[str, str], str] = {}
    for m in measured:
        key = (m.case.case_id, m.provenance)
        latest[key] = max(latest.get(key, ""), m.measured_at or "")
    return tuple(v for v in visits if (v.measured_at or "") > latest.get((v.case.case_id, v.provenance), ""))


def _latencies(visits: Sequence[Measurement]) -> list[float]:
    """Of the runs as they were, whole or cut short."""
    samples = (sample for visit in visits for sample in visit.samples)
    return [sample.e2e_latency_s for sample in samples if sample.e2e_latency_s is not None]


def _extra(parts: Sequence[JsonObject]) -> dict[str, Json]:
    """What was found beside the samples: the highest of peaks, the mean of how busy others were, else the last."""
    out: dict[str, Json] = {}
    for part in parts:
        out |= part
    for name in out:
        known = [value for part in parts if isinstance(value := part.get(name), (int, float))]
        if name.startswith("peak_") and known:
            out[name] = max(known)
        elif name == "other_cpus_busy" and known:
            out[name] = round(sum(known) / len(known), 3)
    out.pop("outlier_repeats", None)
    return out


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _place(environment: JsonObject) -> tuple[Json, Json]:
    """Where something ran, as far as it must agree between visits: the host, and the engine's version."""
    host, engine = environment.get("host"), environment.get("engine")
    return (
        host.get("host") if isinstance(host, Mapping) else None,
        engine.get("engine_version") if isinstance(engine, Mapping) else None,
    )
