"""What of a damaged store can still be read: where the damage is, and everything else into a new store.

The damaged store is opened for reading only. Rows are read in ranges of their running number; a range that cannot be
read is halved until the damage is down to single rows.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from fewmark.core import FrozenMap, InputError, Measurement, Prediction, StoreError
from fewmark.core.errors import MALFORMED
from fewmark.store import schema
from fewmark.store.annotations import Annotation
from fewmark.store.database import parse_url
from fewmark.store.rows import Reader, read_annotation, read_prediction
from fewmark.store.store import BATCH, Store

Salvaged = Measurement | Prediction | Annotation
RANGE: Final = 1_000  # rows asked for at once
MIN_ROW_BYTES: Final = 64
MAX_FAULTS: Final = 100
NUMBERED: Final = (schema.measurements, schema.predictions, schema.annotations, schema.visits)
_UNREADABLE: Final = (sa.exc.SQLAlchemyError, UnicodeDecodeError, StoreError, InputError, *MALFORMED)


@dataclass(frozen=True)
class Salvage:
    """What a reading of every row found, and how many rows of each table could be read.

    `faults` are for people, at most some; `n_faults` counts all of them.
    """

    n_read: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    n_faults: int = 0


class _Source:
    """A store that may be damaged, open for reading."""

    def __init__(self, url: str | os.PathLike[str] | None) -> None:
        parsed = parse_url(url)
        self._most = sys.maxsize
        self.label = parsed.render_as_string(hide_password=True)
        if parsed.get_backend_name() == "sqlite":
            path = Path(str(parsed.database))
            if not path.is_file():
                raise StoreError("there is no store", got=path, hint="check the path")
            place = f"file:{str(path.absolute()).replace('%', '%25').replace('?', '%3f').replace('#', '%23')}?mode=ro"
            parsed = sa.URL.create("sqlite", database=place, query={"uri": "true"})
            self._most = path.stat().st_size // MIN_ROW_BYTES
        self.engine = sa.create_engine(parsed)
        self.faults: list[str] = []
        self.n_faults = 0

    def fault(self, text: str) -> None:
        self.n_faults += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(" ".join(text.split())[:300])

    def scalar(self, statement: str) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(sa.text(statement)).scalar_one())

    def look_over(self) -> None:
        """What the database itself says; what it misses of ours."""
        tables = self._tables()
        if self.engine.dialect.name == "sqlite":
            with self.engine.connect() as connection:
                try:
                    said = connection.exec_driver_sql(f"PRAGMA integrity_check({MAX_FAULTS})").scalars().all()
                except _UNREADABLE as error:
                    said = [_reason(error)]
            for line in said:
                if line != "ok":
                    self.fault(f"SQLite: {line}")
        expected = {table.name for table in schema.measurements.metadata.sorted_tables} | {"fewmark_migrations"}
        for name in sorted(expected - tables):
            # One that a later version added is made when the store is opened; the others are lost.
            if name in ("environments", "deployments", "cases", "measurements", "fewmark_migrations"):
                self.fault(f"the table {name} is missing")
        if "fewmark_migrations" in tables and not self._count("fewmark_migrations"):
            self.fault("the table fewmark_migrations was emptied")

    def rows(self, table: sa.Table) -> Iterator[sa.Row[*tuple[Any, ...]]]:
        """The rows that can be read, by their number."""
        if table.name not in self._tables():
            return
        first, last = 1, self._last(table)
        while first <= last:
            yield from self._range(table, first, min(first + RANGE - 1, last))
            first += RANGE

    def environment(self, key: str | None) -> FrozenMap | None:
        if key is None:
            return None
        try:
            with self.engine.connect() as connection:
                table = schema.environments
                body = connection.execute(sa.select(table.c.body).where(table.c.environment_id == key)).scalar()
            return FrozenMap(json.loads(body or ""))
        except _UNREADABLE as error:
            self.fault(f"environments {key}: {_reason(error)}")
            return None

    def _range(self, table: sa.Table, first: int, last: int) -> Iterator[sa.Row[*tuple[Any, ...]]]:
        known = [column for column in table.c if column.name in ("number", "body", *_KEYS.get(table.name, ()))]
        query = sa.select(*known).where(table.c.number.between(first, last)).order_by(table.c.number)
        try:
            with self.engine.connect() as connection:
                rows = connection.execute(query).all()
        except _UNREADABLE as error:
            if first == last:
                self.fault(f"{table.name} {first}: {_reason(error)}")
                return
            middle = (first + last) // 2
            yield from self._range(table, first, middle)
            yield from self._range(table, middle + 1, last)
            return
        yield from rows

    def _last(self, table: sa.Table) -> int:
        # What a damaged page tells of the last number may be anything; numbers are given out one after the other.
        try:
            return min(self.scalar(f"SELECT COALESCE(MAX(number), 0) FROM {table.name}"), self._most)
        except _UNREADABLE as error:
            self.fault(f"{table.name}: {_reason(error)}")
            return min(100 * RANGE, self._most)

    def _count(self, name: str) -> int:
        try:
            return self.scalar(f"SELECT COUNT(*) FROM {name}")
        except _UNREADABLE as error:
            self.fault(f"{name}: {_reason(error)}")
            return 1

    def _tables(self) -> set[str]:
        try:
            return set(sa.inspect(self.engine).get_table_names())
        except _UNREADABLE as error:
            raise StoreError(
                "nothing of the store can be read",
                got=f"{self.label}: {_reason(error)}",
                hint="`sqlite3 FILE .recover` may find more than this can",
            ) from None


_KEYS: Final = {
    "measurements": ("case_id", "deployment_id", "environment_id"),
    "annotations": ("measurement_id", "action"),
}


def check_store(url: str | os.PathLike[str] | None = None) -> Salvage:
    """Read every row of a store, changing nothing, and tell what is damaged.

    Raises
    ------
    StoreError
        If nothing of it can be read.
    """
    return _read_all(url, None)


def salvage_store(url: str | os.PathLike[str] | None, into: Store) -> Salvage:
    """Add everything that can still be read of a store to another one; it can be done again.

    Raises
    ------
    StoreError
        If nothing of it can be read, or `into` cannot be written.
    """
    return _read_all(url, into)


def _read_all(url: str | os.PathLike[str] | None, into: Store | None) -> Salvage:
    source, reader = _Source(url), Reader()
    n_read: dict[str, int] = {}
    try:
        source.look_over()
        for table in NUMBERED:
            held: list[Salvaged] = []
            for row in source.rows(table):
                try:
                    held.append(_value(source, reader, table.name, row))
                except _UNREADABLE as error:
                    source.fault(f"{table.name} {row.number}: {_reason(error)}")
                    continue
                n_read[table.name] = n_read.get(table.name, 0) + 1
                if into is not None and len(held) >= BATCH:
                    _add(into, table.name, held, source)
                    held.clear()
                elif into is None:
                    held.clear()
            if into is not None and held:
                _add(into, table.name, held, source)
    finally:
        source.engine.dispose()
    return Salvage(n_read, source.faults, source.n_faults)


def _value(source: _Source, reader: Reader, name: str, row: sa.Row[*tuple[Any, ...]]) -> Salvaged:
    if name == "measurements":
        environment = source.environment(row.environment_id)
        return reader.measurement(row.body, str(row.case_id), str(row.deployment_id), environment)
    if name == "predictions":
        return read_prediction(row.body)
    if name == "annotations":
        return read_annotation(row.measurement_id, row.action, row.body)
    return Measurement.from_dict(json.loads(row.body))


def _add(into: Store, name: str, values: list[Salvaged], source: _Source) -> None:
    measurements = [value for value in values if isinstance(value, Measurement)]
    if name == "visits":
        into.add_visits(measurements)
    else:
        into.add(measurements)
    into.add_predictions(value for value in values if isinstance(value, Prediction))
    for mark in values:
        if isinstance(mark, Annotation):
            try:
                into.annotate([mark])
            except InputError:  # on a measurement that could not be read
                source.fault(f"annotations: a mark on {mark.measurement_id}, which is lost")


def _reason(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error)
