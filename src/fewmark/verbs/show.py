"""`fewmark show`: the results of a store, and of one case its samples, marks and where each measurement came from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fewmark.core import Case, InputError, Measurement, Status
from fewmark.core.columns import WITHDRAWN
from fewmark.core.frozen import thaw
from fewmark.core.metrics import median_of_repeats
from fewmark.store import Annotation, Origin, Store, open_store

SHOWN = ("throughput_tok_s", "ttft_s", "tpot_s", "e2e_latency_s")
MIN_PREFIX = 4  # digits of an id
MAX_CASES = 10  # shown in full


@dataclass(frozen=True)
class CaseResult:
    """What the store holds of one case.

    `values` maps each of `SHOWN` to its median over measurements that are believed and ended well, and half of their
    range, None with a single one. `marks` are what the screen or a user said, without repeats.
    """

    case: Case
    measurements: tuple[Measurement, ...]
    values: Mapping[str, tuple[float, float | None]]
    marks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The result as JSON has it."""
        return {
            "case_id": self.case.case_id,
            **self.case.to_dict(),
            "n_measurements": len(self.measurements),
            "status": self.status,
            "values": {name: {"value": value, "half_range": half} for name, (value, half) in self.values.items()},
            "marks": list(self.marks),
        }

    @property
    def status(self) -> str:
        """The status of the measurements: ok where any ended well, else that of the latest."""
        found = [m.status for m in self.measurements]
        return str(Status.OK if Status.OK in found else found[-1])


@dataclass(frozen=True)
class Shown:
    """The cases that were asked for; `details` where one was, with marks and origins by measurement."""

    url: str
    results: tuple[CaseResult, ...]
    n_cases: int
    in_full: bool = False
    marks: Mapping[str, tuple[Annotation, ...]] = field(default_factory=dict)
    origins: Mapping[str, tuple[Origin, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """All of it, JSON-ready."""
        cases = []
        for result in self.results:
            item = result.to_dict()
            if self.in_full:
                item["measurements"] = [self.told(m) for m in result.measurements]
            cases.append(item)
        return {"store": self.url, "n_cases": self.n_cases, "cases": cases}

    def told(self, measurement: Measurement) -> dict[str, object]:
        """A measurement with its marks and its origins, JSON-ready."""
        key = measurement.measurement_id
        return {
            "measurement_id": key,
            **{name: value for name, value in measurement.to_dict().items() if name != "case"},
            "marks": [
                {
                    "rule": m.rule,
                    "action": m.action,
                    "reason": m.reason,
                    **({"changes": thaw(m.changes)} if m.changes else {}),
                }
                for m in self.marks.get(key, ())
            ],
            "origins": [
                {
                    **{name: getattr(o, name) for name in ("file", "format", "place", "modified_at", "imported_at")},
                    "record": None if o.record is None else json.loads(o.record),
                }
                for o in self.origins.get(key, ())
            ],
        }


def show(case: str | None = None, *, store: str | None = None) -> Shown:
    """The results of every case of a store, the latest last; or of one case with everything that is known of it.

    Parameters
    ----------
    case : str, optional
        The id of a case or a measurement or how it begins, or words that all stand in a case's name ("m7b H100 1024").

    Raises
    ------
    InputError
        If the store is empty, or nothing matches.
    StoreError
        If the store cannot be opened or read.
    """
    with open_store(store, create=False) as opened:
        held: dict[str, list[Measurement]] = {}
        for measurement in opened.measurements():
            held.setdefault(measurement.case.case_id, []).append(measurement)
        if not held:
            raise InputError("the store has no measurements", got=opened.url, hint="fewmark run, or fewmark import")
        marks: dict[str, list[Annotation]] = {}
        for mark in opened.annotations():
            marks.setdefault(mark.measurement_id, []).append(mark)
        chosen = held if case is None else _matching(held, case)
        results = tuple(case_result(found, marks) for found in chosen.values())
        if case is None:
            return Shown(opened.url, results, len(held))
        return _in_full(opened, results[:MAX_CASES], marks, len(results))


def describe(case: Case) -> str:
    """A case in one line."""
    work = case.workload
    load = next(
        (f"{name.replace('_', ' ')} {value:g}" for name in ("batch_size", "concurrency", "request_rate")
         if (value := getattr(work, name)) is not None),
        "",
    )  # fmt: skip
    return f"{case.deployment.label} · {work.input_tokens:g}→{work.output_tokens:g} tokens at {load}"


def _in_full(opened: Store, results: tuple[CaseResult, ...], marks: dict[str, list[Annotation]], n: int) -> Shown:
    keys = [m.measurement_id for result in results for m in result.measurements]
    return Shown(
        opened.url,
        results,
        n,
        in_full=True,
        marks={key: tuple(marks.get(key, ())) for key in keys},
        origins={key: tuple(found) for key, found in opened.origins(keys).items()},
    )


def _matching(held: dict[str, list[Measurement]], case: str) -> dict[str, list[Measurement]]:
    text = case.strip()
    if re.fullmatch(rf"[0-9a-f]{{{MIN_PREFIX},32}}", text):
        found = {
            key: rows
            for key, rows in held.items()
            if key.startswith(text) or any(m.measurement_id.startswith(text) for m in rows)
        }
        if found:
            return found
    words = text.lower().split()
    found = {key: rows for key, rows in held.items() if _says(rows[0].case, words)}
    if not words or not found:
        near = "; ".join(describe(rows[0].case) for rows in list(held.values())[:3])
        raise InputError("no case of the store matches", got=case, hint=f"an id, or words of its name, such as {near}")
    return found


def _says(case: Case, words: list[str]) -> bool:
    name = f"{describe(case)} {case.workload.load_label} {json.dumps(case.to_dict())}".lower()
    return all(
        re.search(rf"(?<!\d){re.escape(word)}(?!\d)" if word.isdigit() else re.escape(word), name) for word in words
    )


def case_result(measurements: list[Measurement], marks: Mapping[str, list[Annotation]]) -> CaseResult:
    """What measurements of one case say together; `marks` are those of each by its id."""
    told: list[str] = []
    believed = []
    for measurement in measurements:
        said = marks.get(measurement.measurement_id, [])
        told += [f"{mark.action}: {mark.rule}" for mark in said]
        told += list(measurement.flags)
        gone = any(mark.action == "exclude" or mark.rule in WITHDRAWN for mark in said)
        if measurement.status is Status.OK and not gone:
            believed.append(measurement)
    values = {}
    for name in SHOWN:
        found = [value for m in believed for value in m.values(name)]
        if found:
            half = (max(found) - min(found)) / 2 if len(found) > 1 else None
            values[name] = (median_of_repeats(name, found), half)
    return CaseResult(measurements[0].case, tuple(measurements), values, tuple(dict.fromkeys(told)))
