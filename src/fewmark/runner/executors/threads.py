"""Several deployments measured side by side on this machine, each by a worker of its own.

What runs beside a measurement disturbs it: side by side is for engines that do not share what they are limited by,
such as accelerators of one host, or workers behind a prefix that leads elsewhere.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence

from fewmark.core import Case, Deployment, EngineError, InputError
from fewmark.core.json_types import JsonObject
from fewmark.runner.deployment import RunSettings, measure_deployment
from fewmark.runner.executors.base import Results
from fewmark.runner.results import Result, Unavailable


class SideBySide:
    """An executor: at most `n_workers` deployments at once, each one's cases one after the other.

    Raises
    ------
    InputError
        If there is to be no worker.
    """

    def __init__(self, n_workers: int) -> None:
        if n_workers < 1:
            raise InputError("at least one worker must run", got=n_workers)
        self.n_workers = n_workers

    def execute(
        self,
        groups: Mapping[Deployment, Sequence[Case]],
        settings: RunSettings,
        facts: JsonObject,
        on_start: Callable[[Case], None],
    ) -> Results:
        """See `fewmark.runner.Executor`."""
        waiting = queue.SimpleQueue[tuple[Deployment, Sequence[Case]]]()
        for item in groups.items():
            waiting.put(item)
        came = queue.SimpleQueue[Result | BaseException | None]()
        stopped = threading.Event()

        def work() -> None:
            try:
                while not stopped.is_set():
                    deployment, group = waiting.get_nowait()
                    self._measure(deployment, group, settings, facts, on_start, came.put, stopped)
            except queue.Empty:
                came.put(None)
            except BaseException as error:  # belongs to the one who waits for the results
                came.put(error)

        # daemons: a worker process ends by itself when this process is gone
        n_workers = min(self.n_workers, len(groups))
        for _ in range(n_workers):
            threading.Thread(target=work, daemon=True).start()
        try:
            while n_workers:
                one = came.get()
                if isinstance(one, BaseException):
                    raise one
                if one is None:
                    n_workers -= 1
                else:
                    yield one
        finally:
            stopped.set()

    def _measure(
        self,
        deployment: Deployment,
        group: Sequence[Case],
        settings: RunSettings,
        facts: JsonObject,
        on_start: Callable[[Case], None],
        put: Callable[[Result], None],
        stopped: threading.Event,
    ) -> None:
        results = measure_deployment(group, settings, facts, on_start)
        try:
            with contextlib.closing(results):
                for result in results:
                    put(result)
                    if stopped.is_set():
                        return
        except EngineError as error:
            put(Unavailable(deployment, error, len(group)))
