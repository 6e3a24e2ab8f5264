"""Where the deployments of a run are measured: one after the other here, or spread over machines."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fewmark.core import Case, Deployment, EngineError
from fewmark.core.json_types import JsonObject
from fewmark.runner.deployment import RunSettings, measure_deployment
from fewmark.runner.executors.base import Results
from fewmark.runner.results import Unavailable
from fewmark.runner.worker.warm import WarmWorker


class LocalExecutor:
    """One deployment after the other, on this machine or wherever the command prefix leads."""

    def execute(
        self,
        groups: Mapping[Deployment, Sequence[Case]],
        settings: RunSettings,
        facts: JsonObject,
        on_start: Callable[[Case], None],
    ) -> Results:
        """See `Executor`."""
        with contextlib.closing(WarmWorker()) as ours:
            if settings.warm_worker is None and len(groups) > 1:
                settings = replace(settings, warm_worker=ours)
            for deployment, group in groups.items():
                results = measure_deployment(group, settings, facts, on_start)
                try:
                    with contextlib.closing(results):
                        yield from results
                except EngineError as error:
                    yield Unavailable(deployment, error, len(group))
