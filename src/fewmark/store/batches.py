"""Measurements and forecasts as rows of the database: written a batch a transaction, read page by page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import sqlalchemy as sa

from fewmark.core import FrozenMap, Measurement
from fewmark.store import schema
from fewmark.store.database import Database
from fewmark.store.queries import Insert, insert_columns, insert_new, pages, read_environments
from fewmark.store.rows import Batch, Reader


def write_batch(connection: sa.Connection, insert: Insert, batch: Batch, facts: sa.Table) -> int:
    """Insert what is new of a batch, its facts into that table. Returns how many facts were new."""
    before = connection.execute(latest_number(facts)).scalar_one()
    for table, rows in (
        (schema.environments, batch.environments),
        (schema.deployments, batch.deployments),
        (schema.cases, batch.cases),
        (facts, batch.facts),
    ):
        if rows:
            insert_new(connection, insert, table, list(rows.values()))
    for table, columns in ((schema.cases, batch.case_columns), (facts, batch.fact_columns)):
        if columns:
            insert_columns(connection, insert, table, columns)
    if batch.serving:
        insert_new(connection, insert, schema.serving, list(batch.serving.values()))
    # Drivers do not agree on how to count; nobody else writes meanwhile, so the running number tells.
    new = sa.select(sa.func.count()).select_from(facts).where(facts.c.number > before)
    return connection.execute(new).scalar_one()


def latest_number(facts: sa.Table) -> sa.Select[int]:
    """The largest running number of a table, 0 where it is empty."""
    return sa.select(sa.func.coalesce(sa.func.max(facts.c.number), 0))


def read_measurements(
    database: Database, query: sa.Select[int, str, str, str, str], case_ids: Iterable[str] | None
) -> Iterator[Measurement]:
    """Stream the measurements of a query, page by page, each environment read once."""
    table, reader = schema.measurements, Reader()
    environments: dict[str | None, FrozenMap | None] = {None: None}
    for page in pages(database, query, table.c.number, key=table.c.case_id, keys=case_ids):
        missing = {row.environment_id for row in page if row.environment_id is not None} - environments.keys()
        environments.update(read_environments(database, missing))
        for _, body, case_id, deployment_id, environment_id in page:
            yield reader.measurement(body, case_id, deployment_id, environments[environment_id])
