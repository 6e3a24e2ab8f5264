"""What a server knows: the measurements as they are now, and the models fitted on them, kept for as long as they hold.

A snapshot is what is known at one moment; nothing in it changes. When the store has grown, the next question makes a
new one. A model answers one question at a time (it remembers its last one); fits take seconds to minutes, in threads
that no page waits for.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd

from fewmark.core import Measurement
from fewmark.core.errors import FewmarkError, InputError, ModelError
from fewmark.core.metrics import ALL_TARGETS
from fewmark.models.base import Model
from fewmark.models.cache import FittedModels, cache_folder, model_key
from fewmark.models.gp.threads import single_threaded
from fewmark.screening import Finding
from fewmark.store import Store, open_store
from fewmark.tables.arrays import FloatArray
from fewmark.tables.repeats import contested, measured_cells
from fewmark.tables.spellings import one_spelling
from fewmark.verbs.learning import fitted_model
from fewmark.verbs.predict import answer_cases, notes_of
from fewmark.verbs.source import AS_READ, Tabular, prepared, read_unscreened
from fewmark.web.deployments import Deployments
from fewmark.web.settings import Settings

T = TypeVar("T")
LOOK_AGAIN_S: Final = 1.0  # how long a snapshot is believed before the store is asked whether it has grown
MOST_ANSWERS: Final = 4_000  # answers remembered
MOST_MODELS: Final = 24
N_WORKERS: Final = 2
PROMPTLY_S: Final = 1.5  # how long a page waits for an answer before it says that it is being worked out


class _Unknown:
    """What was never made, since None may have been."""


UNKNOWN: Final = _Unknown()


class KeptModels(FittedModels):
    """Fitted models kept in memory for as long as the server runs."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__(folder)
        self._kept: OrderedDict[str, Model] = OrderedDict()

    def fit(self, model: Model, X: pd.DataFrame, y: FloatArray) -> Model:
        """The model fitted on these cells; see `FittedModels.fit`."""
        key = model_key(model, X, y)
        if key not in self._kept:
            self._kept[key] = super().fit(model, X, y)
            while len(self._kept) > MOST_MODELS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


@dataclass(frozen=True)
class Predicted:
    """Predictions of cases, and what was learned to make them."""

    table: pd.DataFrame
    model: str
    n_known: int
    n_public: int
    may_not_fit: list[str]
    notes: list[str]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted model, the cells that it learned from, and a lock: a model answers one question at a time."""

    model: Model
    known: pd.DataFrame
    asking: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What is known at one moment.

    Attributes
    ----------
    table : every row, as it was read
    sound : the rows that the screen let pass, corrected
    latest : the running number of the store's last measurement; 0 for a file
    """

    table: pd.DataFrame
    findings: Sequence[Finding]
    sound: pd.DataFrame
    latest: int
    fits: dict[str, Fitted | FewmarkError] = field(default_factory=dict)
    answers: OrderedDict[Hashable, Any] = field(default_factory=OrderedDict)
    jobs: dict[Hashable, Future[Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _fitting: dict[str, threading.Lock] = field(default_factory=dict)
    _making: dict[Hashable, threading.RLock] = field(default_factory=dict)

    @cached_property
    def deployments(self) -> Deployments:
        """The deployments that were measured."""
        return Deployments.of(one_spelling(self.table))

    @cached_property
    def targets(self) -> list[str]:
        """The metrics that something is known of, those with most values first."""
        counts = {name: len(measured_cells(self.sound, name)) for name in ALL_TARGETS}
        return [name for name in ALL_TARGETS if counts[name]]

    def cells(self, target: str) -> pd.DataFrame:
        """The measured cells of a metric, one row each."""
        return self.remember(("cells", target), lambda: measured_cells(self.sound, target))

    def lock_of(self, target: str) -> threading.Lock:
        """Held while the model of a metric is fitted."""
        with self.lock:
            return self._fitting.setdefault(target, threading.Lock())

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made under this key before, or is made now: once, however many ask at the same time."""
        found: T | _Unknown = self.answers.get(key, UNKNOWN)  # at once: another thread may drop it
        if not isinstance(found, _Unknown):
            return found
        with self.lock:
            making = self._making.setdefault(key, threading.RLock())
        with making:
            found = self.answers.get(key, UNKNOWN)
            if not isinstance(found, _Unknown):
                return found
            made = make()
            with self.lock:
                self.answers[key] = made
                self._making.pop(key, None)
                while len(self.answers) > MOST_ANSWERS:
                    self.answers.popitem(last=False)
            return made


class Knowledge:
    """Everything that the server's pages and its API ask. May be shared by threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._decision_models = KeptModels(cache_folder())
        self._deciding = threading.Lock()
        self._workers = ThreadPoolExecutor(N_WORKERS, thread_name_prefix="fewmark-work")
        self._snapshot: Snapshot | None = None
        self._looked_at = 0.0
        self._reading = threading.Lock()
        self._store: Store | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the measurements have been read."""
        return self._snapshot is not None

    def store(self) -> Store:
        """The store, opened once. Raises `InputError` where a file is served."""
        if self.settings.store is None:
            raise InputError("this server shows a file, and takes nothing in", hint="fewmark serve STORE")
        if self._store is None:
            self._store = open_store(self.settings.store)
        return self._store

    def close(self) -> None:
        """Close the store; what is being worked out is given up."""
        self._workers.shutdown(wait=False, cancel_futures=True)
        if self._store is not None:
            self._store.close()
            self._store = None

    def now(self) -> Snapshot:
        """What is known now. Raises `StoreError`, `InputError`, `FormatError` if it cannot be read."""
        with self._reading:
            if self._snapshot is None or self._has_grown():
                self._snapshot = self._read()
            return self._snapshot

    def current(self) -> Snapshot | None:
        """What is known, if that was looked at a moment ago; never waits."""
        if self._reading.locked() or time.monotonic() - self._looked_at >= LOOK_AGAIN_S:
            return None if self.settings.data is None else self._snapshot
        return self._snapshot

    def forget(self) -> None:
        """Read everything anew at the next question."""
        with self._reading:
            self._snapshot = None

    def _has_grown(self) -> bool:
        assert self._snapshot is not None
        if self.settings.store is None or time.monotonic() - self._looked_at < LOOK_AGAIN_S:
            return False
        self._looked_at = time.monotonic()
        return self.store().latest() != self._snapshot.latest

    def _read(self) -> Snapshot:
        settings, latest = self.settings, 0
        self._looked_at = time.monotonic()
        if settings.data is not None:
            table = read_unscreened(settings.data)
        else:
            opened = self.store()
            latest = opened.latest()
            table = pd.DataFrame(opened.table())
        if table.empty:
            return Snapshot(table, (), table, latest)
        sound, findings = prepared(table)
        sound.attrs[AS_READ] = True
        return Snapshot(table, tuple(findings), sound, latest)

    def fitted(self, target: str, snapshot: Snapshot | None = None) -> Fitted:
        """The model of a metric and what it learned from; fitted once, however many ask at the same time.

        Raises
        ------
        InputError, ModelError
            If the metric is unknown, nothing is known of it, or the model cannot learn from what is known.
        """
        snapshot = snapshot or self.now()
        with snapshot.lock_of(target):
            found = snapshot.fits.get(target)
            if found is None:
                try:
                    found = self._fit(target, snapshot)
                except (InputError, ModelError) as error:
                    found = error  # as often as it is asked: nothing but new data would change it
                snapshot.fits[target] = found
        if isinstance(found, FewmarkError):
            raise found
        return found

    @single_threaded
    def _fit(self, target: str, snapshot: Snapshot) -> Fitted:
        if snapshot.sound.empty:
            raise InputError("nothing is measured yet", hint="drop result files on the page Data, or fewmark import")
        models, settings = FittedModels(cache_folder()), self.settings
        fitted, known, _ = fitted_model(snapshot.sound, settings.model, target, models, prior=settings.prior)
        models.keep()
        return Fitted(fitted, known)

    @single_threaded
    def predict(self, cases: Tabular, target: str, confidence_level: float = 0.9) -> Predicted:
        """What `fewmark predict` says of these cases, to the digit. Raises `InputError`, `ModelError`."""
        snapshot = self.now()
        found = self.fitted(target, snapshot)
        apart = snapshot.remember(("contested", target), lambda: contested(snapshot.sound, target))
        with found.asking:
            table, columns, can_run = answer_cases(
                found.model, cases, found.known, snapshot.sound, confidence_level, apart
            )
        doubts = [why for why, silent in zip(can_run.reason, can_run.infeasible, strict=True) if why and not silent]
        notes = notes_of(snapshot.sound, table, found.model)
        return Predicted(table[columns], found.model.name, len(found.known), found.model.n_public_cells_, doubts, notes)

    def decide(self, question: Callable[[FittedModels], T]) -> T:
        """A question that fits models of its own, which are kept for the next one; one at a time."""
        with self._deciding:
            answer = question(self._decision_models)
            self._decision_models.keep()
            return answer

    def promptly(self, snapshot: Snapshot, key: Hashable, make: Callable[[], T]) -> T | None:
        """What `make` gives, if that takes no longer than a page may; else None, while it goes on in a thread."""
        if key in snapshot.answers:
            found: T = snapshot.remember(key, make)
            return found
        with snapshot.lock:
            job = snapshot.jobs.get(key)
            if job is None:
                job = snapshot.jobs[key] = self._workers.submit(make)
        if not wait([job], timeout=PROMPTLY_S).done:
            return None
        with snapshot.lock:
            snapshot.jobs.pop(key, None)
        made: T = job.result()
        return snapshot.remember(key, lambda: made)

    def append(self, measurements: Sequence[Measurement]) -> int:
        """Add measurements to the store, durably; returns how many were new."""
        added = self.store().add(measurements)
        self.forget()
        return added


def plain(value: Any) -> Any:
    """A value of a table as JSON: unknown and not finite are None, whole numbers whole."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return number if np.isfinite(number) else None
    return value if isinstance(value, (str, list, dict)) else str(value)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as JSON."""
    columns = {str(name): _plain_column(table.iloc[:, at]) for at, name in enumerate(table)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain_column(column: pd.Series) -> list[object]:
    if column.dtype == np.float64:
        known = np.isfinite(column.to_numpy()).tolist()
        return [value if is_known else None for value, is_known in zip(column.tolist(), known, strict=True)]
    values = column.tolist()
    return values if set(map(type, values)) <= {str, type(None)} else [plain(value) for value in values]
