"""What an executor is: something that measures deployments somewhere."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Protocol, TypeAlias

from fewmark.core import Case, Deployment
from fewmark.core.json_types import JsonObject
from fewmark.runner.deployment import RunSettings
from fewmark.runner.results import Result

Results: TypeAlias = Generator[Result, None, None]


class Executor(Protocol):
    """Measures deployments somewhere. What it needs is checked when it is used, not when it is made."""

    def execute(
        self,
        groups: Mapping[Deployment, Sequence[Case]],
        settings: RunSettings,
        facts: JsonObject,
        on_start: Callable[[Case], None],
    ) -> Results:
        """Yield each result when it exists, and each deployment that cannot be measured.

        Closing the generator ends everything that was begun. Raises `EngineError` where nothing can be begun at all.
        """
