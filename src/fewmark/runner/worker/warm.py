"""A worker that outlives a run, so that the next run of the same deployment need not load its engine again.

A campaign measures a few cells at a time. At most one worker stands, since two loaded engines may not fit into one
machine's memory; one of another deployment is closed before a new one starts, unless its engine can turn to that one
(`fewmark.engines.base.Reusable`).
"""

from __future__ import annotations

from fewmark.core import Deployment
from fewmark.core.json_types import Json, JsonObject
from fewmark.runner.worker.process import WorkerProcess


class WarmWorker:
    """Holds the worker; whoever made this closes it."""

    def __init__(self) -> None:
        self.deployment: Deployment | None = None
        self._worker: WorkerProcess | None = None
        self._environment: dict[str, Json] = {}

    def take(self, deployment: Deployment, load_timeout_s: float) -> tuple[WorkerProcess, dict[str, Json]] | None:
        """The worker that has this deployment loaded, or could turn to it, given away; any other one is closed."""
        worker, environment = self._worker, dict(self._environment)
        if worker is not None and worker.alive and self.deployment != deployment:
            same = self.deployment is not None and self.deployment.engine == deployment.engine
            if (facts := worker.reload(deployment, load_timeout_s) if same else None) is None:
                worker = None
            else:
                environment["engine"] = dict(facts)
        if worker is None or not worker.ready:
            self.close()
            return None
        self._worker = self.deployment = None
        return worker, environment

    def keep(self, deployment: Deployment, worker: WorkerProcess, environment: JsonObject) -> None:
        """Hold this worker from now on."""
        self.close()
        self.deployment, self._worker, self._environment = deployment, worker, dict(environment)

    def close(self) -> None:
        """Close the worker, if there is one."""
        worker, self._worker, self.deployment = self._worker, None, None
        if worker is not None:
            try:
                if worker.alive:
                    worker.close()
            finally:
                worker.kill()
