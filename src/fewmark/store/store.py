"""The store: add measurements, forecasts and marks, read them back by filters. Nothing is changed or deleted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

import sqlalchemy as sa

from fewmark.core import Deployment, FrozenMap, InputError, Measurement, Prediction
from fewmark.core.columns import (
    EXPIRED,
    FLAG_SEPARATOR,
    METRIC_COLUMNS,
    SERVING_COLUMNS,
    WITHDRAWN,
)
from fewmark.store import claims, schema
from fewmark.store.annotations import Annotation
from fewmark.store.batches import latest_number, read_measurements, write_batch
from fewmark.store.columns import read_columns
from fewmark.store.database import Database, parse_url
from fewmark.store.marks import add_marks, marked, read_marks
from fewmark.store.migrations import migrate
from fewmark.store.origins import Origin, add_origins, add_origins_of_rows, read_origins
from fewmark.store.outcomes import Outcome, forecast_conditions, read_outcomes
from fewmark.store.queries import (
    KEYS,
    DeploymentFilter,
    batched,
    insert_of,
    measurement_conditions,
    now,
    pages,
    read_environments,
)
from fewmark.store.rows import Batch, read_prediction, reading
from fewmark.store.visits import add_visits, read_visits

BATCH: Final = 2_000  # rows a transaction: long enough to be fast, short enough that other writers get their turn


def open_store(url: str | os.PathLike[str] | None = None, *, create: bool = True) -> Store:
    """Open a store, bringing its schema up to date.

    Parameters
    ----------
    url : str or path, optional
        ``sqlite:///file.db``, ``:memory:``, a plain path, or ``postgresql://user@host/database``. Default: the
        environment variable ``FEWMARK_STORE``, else ``sqlite:///fewmark.db``.
    create : bool, default True
        Whether an SQLite file that does not exist is created or an error.

    Raises
    ------
    StoreError
        If the store cannot be reached, read or written, is no store, or was written by a newer fewmark.

    Examples
    --------
    >>> from fewmark.store import open_store
    >>> with open_store("sqlite:///example.db") as store:
    ...     store.count()
    0
    """
    database = Database(parse_url(url), create=create)
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return Store(database)


class Store:
    """An append-only store. Made by `open_store`; may be shared by threads, and used by many processes at once.

    Equal content is stored once: adding it again, from wherever, changes nothing and counts as nothing. Whatever a
    method that adds has returned from survives kills of any process. Every method raises `StoreError` where the
    database fails.

    The filters that reading takes:

    deployment : str, Deployment or mapping
        A deployment's id, the deployment, or a mapping from deployment columns to a value, None for unknown, or a
        list of values.
    case_ids, statuses, sources : iterable of str
        Any of these. Cases are looked up some hundreds at a time, and each group comes in the order of adding.

    Examples
    --------
    >>> from fewmark.core import Case, Deployment, Measurement, Sample, Workload
    >>> from fewmark.store import open_store
    >>> case = Case(Deployment(engine="vllm", model="llama-3.1-8b"), Workload(128, 128, batch_size=4))
    >>> with open_store("sqlite:///example.db") as store:
    ...     added = store.add([Measurement(case, samples=(Sample(e2e_latency_s=1.5, output_tokens=512),))])
    ...     [measurement.median("e2e_latency_s") for measurement in store.measurements()]
    [1.5]
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = insert_of(database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    @property
    def url(self) -> str:
        """Where the store lives, without the password."""
        return self._database.label

    def close(self) -> None:
        """Close every connection. A store in memory is gone then."""
        self._database.close()

    def add(self, measurements: Iterable[Measurement]) -> int:
        """Store measurements; durable on return, in batches on the way. Returns how many were new.

        Raises
        ------
        InputError
            If a measurement holds a value that JSON does not know; earlier batches stay.
        """
        added = 0
        for items in batched(measurements, BATCH):
            batch, moment = Batch(), now()
            for item in items:
                batch.add_measurement(item, moment)
            with self._database.write(complete=True) as connection:
                added += write_batch(connection, self._insert, batch, schema.measurements)
        return added

    def add_each(self, groups: Iterable[Iterable[Measurement]]) -> list[int]:
        """As `add` for each group, in as few transactions. Returns how many of each were new. Raises `InputError`."""
        added: list[int] = []
        identity = schema.measurements.c.measurement_id

        def numbered() -> Iterator[tuple[int, Measurement]]:
            for number, group in enumerate(groups):
                added.append(0)
                yield from ((number, item) for item in group)

        for items in batched(numbered(), BATCH):
            batch, moment = Batch(), now()
            for _, item in items:
                batch.add_measurement(item, moment)
            with self._database.write() as connection:
                held: set[str] = set()
                for keys in batched(batch.facts, KEYS):
                    held.update(connection.execute(sa.select(identity).where(identity.in_(keys))).scalars())
                write_batch(connection, self._insert, batch, schema.measurements)
            for number, item in items:
                added[number] += item.measurement_id not in held
                held.add(item.measurement_id)
        return added

    def add_batches(self, batches: Iterable[Batch]) -> int:
        """Store rows that were made elsewhere, one transaction a batch. Returns how many measurements were new."""
        added = 0
        for batch in batches:
            with self._database.write(complete=True) as connection:
                added += write_batch(connection, self._insert, batch, schema.measurements)
        return added

    def measurements(
        self,
        deployment: DeploymentFilter | None = None,
        case_ids: Iterable[str] | None = None,
        statuses: Iterable[str] | None = None,
        sources: Iterable[str] | None = None,
        *,
        withdrawn: bool = True,
    ) -> Iterator[Measurement]:
        """Stream the measurements that pass the filters, in the order they were added. Raises `InputError`.

        `withdrawn` says whether those that no longer hold (expired, retracted or replaced) are among them.
        """
        table = schema.measurements
        columns = (table.c.number, table.c.body, table.c.case_id, table.c.deployment_id, table.c.environment_id)
        query = sa.select(*columns).where(*measurement_conditions(deployment, statuses, sources))
        if not withdrawn:
            query = query.where(*(table.c.measurement_id.not_in(marked(rule)) for rule in WITHDRAWN))
        return read_measurements(self._database, query, case_ids)

    def count(
        self,
        deployment: DeploymentFilter | None = None,
        statuses: Iterable[str] | None = None,
        sources: Iterable[str] | None = None,
    ) -> int:
        """How many measurements pass the filters. Raises `InputError`."""
        conditions = measurement_conditions(deployment, statuses, sources)
        query = sa.select(sa.func.count()).select_from(schema.measurements).where(*conditions)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def table(
        self,
        deployment: DeploymentFilter | None = None,
        case_ids: Iterable[str] | None = None,
        statuses: Iterable[str] | None = None,
        sources: Iterable[str] | None = None,
    ) -> dict[str, list[Any]]:
        """The canonical table by columns, ready for ``pandas.DataFrame``: one row a measurement, medians.

        Much faster than going through `measurements`. Beside the canonical columns: `measurement_id`, `case_id`,
        `deployment_id`, `provenance`, what it cost (`wall_s`, `accelerator_s`, `energy_j`, `startup_s`), every
        ``option.NAME`` and ``workload.NAME``, and the extra columns that measurements carry. Unknown numbers are
        NaN, other unknown values None. What has expired has a `flag` that says so. Raises `InputError`.
        """
        conditions = measurement_conditions(deployment, statuses, sources)
        columns = read_columns(self._database, conditions, case_ids)
        if withdrawn := self.withdrawn():
            marked = zip(columns["measurement_id"], columns["flag"], strict=True)
            columns["flag"] = [
                FLAG_SEPARATOR.join(filter(None, [flag, withdrawn.get(key)])) or None for key, flag in marked
            ]
        return columns

    def case_ids(
        self,
        statuses: Iterable[str] | None = None,
        deployment: DeploymentFilter | None = None,
        provenances: Iterable[str] | None = None,
    ) -> set[str]:
        """The cases that have a measurement (with one of the statuses, of the deployment) that has not expired.

        Raises `InputError`.
        """
        conditions = measurement_conditions(deployment, statuses, None)
        conditions += [schema.measurements.c.measurement_id.not_in(marked(rule)) for rule in WITHDRAWN]
        if provenances is not None:
            conditions.append(schema.measurements.c.provenance.in_(list(provenances)))
        query = sa.select(schema.measurements.c.case_id).where(*conditions).distinct()
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())

    def add_visits(self, visits: Iterable[Measurement]) -> None:
        """Keep parts of measurements that are not finished, durably; nothing but `visits` sees them."""
        add_visits(self._database, self._insert, visits)

    def visits(self, case_ids: Iterable[str] | None = None) -> Iterator[Measurement]:
        """Stream these parts, in the order they were added."""
        return read_visits(self._database, case_ids)

    def add_origins(self, origins: Iterable[Origin]) -> None:
        """Keep where imported measurements came from, durably."""
        add_origins(self._database, self._insert, origins)

    def add_origins_of_rows(self, of_file: Origin, ids: Sequence[str], places: Sequence[str]) -> None:
        """Keep the origins of a table's rows, without records, durably; `of_file` is what they share."""
        add_origins_of_rows(self._database, self._insert, of_file, ids, places)

    def origins(self, measurement_ids: Iterable[str]) -> dict[str, list[Origin]]:
        """Where these measurements came from, by measurement, the oldest first; without those that were run here."""
        return read_origins(self._database, measurement_ids)

    def deployments(self) -> list[Deployment]:
        """Every deployment that a measurement or a prediction is about, by engine, model and accelerator."""
        table = schema.deployments
        order = (table.c.engine, table.c.model, table.c.accelerator, table.c.deployment_id)
        with self._database.read() as connection:
            bodies = connection.execute(sa.select(table.c.body).order_by(*order)).scalars().all()
        with reading("deployments"):
            return [Deployment.from_dict(json.loads(body)) for body in bodies]

    def environments(self) -> list[FrozenMap]:
        """Every environment that something was measured in."""
        with self._database.read() as connection:
            ids = connection.execute(sa.select(schema.environments.c.environment_id)).scalars().all()
        return list(read_environments(self._database, ids).values())

    def add_predictions(self, predictions: Iterable[Prediction]) -> int:
        """Store forecasts as they are now, to be scored when their cases are measured. Returns how many were new.

        Raises
        ------
        InputError
            If a number is not finite; earlier batches stay.
        """
        added = 0
        for items in batched(predictions, BATCH):
            batch, moment = Batch(), now()
            for item in items:
                batch.add_prediction(item, moment)
            with self._database.write() as connection:
                known_number = connection.execute(latest_number(schema.measurements)).scalar_one()
                for row in batch.facts.values():
                    row["known_number"] = known_number
                added += write_batch(connection, self._insert, batch, schema.predictions)
        return added

    def predictions(
        self,
        case_ids: Iterable[str] | None = None,
        metric: str | None = None,
        model: str | None = None,
    ) -> Iterator[Prediction]:
        """Stream the forecasts, in the order they were added."""
        table = schema.predictions
        query = sa.select(table.c.number, table.c.body).where(*forecast_conditions(metric, model))
        for page in pages(self._database, query, table.c.number, key=table.c.case_id, keys=case_ids):
            for _, body in page:
                yield read_prediction(body)

    def outcomes(self, metric: str, model: str | None = None) -> Iterator[Outcome]:
        """Stream each forecast of the metric with each good measurement of its case that was added after it.

        What was only projected is no truth to hold a forecast against.

        Raises
        ------
        InputError
            If the metric is none that the canonical table has.
        """
        known = (*METRIC_COLUMNS, *SERVING_COLUMNS)
        if metric not in known:
            raise InputError("outcomes need a metric of the table", got=metric, hint=", ".join(known))
        return read_outcomes(self._database, metric, model)

    def annotate(self, annotations: Iterable[Annotation]) -> int:
        """Append marks; one that says what already holds is left out. Returns how many were new.

        Raises
        ------
        InputError
            If a mark is on a measurement that is not here; earlier batches stay.
        """
        return add_marks(self._database, annotations)

    def annotations(self, measurement_ids: Iterable[str] | None = None, *, history: bool = False) -> list[Annotation]:
        """The marks that hold, in the order they were made; with `history`, those taken back or replaced as well."""
        found: list[Annotation] = []
        chunks = [None] if measurement_ids is None else batched(dict.fromkeys(measurement_ids), KEYS)
        for keys in chunks:
            with self._database.read() as connection:
                found += read_marks(connection, keys, history=history)
        return found if history else [item for item in found if item.action != "clear"]

    def expired(self) -> set[str]:
        """The ids of the measurements that are marked as expired: the system has changed since."""
        with self._database.read() as connection:
            return set(connection.execute(marked(EXPIRED)).scalars())

    def withdrawn(self) -> dict[str, str]:
        """The flag of each measurement, by id, that no longer holds: those of `WITHDRAWN` that are marked."""
        with self._database.read() as connection:
            flags: dict[str, str] = {}
            for rule in WITHDRAWN:
                for key in connection.execute(marked(rule)).scalars():
                    flags[key] = FLAG_SEPARATOR.join(filter(None, [flags.get(key), rule]))
        return flags

    def ids_of(self, prefix: str) -> list[str]:
        """The measurements whose own id, or whose case's, begins so, in the order they were added."""
        table = schema.measurements
        begins = [column.startswith(prefix, autoescape=True) for column in (table.c.measurement_id, table.c.case_id)]
        with self._database.read() as connection:
            query = sa.select(table.c.measurement_id).where(sa.or_(*begins)).order_by(table.c.number)
            return list(connection.execute(query).scalars())

    def latest(self) -> int:
        """The running number of the last measurement; later ones have a higher one."""
        with self._database.read() as connection:
            return int(connection.execute(latest_number(schema.measurements)).scalar_one())

    def claim(self, case_ids: Iterable[str], owner: str, since: int) -> set[str]:
        """Claim cases for a run; without those that another run measures, or has since number `since`. See `claims`."""
        return claims.claim(self._database, case_ids, owner, since)

    def renew(self, owner: str) -> None:
        """Extend the claims of a run, which else expire after `claims.LEASE_S`."""
        claims.renew(self._database, owner)

    def release(self, owner: str) -> None:
        """Give the claims of a run up."""
        claims.release(self._database, owner)

    def claimed(self, case_ids: Iterable[str], owner: str) -> set[str]:
        """Which of the cases other runs measure just now."""
        return claims.claimed(self._database, case_ids, owner)

    def measured_since(self, case_ids: Iterable[str], since: int) -> set[str]:
        """Which of the cases have a measurement that came after number `since`."""
        return claims.measured_since(self._database, case_ids, since)
