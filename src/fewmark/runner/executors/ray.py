"""Deployments spread over a Ray cluster: one task each, on a node that has what it needs; results stream back here.

A task is a generator: each measurement reaches the driver before the next case begins, and the driver alone writes the
store. When a node is lost, what it had not sent is measured elsewhere; a case under which nodes were lost twice has
crashed. A task that fails by itself would fail on any node: its deployment is left for later, with the reason.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TYPE_CHECKING, Final

from fewmark.core import Case, Deployment, EngineError, Measurement, Status
from fewmark.core.json_types import Json, JsonObject
from fewmark.engines.base import Recorded
from fewmark.engines.registry import engine_class
from fewmark.runner.deployment import RunSettings, measure_deployment
from fewmark.runner.executors.base import Results
from fewmark.runner.results import CASE_RESULTS, Measured, Recalled, Unavailable, Visit

if TYPE_CHECKING:
    from ray import ObjectRefGenerator

POLL_S: Final = 0.5  # how often Ctrl-C is heeded while nothing comes
FETCH_S: Final = 120.0  # for one message; `ray.wait` calls ready what lies on a node that is gone
MAX_SAID: Final = 300  # characters
MAX_LOSSES: Final = 2  # of nodes under one case
MAX_LOSSES_IN_A_ROW: Final = 4  # of nodes under a deployment that measured nothing in between


@dataclass
class _Job:
    """A deployment's task: what is not measured yet, in the order in which it will be; the first is at hand."""

    deployment: Deployment
    waiting: dict[str, Case]
    losses: int = 0


@dataclass
class RayExecutor:
    """Spreads deployments over the cluster that Ray finds (``RAY_ADDRESS``, or one on this machine).

    Every node needs fewmark, and the engine, in the Python that Ray runs there. A deployment asks for `resources_of`.
    """

    _blame: Counter[str] = field(default_factory=Counter)

    def execute(
        self,
        groups: Mapping[Deployment, Sequence[Case]],
        settings: RunSettings,
        facts: JsonObject,
        on_start: Callable[[Case], None],
    ) -> Results:
        """See `Executor`."""
        ray, ours = connect()
        if (claim := settings.claim) is not None:  # a task cannot ask; what is given out is claimed at once
            ours_now = claim([case for group in groups.values() for case in group])
            groups = {key: [case for case in group if case.case_id in ours_now] for key, group in groups.items()}
            groups = {deployment: group for deployment, group in groups.items() if group}
            settings = replace(settings, claim=None)
        jobs = [_Job(deployment, {case.case_id: case for case in group}) for deployment, group in groups.items()]
        running: dict[ObjectRefGenerator, _Job] = {}
        try:
            for job in jobs:
                yield from self._begin(ray, job, running, settings, facts)
            while running:
                ready, _ = ray.wait(list(running), num_returns=1, timeout=POLL_S, fetch_local=True)
                for results in ready:
                    yield from self._take(ray, results, running, settings, facts, on_start)
                if not ready:
                    yield from self._stranded(ray, running)
        finally:
            for results in running:
                with contextlib.suppress(Exception):  # a task that is over, or whose node is gone
                    ray.cancel(results)
            if ours:
                ray.shutdown()

    def _begin(
        self,
        ray: ModuleType,
        job: _Job,
        running: dict[ObjectRefGenerator, _Job],
        settings: RunSettings,
        facts: JsonObject,
    ) -> Iterator[Unavailable]:
        try:
            needs = resources_of(job.deployment, _living(ray))
        except EngineError as error:
            yield Unavailable(job.deployment, error, len(job.waiting))
            return
        rest = {name: amount for name, amount in needs.items() if name not in ("CPU", "GPU")}
        task = ray.remote(_measure).options(
            num_cpus=needs.get("CPU", 0), num_gpus=needs.get("GPU", 0), resources=rest,
            num_returns="streaming", max_retries=0, name=job.deployment.label,
            _generator_backpressure_num_objects=1,  # or what a case is killed right after is still on its way, and lost
        )  # fmt: skip
        running[task.remote([case.to_dict() for case in job.waiting.values()], settings, dict(facts))] = job

    def _stranded(self, ray: ModuleType, running: dict[ObjectRefGenerator, _Job]) -> Iterator[Unavailable]:
        """Tasks that would wait for ever: Ray learns late that a node is gone, and keeps what no other can take."""
        nodes = _living(ray)
        for results, job in list(running.items()):
            try:
                resources_of(job.deployment, nodes)
            except EngineError as error:
                del running[results]
                ray.cancel(results)
                yield Unavailable(job.deployment, error, len(job.waiting))

    def _take(
        self,
        ray: ModuleType,
        results: ObjectRefGenerator,
        running: dict[ObjectRefGenerator, _Job],
        settings: RunSettings,
        facts: JsonObject,
        on_start: Callable[[Case], None],
    ) -> Results:
        """What one task has to say: a case begun, a measurement, its end, or that it is gone with its node."""
        job = running[results]
        try:
            message = ray.get(next(results), timeout=FETCH_S)
        except StopIteration:
            del running[results]
            if job.waiting:  # it ended without an error and without them
                yield from self._lost(ray, job, running, settings, facts, "the task ended early")
            return
        except ray.exceptions.RayTaskError as error:
            del running[results]
            failed = EngineError(
                "the task failed on its node",
                got=" ".join(f"{type(error.cause).__name__}: {error.cause}".split())[:MAX_SAID],
                hint="the node needs the same fewmark, and the engine, in the Python that Ray runs there",
            )
            yield Unavailable(job.deployment, failed, len(job.waiting))
            return
        except ray.exceptions.RayError as error:
            del running[results]
            yield from self._lost(ray, job, running, settings, facts, f"{type(error).__name__}: {error}")
            return
        kind, content = message
        if kind == "unavailable":
            refused = EngineError(content["what"], got=content["got"], hint=content["hint"])
            yield Unavailable(job.deployment, refused, len(job.waiting))
            job.waiting = {}
        else:
            result = CASE_RESULTS[kind](Measurement.from_dict(content))
            if not isinstance(result, Visit):
                job.waiting.pop(result.measurement.case.case_id, None)
            job.losses = 0
            yield result
            if job.waiting:
                on_start(next(iter(job.waiting.values())))

    def _lost(
        self,
        ray: ModuleType,
        job: _Job,
        running: dict[ObjectRefGenerator, _Job],
        settings: RunSettings,
        facts: JsonObject,
        reason: str,
    ) -> Results:
        reason = " ".join(reason.split())
        suspect = next(iter(job.waiting), None)
        if suspect is None:
            return
        job.losses += 1
        self._blame[suspect] += 1
        if self._blame[suspect] >= MAX_LOSSES:
            said = f"the node was lost {MAX_LOSSES} times while it was measured; {reason}"
            yield Measured(Measurement(job.waiting.pop(suspect), Status.CRASHED, error=said))
        if not job.waiting:
            return
        if job.losses >= MAX_LOSSES_IN_A_ROW:
            error = EngineError("nodes are lost whenever the deployment is begun", got=reason, hint="see Ray's logs")
            yield Unavailable(job.deployment, error, len(job.waiting))
            return
        yield from self._begin(ray, job, running, settings, facts)


def connect() -> tuple[ModuleType, bool]:
    """The module `ray`, connected, and whether it was we who connected.

    Raises
    ------
    EngineError
        If Ray is not installed, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise EngineError("the executor ray needs the package ray", hint="pip install 'fewmark[ray]'") from None
    if ray.is_initialized():
        return ray, False
    heeded = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # whatever Ray raises where there is no cluster
        where = os.environ.get("RAY_ADDRESS", "this machine")
        raise EngineError("no Ray cluster answers", got=f"{where}: {error}", hint="set RAY_ADDRESS") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, heeded)  # Ray puts its own in place, which would end us without a word
    return ray, True


def _living(ray: ModuleType) -> list[Mapping[str, float]]:
    """The resources of each node that lives."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def resources_of(deployment: Deployment, nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What a deployment asks of a node.

    Its accelerators by their kind, where nodes declare a resource of that name (``--resources='{"H100": 8}'`` of
    ``ray start``) or Ray knows the kind itself, and as Ray's GPUs. A deployment without accelerators gets a node to
    itself, as others would disturb it, or as many CPUs as its engine option `threads` says. A recorded table needs one.

    Parameters
    ----------
    nodes : sequence of mapping
        The resources of each node that lives.

    Raises
    ------
    EngineError
        If no node has them.
    """
    kind, count = deployment.accelerator or "", deployment.accelerator_count or 1
    needs: dict[str, float] = {"CPU": 1}
    if _is_recorded(deployment.engine):
        pass
    elif kind.lower() == "cpu" or (not kind and deployment.accelerator_count is None):
        threads = deployment.engine_options.get("threads")
        smallest = min((node.get("CPU", 0.0) for node in nodes if node.get("CPU")), default=1.0)
        needs["CPU"] = float(threads) if isinstance(threads, int) else smallest
    else:
        known = f"accelerator_type:{kind}"
        if kind and any(kind in node for node in nodes):
            needs[kind] = count
        elif kind and any(known in node for node in nodes):
            needs |= {known: 0.001, "GPU": count}
        elif kind:
            needs[kind] = count  # nobody has it; the error below says so
        else:
            needs["GPU"] = count
        if kind in needs and any(kind in node and node.get("GPU", 0.0) >= count for node in nodes):
            needs["GPU"] = count
    if any(all(node.get(name, 0.0) >= amount for name, amount in needs.items()) for node in nodes):
        return needs
    asked = ", ".join(f"{amount:g} {name}" for name, amount in needs.items())
    hint = f"start a node that declares it: ray start --resources='{{\"{kind}\": {count}}}'" if kind else "add a node"
    raise EngineError("no node of the Ray cluster has what the deployment needs", got=asked, hint=hint)


def _is_recorded(engine: str) -> bool:
    try:
        return issubclass(engine_class(engine), Recorded)
    except EngineError:
        return False  # the node may know it


def _measure(
    cases: list[dict[str, Json]], settings: RunSettings, facts: dict[str, Json]
) -> Iterator[tuple[str, JsonObject]]:
    """The task: measure on this node, and say each thing when it is so."""
    results = measure_deployment([Case.from_dict(case) for case in cases], settings, facts)
    with contextlib.closing(results):
        try:
            for result in results:
                for each in map(Measured, result.measurements) if isinstance(result, Recalled) else (result,):
                    yield type(each).__name__, each.measurement.to_dict()
        except EngineError as error:
            got = None if error.got is None else str(error.got)
            yield "unavailable", {"what": error.what, "got": got, "hint": error.hint}
