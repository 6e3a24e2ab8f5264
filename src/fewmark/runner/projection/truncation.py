"""Which generations of a run are cut short, which are also run in full, and what came of it.

Before anything is projected, a few cells of the deployment are run both ways, spread over the work that cells ask
for: the full runs teach how a step grows with its KV cache, and each pair says how far the projection was off that
knew all of them but its own.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from fewmark.core import Case, Cost, InputError, Measurement, Projection, Status
from fewmark.core.json_types import Json
from fewmark.engines.measuring.spread import in_full_as_well
from fewmark.runner.projection.projector import RULES, Pair, Projector

REFRESHED: Final = "projected-anew"
PROJECTION_TOLERANCE: Final = 0.01  # relative; two projections this close are one
AUTO_TOKENS: Final = (16, 32, 64, 128, 256, 512)  # of these the fewest that reach the error


@dataclass(frozen=True, slots=True)
class Truncation:
    """How generations are cut short.

    Parameters
    ----------
    output_tokens : int, optional
        Tokens really generated; None: as few as `target_error` allows.
    rule : str
        Who projects the rest: ``growth``, ``mean`` or ``flexllmgen``.
    target_error : float
        The median error to stay below, a fraction.
    n_validated : int
        Cells of each deployment that are also measured in full, at most a third of them.
    only : frozenset of str, optional
        The cases that may be cut short, by `case_id`; None: all.
    known : tuple of Measurement
        What was measured of the deployments before.
    """

    output_tokens: int | None = None
    rule: str = "growth"
    target_error: float = 0.03
    n_validated: int = 3
    only: frozenset[str] | None = None
    known: tuple[Measurement, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.output_tokens is not None and self.output_tokens < 2:
            raise InputError("a truncated generation has at least 2 output tokens", got=self.output_tokens)
        if self.rule not in RULES:
            raise InputError("no such rule of projection", got=self.rule, hint=f"one of {', '.join(RULES)}")
        if not 0 < self.target_error < 1:
            raise InputError("a projection's error is a fraction between 0 and 1", got=self.target_error)
        if self.n_validated < 0:
            raise InputError("the number of validated cells is at least 0", got=self.n_validated)

    def concerns(self, case: Case) -> bool:
        """Whether a case may be cut short."""
        short = self.output_tokens if self.output_tokens is not None else AUTO_TOKENS[0]
        wanted = self.only is None or case.case_id in self.only
        return wanted and case.workload.batch_size is not None and case.workload.output_tokens > short


@dataclass(frozen=True, slots=True)
class Task:
    """One case to measure: cut to so many tokens, to as many as the projector needs (`auto`), or whole."""

    case: Case
    tokens: int | None = None
    auto: bool = False


class Truncator:
    """Cuts the generations of one deployment short and projects them."""

    def __init__(self, truncation: Truncation | None, deployment_id: str) -> None:
        self.truncation = truncation
        self.projector = Projector(truncation.rule) if truncation is not None else Projector()
        for earlier in truncation.known if truncation is not None else ():
            if earlier.case.deployment.deployment_id == deployment_id:
                self.projector.learn(earlier)

    def tasks(self, cases: Sequence[Case]) -> list[Task]:
        """What is run, in this order: the validated cells both ways, then the others."""
        held = self.truncation
        if held is None:
            return [Task(case) for case in cases]
        concerned = [case for case in cases if held.concerns(case)]
        both = in_full_as_well(concerned, held.n_validated - len(self.projector.pairs))
        rest = [case for case in cases if case not in both]
        auto = held.output_tokens is None

        def short(case: Case) -> Task:
            return Task(case, held.output_tokens, auto) if held.concerns(case) else Task(case)

        return [*(Task(case) for case in both), *(short(case) for case in (*both, *rest))]

    def tokens(self, task: Task, repeats: int) -> int | None:
        """The tokens to generate; None: all of them."""
        if not task.auto or self.truncation is None:
            return task.tokens
        for tokens in AUTO_TOKENS:
            if tokens >= task.case.workload.output_tokens:
                return None
            error = self.projector.expected_error(task.case.workload, tokens, repeats)
            if error is not None and error <= self.truncation.target_error:
                return tokens
        return None

    def finish(self, measurement: Measurement, *, learn: bool = True) -> Measurement:
        """The measurement with its projection, if it is of a generation cut short; it is learned from."""
        if self.truncation is None:
            return measurement
        if measurement.provenance == "projected" and measurement.status is Status.OK:
            try:
                projection = self.projector.project(
                    measurement.case.workload, measurement.samples, measurement.case.case_id
                )
            except InputError as error:
                return replace(measurement, status=Status.INVALID, error=f"cannot be projected: {error}")
            measurement = replace(measurement, projection=projection)
        if learn:
            self.projector.learn(measurement)
        return measurement

    def learn(self, measurement: Measurement) -> None:
        """Learn from what was measured of a case so far."""
        self.projector.learn(measurement)

    def refreshed(self) -> list[Measurement]:
        """What was projected before all was known, projected anew; where it is no other than before, it is left out.

        The samples are the same; they were paid for once.
        """
        if self.truncation is None:
            return []
        out = []
        for measurement in self.projector.projected():
            anew = self.finish(measurement, learn=False)
            if _apart(measurement.projection, anew.projection):
                out.append(replace(anew, cost=Cost(), flags=tuple(dict.fromkeys((*anew.flags, REFRESHED)))))
        return out


def awaits_projection(measurement: Measurement) -> bool:
    """Whether it is of a generation cut short that nobody has projected yet: a worker alone cannot."""
    cut = any((s.output_tokens or math.inf) < measurement.case.workload.output_tokens for s in measurement.samples)
    projected = measurement.provenance == "projected" and measurement.status is Status.OK
    return cut and projected and measurement.projection is None


def project_all(
    measurements: Sequence[Measurement], rule: str = "growth", known: Iterable[Measurement] = ()
) -> list[Measurement]:
    """The measurements, those that await it with a projection, as a run that cuts them short makes it at its end.

    All of a deployment is learned first, `known` of what was measured before included; what was run both ways
    calibrates the intervals. A generation that cannot be projected is ``invalid``.

    Raises
    ------
    InputError
        If there is no such rule.
    """
    truncation = Truncation(rule=rule, n_validated=0, known=tuple(known))
    groups: dict[str, list[int]] = {}
    for position, measurement in enumerate(measurements):
        groups.setdefault(measurement.case.deployment.deployment_id, []).append(position)
    out = list(measurements)
    for deployment_id, positions in groups.items():
        waiting = [position for position in positions if awaits_projection(out[position])]
        if not waiting:
            continue
        truncator = Truncator(truncation, deployment_id)
        for position in positions:
            truncator.projector.learn(out[position])
        for _ in range(2):  # the second time with what the pairs of the first say of the error
            for position in waiting:
                out[position] = truncator.finish(measurements[position], learn=False)
            before = len(truncator.projector.pairs)
            for position in waiting:
                truncator.projector.learn(out[position])
            if len(truncator.projector.pairs) == before:
                break
    return out


@dataclass(frozen=True, slots=True)
class Validation:
    """Projected against full measurements of the same cases: how far off, how often inside, what it saved.

    `median_error` and `coverage` are fractions, None without pairs or intervals; `confidence_level` is that of the
    intervals. Seconds are what the pairs.
    """

    n_pairs: int
    median_error: float | None
    coverage: float | None
    confidence_level: float | None
    projected_s: float
    full_s: float

    @classmethod
    def of(cls, measurements: Iterable[Measurement]) -> Validation | None:
        """Of the cases that have both; None where nothing was projected."""
        projectors: dict[str, Projector] = {}
        levels: list[float] = []
        for measurement in measurements:
            if measurement.projection is not None:
                levels.append(measurement.projection.confidence_level)
            projectors.setdefault(measurement.case.deployment.deployment_id, Projector()).learn(measurement)
        if not levels:
            return None
        pairs: list[Pair] = [pair for projector in projectors.values() for pair in projector.pairs.values()]
        inside = [pair.inside for pair in pairs if pair.inside is not None]
        return cls(
            n_pairs=len(pairs),
            median_error=statistics.median(pair.error for pair in pairs) if pairs else None,
            coverage=sum(inside) / len(inside) if inside else None,
            confidence_level=statistics.median(levels) if inside else None,
            projected_s=sum(pair.projected_wall_s or 0.0 for pair in pairs),
            full_s=sum(pair.full_wall_s or 0.0 for pair in pairs),
        )

    def to_dict(self) -> dict[str, Json]:
        """JSON-ready."""
        return {name: getattr(self, name) for name in self.__slots__}


def _apart(one: Projection | None, other: Projection | None) -> bool:
    if one is None or other is None:
        return one is not other

    def told(projection: Projection) -> list[float]:
        return [statistics.median(projection.e2e_latency_s), projection.low_s or 1.0, projection.high_s or 1.0]

    return any(abs(a / b - 1) > PROJECTION_TOLERANCE for a, b in zip(told(one), told(other), strict=True))
