"""The ordered, named steps from an empty database to today's schema.

Each step runs in one transaction together with its record in `fewmark_migrations`. A step that was ever released is
frozen: a change of the schema is a new step at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa

import fewmark
from fewmark.core import StoreError
from fewmark.store.database import Database


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: its name and its SQL, where ``{key}`` stands for the database's own running number."""

    name: str
    statements: tuple[str, ...]


MIGRATIONS: Final[tuple[Migration, ...]] = (
    Migration(
        "measurements",
        (
            """CREATE TABLE environments (
                environment_id TEXT PRIMARY KEY,
                body TEXT NOT NULL
            )""",
            """CREATE TABLE deployments (
                deployment_id TEXT PRIMARY KEY,
                engine TEXT NOT NULL,
                engine_version TEXT,
                model TEXT NOT NULL,
                "precision" TEXT,
                accelerator TEXT,
                accelerator_count DOUBLE PRECISION,
                tensor_parallel_size DOUBLE PRECISION,
                placement TEXT,
                body TEXT NOT NULL
            )""",
            "CREATE INDEX deployments_engine ON deployments (engine)",
            "CREATE INDEX deployments_model ON deployments (model)",
            "CREATE INDEX deployments_accelerator ON deployments (accelerator)",
            """CREATE TABLE cases (
                case_id TEXT PRIMARY KEY,
                deployment_id TEXT NOT NULL REFERENCES deployments (deployment_id),
                input_tokens DOUBLE PRECISION NOT NULL,
                output_tokens DOUBLE PRECISION NOT NULL,
                batch_size DOUBLE PRECISION,
                concurrency DOUBLE PRECISION,
                options TEXT
            )""",
            """CREATE TABLE measurements (
                number {key},
                measurement_id TEXT NOT NULL UNIQUE,
                case_id TEXT NOT NULL REFERENCES cases (case_id),
                deployment_id TEXT NOT NULL REFERENCES deployments (deployment_id),
                environment_id TEXT REFERENCES environments (environment_id),
                status TEXT NOT NULL,
                provenance TEXT NOT NULL,
                source TEXT,
                flag TEXT,
                source_row DOUBLE PRECISION,
                n_repeats DOUBLE PRECISION,
                measured_at TEXT,
                added_at TEXT NOT NULL,
                e2e_latency_s DOUBLE PRECISION,
                ttft_s DOUBLE PRECISION,
                tpot_s DOUBLE PRECISION,
                throughput_tok_s DOUBLE PRECISION,
                total_throughput_tok_s DOUBLE PRECISION,
                power_w DOUBLE PRECISION,
                wall_s DOUBLE PRECISION,
                accelerator_s DOUBLE PRECISION,
                energy_j DOUBLE PRECISION,
                startup_s DOUBLE PRECISION,
                has_extra INTEGER NOT NULL,
                body TEXT NOT NULL
            )""",
            "CREATE INDEX measurements_deployment ON measurements (deployment_id, number)",
            "CREATE INDEX measurements_case ON measurements (case_id, number)",
            "CREATE INDEX measurements_status ON measurements (status, number)",
            "CREATE INDEX measurements_source ON measurements (source, number)",
        ),
    ),
    Migration(
        "predictions",
        (
            # known_number: the last measurement there was when the forecast was made. Later ones can score it.
            """CREATE TABLE predictions (
                number {key},
                prediction_id TEXT NOT NULL UNIQUE,
                case_id TEXT NOT NULL REFERENCES cases (case_id),
                metric TEXT NOT NULL,
                model TEXT,
                known_number BIGINT NOT NULL,
                added_at TEXT NOT NULL,
                body TEXT NOT NULL
            )""",
            "CREATE INDEX predictions_case ON predictions (case_id, metric)",
        ),
    ),
    Migration(
        "annotations",
        (
            """CREATE TABLE annotations (
                number {key},
                measurement_id TEXT NOT NULL REFERENCES measurements (measurement_id),
                rule TEXT NOT NULL,
                action TEXT NOT NULL,
                added_at TEXT NOT NULL,
                body TEXT NOT NULL
            )""",
            "CREATE INDEX annotations_measurement ON annotations (measurement_id, rule, number)",
        ),
    ),
    Migration(
        "visits",
        (
            """CREATE TABLE visits (
                number {key},
                visit_id TEXT NOT NULL UNIQUE,
                case_id TEXT NOT NULL,
                added_at TEXT NOT NULL,
                body TEXT NOT NULL
            )""",
            "CREATE INDEX visits_case ON visits (case_id, number)",
        ),
    ),
    Migration(
        "serving",
        (
            "ALTER TABLE cases ADD COLUMN request_rate DOUBLE PRECISION",
            # Only measurements of serving have a row here: those of batches are not slowed down by empty columns.
            """CREATE TABLE serving (
                measurement_id TEXT PRIMARY KEY REFERENCES measurements (measurement_id),
                itl_s DOUBLE PRECISION,
                decode_throughput_tok_s DOUBLE PRECISION,
                ttft_p50_s DOUBLE PRECISION,
                ttft_p90_s DOUBLE PRECISION,
                ttft_p95_s DOUBLE PRECISION,
                ttft_p99_s DOUBLE PRECISION,
                tpot_p50_s DOUBLE PRECISION,
                tpot_p90_s DOUBLE PRECISION,
                tpot_p95_s DOUBLE PRECISION,
                tpot_p99_s DOUBLE PRECISION,
                itl_p50_s DOUBLE PRECISION,
                itl_p90_s DOUBLE PRECISION,
                itl_p95_s DOUBLE PRECISION,
                itl_p99_s DOUBLE PRECISION,
                e2e_latency_p50_s DOUBLE PRECISION,
                e2e_latency_p90_s DOUBLE PRECISION,
                e2e_latency_p95_s DOUBLE PRECISION,
                e2e_latency_p99_s DOUBLE PRECISION,
                request_throughput_req_s DOUBLE PRECISION,
                goodput_req_s DOUBLE PRECISION,
                n_requests DOUBLE PRECISION,
                n_failed DOUBLE PRECISION,
                statistic TEXT,
                note TEXT
            )""",
        ),
    ),
    Migration(
        "origins",
        (
            """CREATE TABLE records (
                record_id TEXT PRIMARY KEY,
                body TEXT NOT NULL
            )""",
            """CREATE TABLE origins (
                measurement_id TEXT NOT NULL REFERENCES measurements (measurement_id),
                file TEXT NOT NULL,
                format TEXT NOT NULL,
                place TEXT NOT NULL,
                modified_at TEXT,
                imported_at TEXT NOT NULL,
                record_id TEXT REFERENCES records (record_id),
                PRIMARY KEY (measurement_id, file, place)
            )""",
        ),
    ),
    Migration(
        "claims",
        (
            """CREATE TABLE claims (
                case_id TEXT PRIMARY KEY,
                owner TEXT NOT NULL,
                until DOUBLE PRECISION NOT NULL
            )""",
        ),
    ),
)

_RECORDS: Final = "fewmark_migrations"
_KEYS: Final = {"sqlite": "INTEGER PRIMARY KEY", "postgresql": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"}


def migrate(database: Database, steps: tuple[Migration, ...] = MIGRATIONS) -> None:
    """Bring the database to today's schema; nothing is written where it is there already.

    Raises
    ------
    StoreError
        If the database knows steps that this fewmark does not, or is somebody else's.
    """
    while len(_applied(database, steps)) < len(steps):
        _apply_next(database, steps)


def _applied(database: Database, steps: tuple[Migration, ...]) -> list[str]:
    with database.read() as connection:
        return _read_records(connection, database, steps)


def _read_records(connection: sa.Connection, database: Database, steps: tuple[Migration, ...]) -> list[str]:
    tables = sa.inspect(connection).get_table_names()
    if _RECORDS not in tables:
        if tables and database.is_sqlite:
            raise StoreError(
                "the file is an SQLite database, but no fewmark store",
                got=database.label,
                hint="give another path; a store that does not exist yet is created",
            )
        return []
    names = list(connection.execute(sa.text(f"SELECT name FROM {_RECORDS} ORDER BY number")).scalars())
    if not names and "measurements" in tables:
        raise StoreError(
            f"the store's table {_RECORDS} was emptied",
            got=database.label,
            hint="what was measured is still there: fewmark store salvage NEW.db --store THIS",
        )
    known = [step.name for step in steps]
    if names != known[: len(names)]:
        newer = [name for name in names if name not in known]
        raise StoreError(
            "the store was written by a newer fewmark",
            got=f"{database.label}, with the schema changes {', '.join(newer or names)}",
            hint=f"upgrade fewmark (this is {fewmark.__version__}), or use another store",
        )
    return names


def _apply_next(database: Database, steps: tuple[Migration, ...]) -> None:
    with database.write() as connection:
        # Read again under the lock: another process may have been faster.
        number = len(_read_records(connection, database, steps))
        if number == len(steps):
            return
        if number == 0:
            connection.exec_driver_sql(
                f"CREATE TABLE IF NOT EXISTS {_RECORDS} (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, "
                "applied_at TEXT NOT NULL, fewmark_version TEXT NOT NULL)"
            )
        step = steps[number]
        for statement in step.statements:
            connection.exec_driver_sql(statement.replace("{key}", _KEYS[connection.dialect.name]))
        connection.execute(
            sa.text(f"INSERT INTO {_RECORDS} VALUES (:number, :name, :applied_at, :version)"),
            {
                "number": number + 1,
                "name": step.name,
                "applied_at": datetime.now(UTC).isoformat(),
                "version": fewmark.__version__,
            },
        )
