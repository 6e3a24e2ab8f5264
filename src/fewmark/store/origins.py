"""Where imported measurements came from: the file, its time, the place in it, and the record as it stood there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

import sqlalchemy as sa

from fewmark.core.frozen import content_hash
from fewmark.core.json_types import Json
from fewmark.store import schema
from fewmark.store.database import Database
from fewmark.store.queries import KEYS, Insert, batched, insert_columns, insert_new, insert_tuples, now
from fewmark.store.rows import column_text

_BATCH: Final = 100_000  # rows a transaction
_COLUMNS: Final = ("measurement_id", "file", "format", "place", "modified_at", "imported_at", "record_id")


@dataclass(frozen=True)
class Origin:
    """One measurement's place in a file. `record` is its JSON text, with secrets masked; None where none was kept."""

    measurement_id: str
    file: str
    format: str
    place: str
    modified_at: str | None = None
    imported_at: str = ""
    record: str | None = None


def add_origins(database: Database, insert: Insert, origins: Iterable[Origin]) -> None:
    """Keep these; what is known of a measurement from the same content of a file already stays as it is."""
    moment = now()
    for items in batched(origins, _BATCH):
        records: dict[str, dict[str, Json]] = {}
        rows = []
        for item in items:
            record_id = None
            if item.record is not None:
                record_id = content_hash(item.record, 32)
                records[record_id] = {"record_id": record_id, "body": column_text(item.record)}
            file, place, at = column_text(item.file), column_text(item.place), item.imported_at or moment
            rows.append((item.measurement_id, file, item.format, place, item.modified_at, at, record_id))
        with database.write() as connection:
            if records:
                insert_new(connection, insert, schema.records, list(records.values()))
            insert_tuples(connection, insert, schema.origins, _COLUMNS, rows)


def add_origins_of_rows(
    database: Database, insert: Insert, of_file: Origin, ids: Sequence[str], places: Sequence[str]
) -> None:
    """Keep the origins of a table's rows, which share all but their measurement and their place with `of_file`."""
    file, at = column_text(of_file.file), of_file.imported_at or now()
    shared = {"file": file, "format": of_file.format, "modified_at": of_file.modified_at, "imported_at": at}
    rows = sorted(zip(ids, places, strict=True))  # in the index's order, which ids that are hashes are not in
    for part in batched(rows, _BATCH):
        columns: dict[str, Iterable[object]] = {name: repeat(value) for name, value in shared.items()}
        columns |= {"measurement_id": [row[0] for row in part], "place": [row[1] for row in part]}
        with database.write(complete=True) as connection:
            insert_columns(connection, insert, schema.origins, columns)


def read_origins(database: Database, measurement_ids: Iterable[str]) -> dict[str, list[Origin]]:
    """The origins of each of these measurements, the oldest first; without those that have none."""
    o, r = schema.origins, schema.records
    out: dict[str, list[Origin]] = {}
    for keys in batched(dict.fromkeys(measurement_ids), KEYS):
        query = (
            sa.select(o.c.measurement_id, o.c.file, o.c.format, o.c.place, o.c.modified_at, o.c.imported_at, r.c.body)
            .join_from(o, r, o.c.record_id == r.c.record_id, isouter=True)
            .where(o.c.measurement_id.in_(keys))
            .order_by(o.c.imported_at, o.c.file)
        )
        with database.read() as connection:
            for row in connection.execute(query).all():
                out.setdefault(row[0], []).append(Origin(*row))
    return out
