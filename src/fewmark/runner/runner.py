"""Executes cases into a store: what is missing, in random order, each result saved as soon as it exists."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, cast

from fewmark.core import Advice, Case, Deployment, FrozenMap, Measurement, Status, content_hash
from fewmark.core.json_types import Json, JsonObject
from fewmark.core.values import MEASUREMENT_PROVENANCES
from fewmark.runner import drift_check
from fewmark.runner.advice import run_advice
from fewmark.runner.auto_batch import AutoBatch
from fewmark.runner.deployment import RunSettings
from fewmark.runner.executors.base import Executor, Results
from fewmark.runner.executors.local import LocalExecutor
from fewmark.runner.progress import RunProgress
from fewmark.runner.projection.truncation import Validation
from fewmark.runner.provenance import run_facts
from fewmark.runner.results import DriftCheck, Measured, Recalled, Reprojected, Unavailable, Visit
from fewmark.runner.rounds import left_over
from fewmark.runner.shared_work import SharedStore, SharedWork

WHOLE: Final = ("measured", "imported")


class ResultStore(Protocol):
    """What the runner needs of a store."""

    def add(self, measurements: Iterable[Measurement]) -> int:
        """Save measurements durably; how many are new."""

    def case_ids(
        self, statuses: Iterable[Status] | None = None, *, provenances: Iterable[str] | None = None
    ) -> set[str]:
        """The cases that have a measurement, of any status and provenance or of the given ones."""


class RoundsStore(ResultStore, Protocol):
    """What it needs besides where cases are visited in rounds."""

    def add_visits(self, visits: Iterable[Measurement]) -> None:
        """Keep visits of cases durably, apart from the measurements."""

    def visits(self, case_ids: Iterable[str] | None = None) -> Iterable[Measurement]:
        """The visits of these cases, in the order they were added."""

    def measurements(self, *, case_ids: Iterable[str] | None = None) -> Iterable[Measurement]:
        """The measurements of these cases."""


@dataclass(frozen=True)
class RunReport:
    """What a run did.

    `n_cases` were asked for; `n_before` of them had a measurement already, `n_failed_before` of those a failed one
    that was not tried again. `unavailable` says which engines were missing and how many cases waited for each.
    `n_elsewhere` cases were measured meanwhile by other runs on the same store.
    `checks` are first cases measured again at the end. `auto_batch` tells of the batch sizes that were searched for;
    what was tried for them is told there, and not among the measurements. `validation` holds projections against full
    measurements of the same cases.
    Times in seconds: the run's own, and of the measurements their cost and the engines' starts.
    """

    n_cases: int
    n_before: int
    n_failed_before: int
    n_left: int
    measurements: tuple[Measurement, ...]
    unavailable: tuple[tuple[str, str, int], ...] = ()
    advice: tuple[Advice, ...] = ()
    elapsed_s: float = 0.0
    checks: tuple[Measurement, ...] = ()
    validation: Validation | None = None
    auto_batch: tuple[AutoBatch, ...] = ()
    n_elsewhere: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing fell short."""
        found = all(search.chosen is not None for search in self.auto_batch)
        return found and not (self.n_failed_before or self.unavailable or self.failures)

    @property
    def failures(self) -> tuple[Measurement, ...]:
        """The measurements of this run that are not ok."""
        return tuple(m for m in self.measurements if m.status is not Status.OK)

    def to_dict(self) -> dict[str, Json]:
        """The report as JSON values."""
        return {
            "n_cases": self.n_cases,
            "n_before": self.n_before,
            "n_failed_before": self.n_failed_before,
            "n_measured": len(self.measurements),
            "n_left": self.n_left,
            "n_elsewhere": self.n_elsewhere,
            "statuses": {str(k): n for k, n in sorted(Counter(m.status for m in self.measurements).items())},
            "elapsed_s": self.elapsed_s,
            "cost_s": sum(m.cost.wall_s or 0.0 for m in (*self.measurements, *self.checks)),
            "startup_s": sum(m.cost.startup_s or 0.0 for m in self.measurements),
            "drift": [
                {"case_id": m.case.case_id, "status": str(m.status), "drift": m.extra.get("drift")} for m in self.checks
            ],
            "failures": [
                {"case_id": m.case.case_id, "case": m.case.to_dict(), "status": str(m.status), "error": m.error}
                for m in self.failures
            ],
            "unavailable": [
                {"engine": engine, "reason": reason, "n_cases": count} for engine, reason, count in self.unavailable
            ],
            "projection": None if self.validation is None else self.validation.to_dict(),
            "auto_batch": [search.to_dict() for search in self.auto_batch],
            "advice": [{"code": a.code, "message": a.message, "hint": a.hint} for a in self.advice],
        }


@dataclass
class Runner:
    """Executes cases and saves every measurement in `store`.

    A case is measured unless the store has it (by `case_id`), so that a run that was stopped, by whatever means, goes
    on where it was; in rounds, with the visits that were made. The order is random but follows from the settings' seed
    and the cases alone. Runs that `share` a store measure each case once between them.
    """

    store: ResultStore
    settings: RunSettings = field(default_factory=RunSettings)
    quiet: bool = False
    executor: Executor = field(default_factory=LocalExecutor)
    share: bool = False

    def run(
        self, cases: Iterable[Case], *, retry_failed: bool = False, limit: int | None = None, again: bool = False
    ) -> RunReport:
        """Measure the cases that the store does not hold.

        Parameters
        ----------
        cases : iterable of Case
            Of any deployments; each deployment's engine is loaded once.
        retry_failed : bool
            Measure cases again that have failed measurements only.
        limit : int, optional
            Measure at most this many.
        again : bool
            Measure every case, whatever the store holds.

        Raises
        ------
        EngineError
            If no engine of the missing cases can be used at all.
        StoreError
            If the store cannot be written; what was saved before stays.
        """
        began = time.monotonic()
        shared = SharedWork(self.store) if self.share and not again and isinstance(self.store, SharedStore) else None
        unique = {case.case_id: case for case in cases}
        # what was projected is done where projections are asked for, and only there
        counts = MEASUREMENT_PROVENANCES if self.settings.truncation is not None else WHOLE
        wanted = set() if again else set(unique)
        known = self.store.case_ids(provenances=counts) & wanted
        good = self.store.case_ids([Status.OK], provenances=counts) & wanted
        skip = good if retry_failed else known
        missing = [case for case_id, case in unique.items() if case_id not in skip]
        groups, settings = self._order(missing, limit), self._going_on(missing)
        measured: list[Measurement] = []
        saved: set[str] = set()
        checks: list[Measurement] = []
        reprojected: dict[str, Measurement] = {}
        unavailable: list[Unavailable] = []
        facts = run_facts()

        def keep(came: Sequence[Measurement]) -> None:
            self.store.add(came)
            for measurement in came:
                if measurement.case.case_id not in saved:  # a validated cell comes twice
                    progress.saved(measurement)
                saved.add(measurement.case.case_id)
            measured.extend(came)

        with (
            shared or contextlib.nullcontext(),
            RunProgress(itertools.chain(*groups.values()), quiet=self.quiet) as progress,
            contextlib.closing(self._execute(groups, settings, facts, progress, shared, limit)) as results,
        ):
            for result in results:
                match result:
                    case Unavailable():
                        unavailable.append(result)
                    case Visit(visit):
                        cast(RoundsStore, self.store).add_visits([visit])
                    case DriftCheck(check):
                        self.store.add([check])
                        checks.append(check)
                    case Reprojected(renewed):
                        self.store.add([renewed])
                        reprojected[renewed.case.case_id] = renewed
                    case Measured(measurement):
                        keep([measurement])
                    case Recalled(recalled):
                        keep(recalled)
        measured = [_newest(held, reprojected) for held in measured]
        n_elsewhere = shared.n_elsewhere if shared is not None else 0
        if unavailable and not measured and len(unavailable) == len(groups):
            raise unavailable[0].error
        return RunReport(
            n_cases=len(unique),
            n_before=len(skip),
            n_failed_before=len(skip - good),
            n_left=len(missing) - len(saved) - n_elsewhere,
            n_elsewhere=n_elsewhere,
            measurements=tuple(measured),
            unavailable=tuple((item.deployment.engine, str(item.error), item.n_cases) for item in unavailable),
            advice=(*run_advice(measured), *drift_check.drift_advice(checks)),
            elapsed_s=time.monotonic() - began,
            checks=tuple(checks),
        )

    def _execute(
        self,
        groups: Mapping[Deployment, list[Case]],
        settings: RunSettings,
        facts: JsonObject,
        progress: RunProgress,
        shared: SharedWork | None,
        limit: int | None,
    ) -> Results:
        """Everything that the executor yields; where runs share a store, of what others left as well."""
        if shared is None:
            yield from self.executor.execute(groups, settings, facts, progress.started)
            return
        settings = replace(settings, claim=shared.take)
        lost: set[Deployment] = set()
        while groups:
            with contextlib.closing(self.executor.execute(groups, settings, facts, progress.started)) as results:
                for result in results:
                    if isinstance(result, Unavailable):
                        lost.add(result.deployment)
                    yield result
            if limit is not None:
                return
            progress.waiting(shared.n_waiting)
            groups = self._order((case for case in shared.wait() if case.deployment not in lost), None)

    def _order(self, cases: Iterable[Case], limit: int | None) -> Mapping[Deployment, list[Case]]:
        """Cases by deployment, both in an order that a hash of the seed and of themselves decides.

        Deployments that differ in engine options alone follow one another: they may share what is loaded.
        """

        @functools.cache
        def place(identity: str) -> str:
            return content_hash({"seed": self.settings.seed, "of": identity})

        @functools.cache
        def among(deployment: Deployment) -> tuple[str, str]:
            alike = replace(deployment, engine_options=FrozenMap())
            return place(alike.deployment_id), place(deployment.deployment_id)

        ordered = sorted(cases, key=lambda case: (*among(case.deployment), place(case.case_id)))
        groups: dict[Deployment, list[Case]] = {}
        for case in ordered[:limit]:
            groups.setdefault(case.deployment, []).append(case)
        return groups

    def _going_on(self, missing: Iterable[Case]) -> RunSettings:
        """The settings, with the visits that a run in rounds which was stopped has left of these cases."""
        if self.settings.rounds == 1:
            return self.settings
        store = cast(RoundsStore, self.store)
        visits = list(store.visits([case.case_id for case in missing]))
        measured = store.measurements(case_ids={visit.case.case_id for visit in visits}) if visits else ()
        return replace(self.settings, visits=left_over(visits, measured))


def _newest(held: Measurement, anew: Mapping[str, Measurement]) -> Measurement:
    """What was held, with the projection that was made of it anew, if there is one."""
    if held.projection is None or held.case.case_id not in anew:
        return held
    return replace(held, projection=anew[held.case.case_id].projection)
