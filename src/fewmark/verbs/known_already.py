"""Which imported rows say again what is known: the same run in another file, the same row, or another value.

Of one run that left several records (``run_id``: a summary and its list of requests, a console block), the one that
knows most is kept. A row that says again what the store holds is not stored twice, from whichever file. A row with
another value for a case that was imported before is a repeat, or a correction: only its user knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fewmark.core import Measurement, Status
from fewmark.core.columns import METRIC_COLUMNS, RETRACTED
from fewmark.core.frozen import content_hash, thaw
from fewmark.core.json_types import Json
from fewmark.interop.results.run_rows import DETAILS
from fewmark.store import Store
from fewmark.tables.same_cases import SameCases

_ASIDE: Final = frozenset(("note", "detail", "run_id"))  # of the extras: what a record says about itself
_UNRANKED: Final = len(DETAILS)


@dataclass(frozen=True)
class OtherValue:
    """A case that the store holds with another value of a metric, from the import of `file` at `imported_at`."""

    case_id: str
    label: str
    metric: str
    known: float
    new: float
    file: str
    imported_at: str
    row: int | None = None


def detail_rank(measurement: Measurement) -> int:
    """How much a record knows: 0 for single requests, more for less."""
    detail = measurement.extra.get("detail")
    return DETAILS.index(detail) if detail in DETAILS else _UNRANKED


def run_of(measurement: Measurement) -> str | None:
    """What names the run behind a record; None where its tool or file does not say."""
    run = measurement.extra.get("run_id")
    return None if run is None else f"{measurement.extra.get('tool', measurement.source)}:{run}"


def n_known(measurement: Measurement) -> int:
    """How many values a record holds, its identity's included."""
    values = sum(len(sample.to_dict()) + len(sample.statistics) for sample in measurement.samples)
    return values + len(measurement.case.deployment.to_dict()) + len(measurement.case.workload.to_dict())


def poorer_records(files: list[dict[int, Measurement]]) -> list[set[int]]:
    """Of each file, the positions whose run another record tells better: in more detail, then with more values."""
    runs: dict[str, dict[tuple[int, int], list[tuple[int, Measurement]]]] = {}
    for number, measurements in enumerate(files):
        for position, measurement in measurements.items():
            run = run_of(measurement)
            if run is not None:
                place = (detail_rank(measurement), number)
                runs.setdefault(run, {}).setdefault(place, []).append((position, measurement))
    out: list[set[int]] = [set() for _ in files]
    for records in runs.values():
        if len(records) < 2:
            continue
        best = min(records, key=lambda place: (place[0], -sum(n_known(m) for _, m in records[place]), place[1]))
        for place, rows in records.items():
            if place != best:
                out[place[1]].update(position for position, _ in rows)
    return out


def content_of(measurement: Measurement, same: SameCases) -> str:
    """What a record says, wherever it stands and however it spells names: equal for copies of one row in two files."""
    extra = {name: value for name, value in measurement.extra.items() if name not in _ASIDE}
    said: dict[str, Json] = {
        "case": same.case_id(measurement.case),
        "status": str(measurement.status),
        "samples": [sample.to_dict() for sample in measurement.samples],
        "extra": thaw(extra),
        "n_repeats": measurement.n_repeats,
    }
    return content_hash(said, 32)


def _metrics_of(held: Measurement, measurement: Measurement) -> list[str]:
    """The metrics that both records hold themselves; where there is none, those that follow from them, too."""
    own = [{name for sample in m.samples for name in sample.to_dict()} for m in (held, measurement)]
    both = [name for name in METRIC_COLUMNS if name in own[0] and name in own[1]]
    return both or list(METRIC_COLUMNS)


@dataclass(frozen=True)
class Known:
    """What the store holds of the cases that an import is about, without what has expired or was superseded.

    `contents` maps what a record says to the id of the measurement that says so, `measurements` ids to measurements,
    `runs` runs to (detail, measurement), `imported` cases to what was imported of them before. Cases are those of
    `same`, which takes names in other spellings for those that the store holds.
    """

    contents: Mapping[str, str]
    measurements: Mapping[str, Measurement]
    runs: Mapping[str, tuple[int, Measurement]]
    imported: Mapping[str, list[Measurement]]
    same: SameCases

    @classmethod
    def of(cls, store: Store, imported_now: Iterable[Measurement]) -> Known:
        """Look it up in the store."""
        new, held_cases = list(imported_now), store.case_ids()
        asked = dict.fromkeys(m.case.deployment for m in new)
        if not held_cases:
            return cls({}, {}, {}, {}, SameCases((), asked))
        held_deployments = store.deployments()
        same = SameCases(held_deployments, asked)
        gone = {key for key, flags in store.withdrawn().items() if flags != RETRACTED}
        contents: dict[str, str] = {}
        runs: dict[str, tuple[int, Measurement]] = {}
        imported: dict[str, list[Measurement]] = {}
        measurements: dict[str, Measurement] = {}
        case_ids = {same.case_id(m.case) for m in new}
        wanted = {same.deployment(deployment) for deployment in asked}
        found = list(store.measurements(case_ids=sorted(held_cases & case_ids)))
        for deployment in held_deployments:  # those that the store itself spells in several ways
            if same.deployment(deployment) != deployment and same.deployment(deployment) in wanted:
                found += [m for m in store.measurements(deployment) if same.case_id(m.case) in case_ids]
        if any(run_of(m) is not None for m in new):
            # The poorer record of a run may have left its model out, and so be another case.
            sources = {m.source for m in new if m.source is not None}
            held = {m.measurement_id for m in found}
            found += [m for m in store.measurements(sources=sorted(sources)) if m.measurement_id not in held]
        for m in found:
            if m.measurement_id in gone or m.provenance != "imported":
                continue
            measurements[m.measurement_id] = m
            contents.setdefault(content_of(m, same), m.measurement_id)
            imported.setdefault(same.case_id(m.case), []).append(m)
            run = run_of(m)
            if run is not None and (run not in runs or detail_rank(m) < runs[run][0]):
                runs[run] = (detail_rank(m), m)
        return cls(contents, measurements, runs, imported, same)

    def is_poorer(self, measurement: Measurement) -> bool:
        """Whether the store knows the record's run in more detail."""
        run = run_of(measurement)
        return run is not None and run in self.runs and self.runs[run][0] < detail_rank(measurement)

    def poorer(self, measurement: Measurement) -> list[Measurement]:
        """What the store holds of the record's run in less detail."""
        run = run_of(measurement)
        if run is None or run not in self.runs or self.runs[run][0] <= detail_rank(measurement):
            return []
        rows = (m for held in self.imported.values() for m in held)
        return [m for m in rows if run_of(m) == run and detail_rank(m) > detail_rank(measurement)]

    def other_values(self, measurement: Measurement) -> list[tuple[Measurement, str, float, float]]:
        """What was imported of the case before and differs: it, the metric that differs most, known and new value."""
        out = []
        for held in self.imported.get(self.same.case_id(measurement.case), []):
            run, other = run_of(measurement), run_of(held)
            if run is not None and other is not None and run != other:
                continue  # two runs that a tool tells apart are repeats
            differing = [
                (max(new / known, known / new), metric, known, new)
                for metric in _metrics_of(held, measurement)
                if (known := held.median(metric)) and (new := measurement.median(metric)) and known > 0 and new > 0
            ]
            if differing and max(differing)[0] > 1 + 1e-9:
                _, metric, known, new = max(differing, key=lambda item: round(item[0], 9))
                out.append((held, metric, known, new))
            elif not differing and held.status != measurement.status and Status.OK in (held.status, measurement.status):
                out.append((held, "status", float("nan"), float("nan")))
        return out
