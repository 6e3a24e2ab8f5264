"""Filters as SQL conditions, and reading page by page."""

from __future__ import annotations

import itertools
import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, TypeVarTuple

import sqlalchemy as sa

from fewmark.core import Deployment, FrozenMap, InputError, StoreError
from fewmark.core.columns import DEPLOYMENT_COLUMNS
from fewmark.core.json_types import JsonObject
from fewmark.core.text import brief
from fewmark.store.database import DAMAGED_HINT, Database
from fewmark.store.rows import column_text, deployment_column, reading
from fewmark.store.schema import deployments, environments, measurements

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

PAGE: Final = 1_000  # rows read at once
MANY: Final = 200  # rows, from which on they go to SQLite's driver directly
KEYS: Final = 500  # keys in one query; databases limit them

DeploymentFilter = str | Deployment | JsonObject
Condition = sa.ColumnElement[bool]
Insert: TypeAlias = "Callable[[sa.Table], sqlite.Insert | postgresql.Insert]"
"""The dialect's own statement, which can leave out what is there already."""
_Item = TypeVar("_Item")
_Columns = TypeVarTuple("_Columns")


def measurement_conditions(
    deployment: DeploymentFilter | None, statuses: Iterable[str] | None, sources: Iterable[str] | None
) -> list[Condition]:
    """The conditions on the table of measurements.

    Raises
    ------
    InputError
        If the deployment filter is of the wrong kind or names an unknown column.
    """
    conditions: list[Condition] = []
    if isinstance(deployment, Deployment):
        conditions.append(measurements.c.deployment_id == deployment.deployment_id)
    elif isinstance(deployment, str):
        conditions.append(measurements.c.deployment_id == deployment)
    elif isinstance(deployment, Mapping):
        ids = sa.select(deployments.c.deployment_id).where(*_deployment_conditions(deployment))
        conditions.append(measurements.c.deployment_id.in_(ids))
    elif deployment is not None:
        raise InputError("a deployment filter is an id, a Deployment or a mapping of columns", got=deployment)
    for column, wanted in ((measurements.c.status, statuses), (measurements.c.source, sources)):
        if isinstance(wanted, str):
            raise InputError(f"the filter on {column.name} is a list of values", got=wanted, hint=f"[{wanted!r}]")
        if wanted is not None:
            conditions.append(column.in_([column_text(value) for value in wanted]))
    return conditions


def pages(
    database: Database,
    query: sa.Select[*_Columns],
    number: sa.ColumnElement[int],
    *,
    key: sa.ColumnElement[str] | None = None,
    keys: Iterable[str] | None = None,
    size: int = PAGE,
) -> Iterator[list[sa.Row[*_Columns]]]:
    """The query's rows page by page, by the running number that is its first column; `keys`, if any, restrict `key`.

    No transaction stays open between pages: a slow reader holds nobody up.
    """
    if isinstance(keys, str):
        raise InputError("keys are a list", got=keys, hint=f"[{keys!r}]")
    chunks = [None] if key is None or keys is None else batched(dict.fromkeys(keys), KEYS)
    for chunk in chunks:
        part = query if chunk is None or key is None else query.where(key.in_(chunk))
        last = 0
        while True:
            with database.read() as connection:
                rows = list(connection.execute(part.where(number > last).order_by(number).limit(size)))
            if rows:
                yield rows
                last = rows[-1]._mapping[number]
            if len(rows) < size:
                break


def read_environments(database: Database, ids: Iterable[str]) -> dict[str, FrozenMap]:
    """The environments by id. Raises `StoreError` where one is damaged or missing."""
    found: dict[str, FrozenMap] = {}
    for chunk in batched(ids, KEYS):
        query = sa.select(environments).where(environments.c.environment_id.in_(chunk))
        with database.read() as connection, reading("environments"):
            found |= {key: FrozenMap(json.loads(body)) for key, body in connection.execute(query)}
        if lost := set(chunk) - found.keys():
            raise StoreError(
                "a row of the table environments is missing", got=brief(min(map(str, lost))), hint=DAMAGED_HINT
            )
    return found


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """The items in lists of at most `size`."""
    rest = iter(items)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def insert_of(database: Database) -> Insert:
    """The insert statement of the database's dialect; the other one's modules are not loaded."""
    if database.is_sqlite:
        from sqlalchemy.dialects.sqlite import insert

        return insert
    from sqlalchemy.dialects.postgresql import insert as insert_there

    return insert_there


def insert_new(
    connection: sa.Connection, insert: Insert, table: sa.Table, rows: Sequence[Mapping[str, object]]
) -> None:
    """Insert rows that have the same columns, except those that are there already; `insert` is the dialect's own."""
    if connection.dialect.name != "sqlite" or len(rows) < MANY:
        connection.execute(insert(table).on_conflict_do_nothing().inline(), rows)
        return
    names = [column.name for column in table.columns if column.name in rows[0]]
    insert_tuples(connection, insert, table, names, list(map(operator.itemgetter(*names), rows)))


def insert_tuples(
    connection: sa.Connection, insert: Insert, table: sa.Table, names: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> None:
    """As `insert_new` for rows whose values are those of the columns `names`, in the table's own order of them."""
    statement = insert(table).on_conflict_do_nothing().inline()
    if connection.dialect.name != "sqlite":
        connection.execute(statement, [dict(zip(names, row, strict=True)) for row in rows])
        return
    # Of many rows most of the time would go into what happens to their parameters on the way to the driver.
    text = str(statement.compile(dialect=connection.dialect, column_keys=list(names)))
    connection.exec_driver_sql(text, rows)


def insert_columns(
    connection: sa.Connection, insert: Insert, table: sa.Table, columns: Mapping[str, Iterable[object]]
) -> None:
    """As `insert_new` for rows given by columns; one of equal values may repeat without an end.

    For SQLite such a column stands in the statement: to hand a value over takes longer than to write it.
    """
    names = [column.name for column in table.columns if column.name in columns]
    alike = {} if connection.dialect.name != "sqlite" else {name: _alike(columns[name]) for name in names}
    fixed = {name: text for name, text in alike.items() if text is not None}
    varied = [name for name in names if name not in fixed]
    if not fixed or all(isinstance(columns[name], itertools.repeat) for name in varied):  # none says how many rows
        insert_tuples(connection, insert, table, names, list(zip(*(columns[name] for name in names), strict=False)))
        return
    rows = list(zip(*(columns[name] for name in varied), strict=False))
    cells = {**dict.fromkeys(varied, "?"), **fixed}
    quote = connection.dialect.identifier_preparer.quote
    connection.exec_driver_sql(
        f"INSERT INTO {quote(table.name)} ({', '.join(map(quote, cells))}) VALUES ({', '.join(cells.values())})"
        " ON CONFLICT DO NOTHING",
        rows,
    )


def _alike(column: Iterable[object]) -> str | None:
    """The one value that a column repeats, or has in every row, as SQL has it; None for any other column."""
    if isinstance(column, itertools.repeat) and not operator.length_hint(column):  # one without an end
        value = next(column)
    elif isinstance(column, list) and column and column.count(column[0]) == len(column):
        value = column[0]
    else:
        return None
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) and _PLAIN.fullmatch(value) else None


_PLAIN: Final = re.compile(r"[A-Za-z0-9 _.:+-]{1,60}")  # a word or a time: nothing to be quoted within


def now() -> str:
    """This moment, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat()


def _deployment_conditions(wanted: JsonObject) -> Iterator[Condition]:
    for name, value in wanted.items():
        if name not in DEPLOYMENT_COLUMNS:
            raise InputError(
                "a deployment filter takes the columns of a deployment", got=name, hint=", ".join(DEPLOYMENT_COLUMNS)
            )
        choices = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
        try:
            known = [deployment_column(name, choice) for choice in choices if choice is not None]
        except (TypeError, ValueError):
            raise InputError(f"the filter on {name} must be a number", got=value) from None
        column = deployments.c[name]
        yield sa.or_(column.in_(known), column.is_(None)) if None in choices else column.in_(known)
