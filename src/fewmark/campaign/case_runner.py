"""What measures cases for a campaign."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from fewmark.core import Case, Measurement


class Report(Protocol):
    """What a runner reports."""

    @property
    def measurements(self) -> tuple[Measurement, ...]: ...


class CaseRunner(Protocol):
    """What measures cases and saves each result in the store: `fewmark.runner.Runner`."""

    def run(self, cases: Iterable[Case]) -> Report: ...
