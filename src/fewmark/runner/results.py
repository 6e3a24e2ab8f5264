"""What a run yields: one type for each thing that can come of a case, so that no one reads it from flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from fewmark.core import Deployment, EngineError, Measurement


@dataclass(frozen=True, slots=True)
class Measured:
    """A case's measurement, or its failure."""

    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Recalled:
    """Measurements out of a record, some at a time: nothing was run for them."""

    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit of a case that is measured in rounds (`fewmark.runner.rounds`); no measurement of it yet."""

    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Reprojected:
    """A measurement whose projection was made again when more was known; its samples were paid for before."""

    measurement: Measurement


@dataclass(frozen=True, slots=True)
class DriftCheck:
    """A deployment's first case measured again at the end (`fewmark.runner.drift_check`)."""

    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A deployment that cannot be measured where the run takes place, why, and how many cases wait for it."""

    deployment: Deployment
    error: EngineError
    n_cases: int


RunResult: TypeAlias = Measured | Visit | Reprojected | DriftCheck
CaseResult: TypeAlias = RunResult | Recalled
Result: TypeAlias = CaseResult | Unavailable
CASE_RESULTS: Final[dict[str, type[RunResult]]] = {
    kind.__name__: kind for kind in (Measured, Visit, Reprojected, DriftCheck)
}


def measurements_of(result: CaseResult) -> tuple[Measurement, ...]:
    """Every measurement of a result, whatever it is."""
    return result.measurements if isinstance(result, Recalled) else (result.measurement,)
