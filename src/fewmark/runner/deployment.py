"""One deployment's cases, one after the other on one loaded engine, restarted whenever a case brings it down."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Final

from fewmark.core import Case, Deployment, EngineError, FrozenMap, InputError, Measurement, Status
from fewmark.core.json_types import JsonObject
from fewmark.engines.measuring.policy import Outcome, Policy, case_seed
from fewmark.runner.drift_check import marked, worth_checking
from fewmark.runner.projection.truncation import Truncation, Truncator
from fewmark.runner.results import CaseResult, DriftCheck, Measured, Recalled, Reprojected, Visit
from fewmark.runner.rounds import CaseRounds, as_visit
from fewmark.runner.worker.launch import Launch
from fewmark.runner.worker.process import WorkerGoneError, WorkerProcess
from fewmark.runner.worker.warm import WarmWorker

START_ATTEMPTS: Final = 3
LOAD_ATTEMPTS: Final = 2
RECALLED_AT_ONCE: Final = 250  # a transaction: what a kill loses is looked up again within a second
VISIT_STRIDE: Final = 1_000_003
SOFT_LIMIT: Final = 0.8  # of the time-out: no repeat is begun that would run into it


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How cases are executed.

    Parameters
    ----------
    policy : Policy
        Warm-up, repeats, precision.
    timeout_s, load_timeout_s : float
        After which a case, or the start of a worker or the loading of a deployment, is given up and the worker killed.
    seed : int
        Of the order and of the prompts.
    warm_worker : Standing, optional
        Where a worker waits for the next run, rather than being closed; for one deployment at a time only.
    launch : Launch
        How a worker is started.
    drift_check : bool
        Measure the first case of a deployment again when all are measured, where they were many or took long; the
        second measurement is marked ``drift-check``.
    truncation : Truncation, optional
        How generations are cut short and projected.
    rounds : int
        In how many rounds over a deployment's cases the repeats are made; see `fewmark.runner.rounds`.
    visits : tuple of Measurement
        Of a run in rounds that was stopped.
    claim : callable, optional
        Asked before cases are measured, which of them, by id, this run may; see `fewmark.runner.shared_work`.
    """

    policy: Policy = field(default_factory=Policy)
    timeout_s: float = 600.0
    load_timeout_s: float = 1800.0
    seed: int = 0
    launch: Launch = field(default_factory=Launch)
    warm_worker: WarmWorker | None = field(default=None, compare=False)
    drift_check: bool = False
    truncation: Truncation | None = None
    rounds: int = 1
    visits: tuple[Measurement, ...] = field(default=(), repr=False, compare=False)
    claim: Callable[[Sequence[Case]], set[str]] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError("a case is visited in at least 1 round", got=self.rounds)


def measure_deployment(
    cases: Sequence[Case],
    settings: RunSettings,
    facts: JsonObject,
    on_start: Callable[[Case], None] = lambda case: None,
) -> Generator[CaseResult, None, None]:
    """Measure cases of one deployment, in the order given; each result is yielded when it exists.

    Parameters
    ----------
    cases : sequence of Case
        All of the same deployment.
    facts : mapping
        What the parent knows of the run; becomes ``runner`` in every environment.
    on_start : callable
        Told of each case before it is measured.

    Raises
    ------
    EngineError
        If no worker can be started, or the engine is not installed where the worker runs.
    """
    if not cases:
        return
    deployment = cases[0].deployment
    truncator = Truncator(settings.truncation, deployment.deployment_id)
    waiting = deque(CaseRounds(task) for task in truncator.tasks(cases))
    earlier: dict[str, list[Measurement]] = {}
    for visit in settings.visits:
        earlier.setdefault(visit.case.case_id, []).append(visit)
    settings = replace(settings, launch=settings.launch.for_engine(deployment.engine))
    policy = replace(settings.policy, time_limit_s=SOFT_LIMIT * settings.timeout_s)
    worker: WorkerProcess | None = None
    if (warm := settings.warm_worker) is not None:
        began, turned = perf_counter(), warm.deployment != deployment
        if kept := warm.take(deployment, settings.load_timeout_s):
            worker, environment = kept
            environment["runner"] = dict(facts)
            share = (perf_counter() - began) / len(waiting) if turned else 0.0
            for entry in waiting:
                entry.startup_share_s = share
    first: Measurement | None = None
    first_policy = policy
    n_measured, started = 0, perf_counter()
    try:
        while waiting:
            if not _may_measure(waiting[0], settings):
                refused = waiting[0].task.case.case_id
                waiting = deque(entry for entry in waiting if entry.task.case.case_id != refused)
                continue
            if worker is None or not worker.ready:
                if worker is not None:
                    worker.kill()
                began = perf_counter()
                worker, loaded = _start(deployment, settings)
                share = (perf_counter() - began) / len(waiting)
                for entry in waiting:
                    entry.startup_share_s = share
                environment = {"host": worker.host, "runner": dict(facts)}
                if isinstance(loaded, Outcome):
                    for case in dict.fromkeys(entry.task.case for entry in waiting if _may_measure(entry, settings)):
                        yield Measured(loaded.to_measurement(case, startup_s=share, environment=environment))
                    return
                environment["engine"] = dict(loaded)
            if worker.recorded and settings.truncation is None:
                yield _recalled(worker, waiting, settings, environment, on_start)
                continue
            entry = waiting[0]
            case = entry.task.case
            if not entry.measurements:
                entry.tokens = truncator.tokens(entry.task, policy.min_repeats)
                earlier[case.case_id] = entry.resume(earlier.get(case.case_id, ()), environment)
            if not entry.measurements or not entry.complete(policy, settings.rounds):
                on_start(case)
                cut = entry.policy(policy, settings.rounds)
                seed = case_seed(
                    settings.seed + VISIT_STRIDE * len(entry.measurements), case
                )  # each visit, prompts of its own
                outcome = worker.run(case.workload, cut, seed, settings.timeout_s)
                visit = outcome.to_measurement(case, startup_s=entry.startup_share_s, environment=environment)
                if visit.status is not outcome.status:
                    worker.kill()  # what tells of things that cannot be is not asked again
                entry.measurements.append(visit)
                entry.startup_share_s = 0.0
            waiting.popleft()
            measurement = entry.merged(policy)
            if not entry.complete(policy, settings.rounds):
                truncator.learn(measurement)
                waiting.append(entry)
                yield Visit(as_visit(entry.measurements[-1]))
                continue
            measurement = truncator.finish(measurement)
            if first is None and worth_repeating(measurement, settings):
                first, first_policy = measurement, replace(policy, truncate=entry.tokens)
            n_measured += 1
            yield Measured(measurement)
        yield from map(Reprojected, truncator.refreshed())
        # in rounds every case is measured at all times of the run
        worthy = settings.drift_check and settings.rounds == 1 and worth_checking(n_measured, perf_counter() - started)
        if worthy and first is not None and worker is not None and worker.alive:
            case = first.case
            outcome = worker.run(case.workload, first_policy, case_seed(settings.seed, case), settings.timeout_s)
            again = outcome.to_measurement(case, startup_s=None, environment=environment)
            yield DriftCheck(marked(first, truncator.finish(again, learn=False)))
        if worker is not None and worker.alive and settings.warm_worker is not None:
            settings.warm_worker.keep(deployment, worker, environment)
            worker = None
        if worker is not None:
            worker.close()
    finally:
        if worker is not None:
            worker.kill()


def _may_measure(entry: CaseRounds, settings: RunSettings) -> bool:
    return bool(entry.measurements) or settings.claim is None or bool(settings.claim([entry.task.case]))


def _recalled(
    worker: WorkerProcess,
    waiting: deque[CaseRounds],
    settings: RunSettings,
    environment: JsonObject,
    on_start: Callable[[Case], None],
) -> Recalled:
    """The next cases out of a record, as many as are looked up, and kept, at once; they no longer wait."""
    entries = [waiting.popleft() for _ in range(min(RECALLED_AT_ONCE, len(waiting)))]
    if settings.claim is not None:
        granted = settings.claim([entry.task.case for entry in entries])
        entries = [entry for entry in entries if entry.task.case.case_id in granted]
    for entry in entries[:1]:
        on_start(entry.task.case)
    outcomes = worker.recall([entry.task.case.workload for entry in entries], settings.timeout_s) if entries else []
    waiting.extendleft(reversed(entries[len(outcomes) :]))  # a worker that fails leaves the rest to another
    place = FrozenMap(environment)
    return Recalled(
        tuple(
            outcome.to_measurement(entry.task.case, startup_s=entry.startup_share_s, environment=place)
            for entry, outcome in zip(entries, outcomes, strict=False)
        )
    )


def worth_repeating(measurement: Measurement, settings: RunSettings) -> bool:
    """Whether the drift check may measure it again: where generations are cut short, not one of the whole ones."""
    kind = "measured" if settings.truncation is None else "projected"
    return measurement.status is Status.OK and measurement.provenance == kind


def _start(deployment: Deployment, settings: RunSettings) -> tuple[WorkerProcess, JsonObject | Outcome]:
    """A worker that has loaded the deployment, or the failure that a second attempt met again."""
    for attempt in range(1, LOAD_ATTEMPTS + 1):
        worker = _new_worker(settings)
        try:
            loaded = worker.load(deployment, settings.load_timeout_s)
        except BaseException:
            worker.kill()
            raise
        crashed = isinstance(loaded, Outcome) and loaded.status is Status.CRASHED
        if not crashed or attempt == LOAD_ATTEMPTS:
            return worker, loaded
        worker.kill()
    raise AssertionError("unreachable")


def _new_worker(settings: RunSettings) -> WorkerProcess:
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            # A prefix may have to wait for a machine first; that takes as long as loading may.
            return WorkerProcess(settings.launch, start_timeout_s=settings.load_timeout_s)
        except WorkerGoneError as gone:
            if attempt == START_ATTEMPTS or gone.status is Status.TIMEOUT:
                raise EngineError(
                    "the worker's command ends, or waits, without an answer",
                    got=f"{' '.join(settings.launch.command()[:-1])}: {gone.reason}",
                    hint="run the command by hand; it must start a Python and pass its standard streams on",
                ) from None
    raise AssertionError("unreachable")
