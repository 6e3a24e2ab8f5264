"""Parts of measurements that are not finished: kept for the run that goes on with them, and seen by nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import sqlalchemy as sa

from fewmark.core import Measurement
from fewmark.core.frozen import canonical_json
from fewmark.store import schema
from fewmark.store.database import Database
from fewmark.store.queries import Insert, batched, now, pages
from fewmark.store.rows import reading

BATCH = 500


def add_visits(database: Database, insert: Insert, visits: Iterable[Measurement]) -> None:
    """Keep these; one that is there already stays once. `insert` is the database's own statement."""
    table = schema.visits
    for items in batched(visits, BATCH):
        rows = [
            {
                "visit_id": item.measurement_id,
                "case_id": item.case.case_id,
                "added_at": now(),
                "body": canonical_json(item.to_dict()),
            }
            for item in items
        ]
        with database.write() as connection:
            connection.execute(insert(table).on_conflict_do_nothing().inline(), rows)


def read_visits(database: Database, case_ids: Iterable[str] | None) -> Iterator[Measurement]:
    """The visits, in the order they were added."""
    table = schema.visits
    query = sa.select(table.c.number, table.c.body)
    for page in pages(database, query, table.c.number, key=table.c.case_id, keys=case_ids):
        for _, body in page:
            with reading("visits"):
                visit = Measurement.from_dict(json.loads(body))
            yield visit
