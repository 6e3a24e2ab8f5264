"""What an executor is: something that measures deployments somewhere."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fewmark.core import Case, Deployment, EngineError, Measurement
from fewmark.runner.deployment import RunSettings


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A deployment that cannot be measured where the run takes place, why, and how many cases wait for it."""

    deployment: Deployment
    error: EngineError
    n_cases: int


Results = Generator[Measurement | Unavailable, None, None]


class Executor(Protocol):
    """Measures deployments somewhere. What it needs is checked when it is used, not when it is made."""

    def execute(
        self,
        groups: Mapping[Deployment, Sequence[Case]],
        settings: RunSettings,
        facts: Mapping[str, Any],
        on_start: Callable[[Case], None],
    ) -> Results:
        """Yield each measurement when it exists, and each deployment that cannot be measured.

        Closing the generator ends everything that was begun. Raises `EngineError` where nothing can be begun at all.
        """
