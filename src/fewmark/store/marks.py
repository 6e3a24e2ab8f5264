"""Marks on measurements as rows: a later one of the same rule replaces an earlier one, and nothing is deleted."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from fewmark.core import InputError
from fewmark.store import schema
from fewmark.store.annotations import Annotation
from fewmark.store.database import Database
from fewmark.store.queries import KEYS, batched, now
from fewmark.store.rows import annotation_row, read_annotation


def add_marks(database: Database, annotations: Iterable[Annotation]) -> int:
    """See `Store.annotate`."""
    added = 0
    for items in batched(annotations, KEYS):
        keys = sorted({item.measurement_id for item in items})
        with database.write() as connection:
            identity = schema.measurements.c.measurement_id
            here = set(connection.execute(sa.select(identity).where(identity.in_(keys))).scalars())
            for item in items:
                if item.measurement_id not in here:
                    raise InputError("a mark needs a measurement of the store", got=item.measurement_id)
            held = {(item.measurement_id, item.rule): item for item in read_marks(connection, keys)}
            rows = []
            for item in items:
                place = (item.measurement_id, item.rule)
                if held.get(place, Annotation(*place, "clear")) != item:
                    held[place] = item
                    rows.append(annotation_row(item, now()))
            if rows:
                connection.execute(sa.insert(schema.annotations), rows)
            added += len(rows)
    return added


def marked(rule: str) -> sa.Select[str]:
    """The measurements on which the rule's latest mark is not taken back."""
    table = schema.annotations
    later = table.alias()
    same = (later.c.measurement_id == table.c.measurement_id) & (later.c.rule == rule)
    return sa.select(table.c.measurement_id).where(
        table.c.rule == rule, table.c.action != "clear", ~sa.exists().where(same, later.c.number > table.c.number)
    )


def read_marks(connection: sa.Connection, keys: list[str] | None, *, history: bool = False) -> list[Annotation]:
    """The marks on these measurements, or on all: those that hold, or with `history` all that were ever made."""
    table = schema.annotations
    query = sa.select(table.c.measurement_id, table.c.action, table.c.body).order_by(table.c.number)
    if keys is not None:
        query = query.where(table.c.measurement_id.in_(keys))
    if not history:
        later = table.alias()
        same = (later.c.measurement_id == table.c.measurement_id) & (later.c.rule == table.c.rule)
        query = query.where(~sa.exists().where(same, later.c.number > table.c.number))
    return [read_annotation(*row) for row in connection.execute(query)]
