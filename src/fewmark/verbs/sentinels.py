"""`fewmark run SUITE --sentinels N`: whether the system has changed since it was measured, and what expires."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from fewmark.core import Case, InputError, Measurement, Status
from fewmark.core.columns import EXPIRED
from fewmark.core.json_types import Json
from fewmark.interop import from_measurements
from fewmark.planning.sentinels import MEASURED_SD, Drift, detect_drift, sentinels
from fewmark.planning.space import Space
from fewmark.runner import Runner
from fewmark.runner.drift_check import FLAG as DRIFT_CHECK
from fewmark.screening.expired import REASON
from fewmark.store import Annotation, open_store
from fewmark.suites import Suite
from fewmark.verbs.run import prepare
from fewmark.verbs.versions import engine_version

METRIC: Final = "e2e_latency_s"


@dataclass(frozen=True)
class Checked:
    """What the sentinels of one deployment say of its old measurements.

    `ratio` is the median over the old cells of new over old end-to-end latency, `low` and `high` of their 90%
    intervals' ends; `noise` the relative standard deviation of a measurement that the test went by; `before` and `now`
    the engine's versions, where they are known; `expired` the `case_id` of each old cell not to be believed any more.
    """

    deployment: str
    before: str | None
    now: str | None
    n_old: int
    n_sentinels: int
    n_failed: int
    noise: float
    p_value: float
    changed: bool
    ratio: float
    low: float
    high: float
    expired: tuple[str, ...]

    def to_dict(self) -> dict[str, Json]:
        """JSON-ready."""
        return asdict(self)


def check_sentinels(
    suite: str | Path | Suite,
    n: int,
    *,
    store: str | None = None,
    engine_python: str | None = None,
    worker_prefix: Sequence[str] = (),
    timeout_s: float | None = None,
    memory_limit: str | None = None,
    quiet: bool = False,
) -> tuple[Checked, ...]:
    """Measure n cells of each deployment again that the store has, and mark as expired what no longer holds.

    What is expired counts as not measured: a run measures it again, and no model learns from it.

    Parameters
    ----------
    n : sentinels of a deployment, at least 2; at most as many as it has measured cells
    suite, store, engine_python, worker_prefix, timeout_s, memory_limit : as `verbs.run.run` takes them

    Raises
    ------
    InputError
        If n is less than 2, or the store has no deployment of the suite with two cells measured here.
    SuiteError, StoreError, EngineError
        If the request is wrong, or no engine of the suite can be used.
    """
    if n < 2:
        raise InputError("a check needs at least 2 sentinels a deployment", got=n)
    chosen, settings = prepare(
        suite, engine_python=engine_python, worker_prefix=worker_prefix, timeout_s=timeout_s, memory_limit=memory_limit
    )
    with open_store(store, create=False) as opened:
        before = list(opened.measurements(case_ids=[case.case_id for case in chosen.cases]))
        held = _old(before, set(opened.withdrawn()))
        if not held:
            raise InputError(
                "no deployment of the suite has two cells that were measured here",
                got=opened.url,
                hint="fewmark run first",
            )
        spaces = {label: Space.from_table(from_measurements(old)) for label, old in held.items()}
        picks = {label: _picked(spaces[label], old, n) for label, old in held.items()}
        again = [held[label][at].case for label, chosen_at in picks.items() for at in chosen_at]
        runner = Runner(opened, replace(settings, drift_check=False, rounds=1), quiet)
        came = {m.case.case_id: m for m in runner.run(again, again=True).measurements}
        noise = noise_of([*before, *came.values()])
        found = tuple(
            checked
            for label, old in held.items()
            if (checked := _checked(label, spaces[label], old, [old[at].case for at in picks[label]], came, noise))
        )
        gone = {case_id for checked in found for case_id in checked.expired}
        old_ones = (m for m in before if m.case.case_id in gone)
        opened.annotate(Annotation(m.measurement_id, EXPIRED, "exclude", REASON) for m in old_ones)
    return found


def noise_of(measurements: Iterable[Measurement]) -> float:
    """The relative sd of one measurement: what repeats within it and drift checks after it tell, at least 1%."""
    spread, shares, visits = [], [], []
    for measurement in measurements:
        if measurement.status is not Status.OK:
            continue
        values = np.log([v for v in measurement.values(METRIC) if v > 0])
        if len(values):
            shares.append(1 / len(values))
        if len(values) > 1:
            spread.append(values.var(ddof=1))
        drift = measurement.extra.get("drift")
        if DRIFT_CHECK in measurement.flags and isinstance(drift, float) and drift > -1:
            visits.append(math.log1p(drift) ** 2 / 2)
    within = np.mean(spread) * np.mean(shares) if spread else 0.0
    return math.sqrt(max(MEASURED_SD**2, within, np.mean(visits) if visits else 0.0))


def _old(before: Iterable[Measurement], expired: Collection[str]) -> dict[str, list[Measurement]]:
    """The latest good measurement of each cell by deployment, in the store's order; of those with two cells or more."""
    latest: dict[str, dict[str, Measurement]] = {}
    for m in before:
        good = m.status is Status.OK and m.provenance == "measured" and DRIFT_CHECK not in m.flags and m.median(METRIC)
        if good and not (expired and m.measurement_id in expired):
            latest.setdefault(m.case.deployment.deployment_id, {})[m.case.case_id] = m
    return {key: list(held.values()) for key, held in latest.items() if len(held) > 1}


def _picked(space: Space, old: Sequence[Measurement], n: int) -> list[int]:
    cost = np.array([m.median(METRIC) for m in old], dtype=float)
    return [int(at) for at in sentinels(space, cost, min(n, len(old)))]


def _checked(
    deployment_id: str,
    space: Space,
    old: Sequence[Measurement],
    asked: Collection[Case],
    came: Mapping[str, Measurement],
    noise: float,
) -> Checked | None:
    """What came of one deployment's sentinels; None where none of them could be measured."""
    new = np.full(len(old), np.nan)
    results = [came[case.case_id] for case in asked if case.case_id in came]
    for at, m in enumerate(old):
        again = came.get(m.case.case_id)
        if again is not None and again.status is Status.OK and (value := again.median(METRIC)):
            new[at] = value
    good = [m for m in results if m.status is Status.OK]
    if not good:
        return None
    before = np.array([m.median(METRIC) for m in old], dtype=float)
    drift: Drift = detect_drift(space, before, new, noise_sd=noise)
    return Checked(
        deployment=old[0].case.deployment.label,
        before=engine_version(old),
        now=engine_version(good),
        n_old=len(old),
        n_sentinels=len(asked),
        n_failed=len(asked) - len(good),
        noise=noise,
        p_value=drift.p_value,
        changed=drift.changed,
        ratio=float(np.median(drift.ratio)),
        low=float(np.median(drift.low)),
        high=float(np.median(drift.high)),
        expired=tuple(m.case.case_id for m, gone in zip(old, drift.expired, strict=True) if gone),
    )
