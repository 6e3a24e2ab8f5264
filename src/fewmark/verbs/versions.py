"""Which version of an engine measurements come from, and a warning where one suite has several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fewmark.core import Advice, Case, Measurement, Status
from fewmark.store import Store

LOOKED_AT: Final = 20  # earlier measurements of a deployment


def engine_version(measurements: Iterable[Measurement]) -> str | None:
    """The engine's version that measurements agree on, as they recorded it; else None."""
    found = {_recorded(m) for m in measurements}
    return found.pop() if len(found) == 1 else None


def version_advice(store: Store, cases: Iterable[Case], new: Sequence[Measurement]) -> Iterable[Advice]:
    """A warning for each deployment whose earlier results come from another version of its engine than the new ones."""
    came = {m.case.case_id for m in new}
    expired: set[str] | None = None
    for deployment in {
        m.case.deployment.deployment_id: m.case.deployment for m in new if m.status is Status.OK
    }.values():
        now = engine_version(m for m in new if m.case.deployment == deployment and m.status is Status.OK)
        earlier = [c.case_id for c in cases if c.deployment == deployment and c.case_id not in came][:LOOKED_AT]
        if now is None or not earlier:
            continue
        expired = set(store.withdrawn()) if expired is None else expired
        held = store.measurements(case_ids=earlier, statuses=[Status.OK])
        before = Counter(_recorded(m) for m in held if m.measurement_id not in expired)
        others = [version for version in before if version not in (None, now)]
        if others:
            yield Advice(
                "engine-version",
                f"{deployment.label}: earlier results are of version {', '.join(map(str, others))}, these of {now}",
                "fewmark run SUITE --sentinels 6 tells whether the old ones still hold",
            )


def _recorded(measurement: Measurement) -> str | None:
    engine = measurement.environment.get("engine")
    told = engine.get("engine_version") if isinstance(engine, Mapping) else None
    return str(told) if told is not None else measurement.case.deployment.engine_version
