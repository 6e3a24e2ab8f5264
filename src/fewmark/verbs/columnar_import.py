"""A table's rows to the store's rows by columns, without a measurement in between: the same rows, several times faster.

What `fewmark.interop.to_measurements` and `fewmark.store.rows.Batch` make of a row, made for all rows at once: what
recurs (a deployment, a workload, a label) is checked and written once. A row with anything out of the ordinary goes the
way of single measurements; a test holds the two ways to the same rows.

Notation: the *body* of a measurement is its JSON as the store keeps it, its *text* that of which its id is a hash: keys
sorted, whole numbers without a fraction, nothing unknown.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core import KNOWN_COLUMNS, Case, Measurement
from fewmark.core.columns import (
    DEPLOYMENT_COLUMNS,
    METRIC_COLUMNS,
    OPTION_PREFIX,
    OPTIONAL_COLUMNS,
    WORKLOAD_COLUMNS,
    WORKLOAD_PREFIX,
)
from fewmark.core.serving import STATISTIC_COLUMNS
from fewmark.core.validity import MAX_SECONDS
from fewmark.interop import to_measurements
from fewmark.store.rows import Batch, Row, case_row, column_text, deployment_row, workload_columns
from fewmark.store.schema import COST_COLUMNS
from fewmark.tables.arrays import BoolArray, FloatArray
from fewmark.tables.identity import group_codes
from fewmark.verbs.columnar_json import (
    Texts,
    both,
    each,
    extra_json,
    field,
    flag_json,
    items,
    joined,
    label_json,
    masked_cell,
    short_hash,
    whole_number,
)

MIN_ROWS: Final = 200  # below, single measurements are as fast
_BATCH: Final = 100_000  # rows a transaction
_OWN_RUNS: Final = frozenset(("provenance", "run_id", "detail"))  # such rows are compared one by one
_COSTS: Final = dict.fromkeys(COST_COLUMNS)
_SORTED: Final = sorted((*METRIC_COLUMNS, "statistics"))


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collection of garbage: a million texts and tuples hold none, and are looked at again and again."""
    held = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if held:
            gc.enable()


class ColumnarRows:
    """The rows of a canonical table, ready for the store.

    Parameters
    ----------
    frame : canonical table for which `fits` holds, every row a complete cell

    Raises
    ------
    InputError
        If a value is none that a case allows; `to_measurements` names the row.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self.positions: list[int] = frame.index.tolist()
        self._place = {label: place for place, label in enumerate(self.positions)}
        self._cases = _Cases(frame)
        self._numbers = _Numbers(frame)
        self._labels = {name: label_json(frame, name) for name in ("status", "source", "statistic")}
        self._flags = flag_json(frame)
        self._extra = extra_json(frame)
        self._repeats = [None if value != value else int(value) for value in frame["n_repeats"].tolist()]
        self._odd = dict(zip(*self._one_by_one(), strict=True))
        self._bodies, self.ids = self._write()

    @classmethod
    def of(cls, frame: pd.DataFrame) -> ColumnarRows | None:
        """The rows of a table of complete cells; None where single measurements are better. Raises `InputError`."""
        if not cls.fits(frame):
            return None
        with uncollected():
            return cls(frame)

    @staticmethod
    def fits(frame: pd.DataFrame) -> bool:
        """Whether a table is large and ordinary: rows say no provenance or run, a column has values of one type."""
        if len(frame) < MIN_ROWS or _OWN_RUNS & set(map(str, frame)):
            return False
        objects = (set(map(type, frame[name].tolist())) for name in frame if frame[name].dtype == object)
        return all(kinds <= {str, type(None)} or kinds <= {bool, type(None)} for kinds in objects)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def case_ids(self) -> Sequence[str]:
        """The case of each row."""
        return self._cases.ids

    def id_of(self, label: int) -> str:
        """The measurement's id, by its row's label."""
        return self.ids[self._place[label]]

    def measurements(self) -> dict[int, Measurement]:
        """The same rows as single measurements, by the rows' labels."""
        return dict(zip(self.positions, to_measurements(self._frame), strict=True))

    def batches(self, now: Callable[[], str]) -> Iterator[Batch]:
        """The rows for the store's transactions, in the table's order; `now` tells when they are added."""
        serving = self._serving()
        words = {name: self._frame[name].tolist() for name in ("status", "source")}
        for start in range(0, len(self), _BATCH):
            batch, moment = Batch(), now()
            part = slice(start, start + _BATCH)
            if self._odd.keys().isdisjoint(range(len(self))[part]):
                self._cases.add_columns(batch, part)
                batch.fact_columns = self._fact_columns(part, moment, words)
                batch.serving |= {
                    key: {"measurement_id": key, **serving[place]}
                    for place, key in zip(range(len(self))[part], self.ids[part], strict=True)
                    if place in serving
                }
                yield batch
                continue
            for place in range(start, min(start + _BATCH, len(self))):
                if (single := self._odd.get(place)) is not None:
                    batch.add_measurement(single, moment)
                    continue
                key, repeats = self.ids[place], self._repeats[place]
                batch.facts[key] = {
                    "measurement_id": key,
                    "environment_id": None,
                    "status": words["status"][place],
                    "provenance": "imported",
                    "source": column_text(words["source"][place]),
                    "flag": self._flags[1][place],
                    "source_row": float(self.positions[place] + 1),
                    "n_repeats": None if repeats is None else float(repeats),
                    "measured_at": None,
                    "added_at": moment,
                    **{name: values[place] for name, values in self._numbers.metrics.items()},
                    **_COSTS,
                    "has_extra": int(bool(self._extra[0][place])),
                    "body": self._bodies[place],
                    **self._cases.add(batch, place),
                }
                if place in serving:
                    batch.serving[key] = {"measurement_id": key, **serving[place]}
            yield batch

    def _fact_columns(
        self, part: slice, moment: str, words: Mapping[str, list[str | None]]
    ) -> dict[str, Iterable[object]]:
        """Consecutive ordinary rows of the table of measurements, by columns."""
        return {
            "measurement_id": self.ids[part],
            "case_id": self._cases.ids[part],
            "deployment_id": self._cases.deployment_ids[part],
            "environment_id": repeat(None),
            "status": words["status"][part],
            "provenance": repeat("imported"),
            "source": each(words["source"][part], column_text),
            "flag": self._flags[1][part],
            "source_row": [float(label + 1) for label in self.positions[part]],
            "n_repeats": [None if value is None else float(value) for value in self._repeats[part]],
            "measured_at": repeat(None),
            "added_at": repeat(moment),
            **{name: values[part] for name, values in self._numbers.metrics.items()},
            **dict.fromkeys(_COSTS, repeat(None)),
            "has_extra": [int(bool(text)) for text in self._extra[0][part]],
            "body": self._bodies[part],
        }

    def _one_by_one(self) -> tuple[list[int], list[Measurement]]:
        places = np.flatnonzero(self._numbers.odd)
        return places.tolist(), list(to_measurements(self._frame.iloc[places])) if len(places) else []

    def _write(self) -> tuple[Texts, Texts]:
        """The body and the id of every row."""
        bodies, ids = [], []
        cases, numbers = self._cases, self._numbers
        status, source, statistic = (field(name, self._labels[name]) for name in ("status", "source", "statistic"))
        flags, extra, extra_text = field("flags", self._flags[0]), *(field("extra", part) for part in self._extra)
        repeats = ["" if value is None else f',"n_repeats":{value}' for value in self._repeats]
        for place, label in enumerate(self.positions):
            row = f',"row":{label + 1}'
            bodies.append(
                f'{{"case":{cases.bodies[place]}{status[place]}{numbers.bodies[place]},"provenance":"imported"'
                f"{flags[place]}{source[place]}{row}{repeats[place]}{extra[place]}{statistic[place]}}}"
            )
            text = (
                f'{{"case":{cases.texts[place]}{extra_text[place]}{flags[place]}{repeats[place]}'
                f',"provenance":"imported"{row}{numbers.texts[place]}{source[place]}{statistic[place]}{status[place]}}}'
            )
            ids.append(short_hash(text, 32))
        for place, single in self._odd.items():
            ids[place] = single.measurement_id
        return bodies, ids

    def _serving(self) -> dict[int, Row]:
        """The rows of the table `serving`, without their ids, by place."""
        frame, stated = self._frame, self._numbers.stated
        statistic = frame["statistic"].tolist() if "statistic" in frame else [None] * len(frame)
        note = frame["note"].tolist() if "note" in frame else [None] * len(frame)
        served = np.array([value is not None for value in statistic])
        for values in stated.values():
            served |= np.array([value is not None for value in values])
        out: dict[int, Row] = {}
        for place in np.flatnonzero(served).tolist():
            known: dict[str, object] = {name: values[place] for name, values in stated.items()}
            known |= {"statistic": column_text(statistic[place]), "note": column_text(masked_cell("note", note[place]))}
            out[place] = {name: known.get(name) for name in OPTIONAL_COLUMNS}
        return out


class _Cases:
    """The case of each row: its id, its JSON, and its rows in the store."""

    def __init__(self, frame: pd.DataFrame) -> None:
        names = list(map(str, frame))
        deployment, first_d = group_codes(frame, [*DEPLOYMENT_COLUMNS, *_prefixed(names, OPTION_PREFIX)])
        workload, first_w = group_codes(frame, [*WORKLOAD_COLUMNS, *_prefixed(names, WORKLOAD_PREFIX)])
        foreign = [n for n in names if n not in KNOWN_COLUMNS and not n.startswith((OPTION_PREFIX, WORKLOAD_PREFIX))]
        plain = frame.drop(columns=foreign)
        deployments = [m.case.deployment for m in to_measurements(plain.iloc[first_d])]
        workloads = [m.case.workload for m in to_measurements(plain.iloc[first_w])]
        # One case for each pair of the two that occurs; none becomes an object unless a row is odd.
        _, first, code = np.unique(deployment * len(workloads) + workload, return_index=True, return_inverse=True)
        self._code: list[int] = code.ravel().tolist()
        self._of_deployment: list[int] = deployment[first].tolist()
        self._of_workload: list[int] = workload[first].tolist()
        self._deployments, self._workloads = deployments, workloads
        pairs = list(zip(self._of_deployment, self._of_workload, strict=True))
        d_both, w_both = ([both(one.to_dict()) for one in several] for several in (deployments, workloads))
        bodies, texts = (
            [f'{{"deployment":{d_both[d][kind]},"workload":{w_both[w][kind]}}}' for d, w in pairs] for kind in (0, 1)
        )
        self._ids = [short_hash(text, 24) for text in texts]
        self._columns = [workload_columns(one) for one in workloads]
        self._d_ids = [one.deployment_id for one in deployments]
        of = [self._d_ids[d] for d in self._of_deployment]
        self.bodies, self.texts, self.ids, self.deployment_ids = (
            [part[code] for code in self._code] for part in (bodies, texts, self._ids, of)
        )

    def add_columns(self, batch: Batch, part: slice) -> None:
        """Add the cases of consecutive rows to a batch."""
        codes = sorted(dict.fromkeys(self._code[part]), key=self._ids.__getitem__)  # as the index has them
        for d in dict.fromkeys(self._of_deployment[code] for code in codes):
            batch.deployments[self._d_ids[d]] = deployment_row(self._deployments[d])
        work = [self._of_workload[code] for code in codes]
        batch.case_columns = {
            "case_id": [self._ids[code] for code in codes],
            "deployment_id": [self._d_ids[self._of_deployment[code]] for code in codes],
            **{name: _picked([row[name] for row in self._columns], work) for name in self._columns[0]},
        }

    def add(self, batch: Batch, place: int) -> Row:
        """Add a row's case to a batch; returns the ids that refer to it."""
        code = self._code[place]
        case = Case(self._deployments[self._of_deployment[code]], self._workloads[self._of_workload[code]])
        case_id, deployment_id = self._ids[code], case.deployment.deployment_id
        if deployment_id not in batch.deployments:
            batch.deployments[deployment_id] = deployment_row(case.deployment)
        if case_id not in batch.cases:
            batch.cases[case_id] = case_row(case)
        return {"case_id": case_id, "deployment_id": deployment_id}


class _Numbers:
    """The sample of each row: its JSON, its columns, and which rows hold what no ordinary one does."""

    def __init__(self, frame: pd.DataFrame) -> None:
        own = {name: frame[name].to_numpy(dtype=float) for name in METRIC_COLUMNS}
        stated = {name: frame[name].to_numpy(dtype=float) for name in sorted(STATISTIC_COLUMNS) if name in frame}
        self.odd: BoolArray = np.zeros(len(frame), dtype=bool)
        for values in (*own.values(), *stated.values()):
            self.odd |= (values < 0) | (values > MAX_SECONDS)
        self.metrics = {name: _known(values) for name, values in own.items()}
        self.stated = {name: _known(values) for name, values in stated.items()}
        inner = joined([items(name, values, whole_number) for name, values in self.stated.items()], len(frame))
        statistics = [f'"statistics":{{{text}}}' if text else "" for text in inner]
        plain = {name: items(name, values, repr) for name, values in self.metrics.items()}
        bodies = [*plain.values(), statistics]
        named = {
            name: items(name, self.metrics[name], whole_number)
            if (own[name] == np.floor(own[name])).any()
            else plain[name]
            for name in plain
        } | {"statistics": statistics}
        self.bodies, self.texts = (
            [f',"samples":[{{{text}}}]' if text else "" for text in joined(parts, len(frame))]
            for parts in (bodies, [named[name] for name in _SORTED])
        )


def _known(values: FloatArray) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]


def _picked(values: Sequence[object], places: Sequence[int]) -> list[object]:
    return [values[place] for place in places]


def _prefixed(names: Sequence[str], prefix: str) -> list[str]:
    return [name for name in names if name.startswith(prefix)]
