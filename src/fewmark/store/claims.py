"""Claims: which run measures a case just now, so that runs side by side on one store share the work.

A claim is a lease. Its run renews it for as long as it lives; it ends with the run, when nobody renewed it in time, or
at once where the process that made it is known to be gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa

from fewmark.core.processes import is_gone
from fewmark.store.database import Database
from fewmark.store.queries import KEYS, batched
from fewmark.store.schema import claims, measurements

LEASE_S: Final = 60.0


def claim(database: Database, case_ids: Iterable[str], owner: str, since: int, lease_s: float = LEASE_S) -> set[str]:
    """Claim cases for a run; those that it has then, without what another one has or has measured.

    Parameters
    ----------
    owner : str
        The run, as `fewmark.core.processes.process_identity` and a word of its own: ``WORD IDENTITY``.
    since : int
        The number of the last measurement that the run knew of when it chose its cases.
    """
    taken: set[str] = set()
    for keys in batched(dict.fromkeys(case_ids), KEYS):
        with database.write() as connection:
            now = _now(connection, database)
            held = connection.execute(sa.select(claims).where(claims.c.case_id.in_(keys))).all()
            ours = {row.case_id for row in held if row.owner == owner}
            theirs = {row.case_id for row in held if row.owner != owner and _is_live(row.owner, row.until, now)}
            later = measurements.c.case_id.in_(keys) & (measurements.c.number > since)
            theirs |= set(connection.execute(sa.select(measurements.c.case_id).where(later)).scalars()) - ours
            if free := [key for key in keys if key not in ours and key not in theirs]:
                if len(held) > len(ours):  # of runs that are gone
                    connection.execute(sa.delete(claims).where(claims.c.case_id.in_(free)))
                rows = [{"case_id": key, "owner": owner, "until": now + lease_s} for key in free]
                connection.execute(sa.insert(claims), rows)
        taken |= ours | set(free)
    return taken


def renew(database: Database, owner: str, lease_s: float = LEASE_S) -> None:
    """Extend every claim of a run."""
    with database.write() as connection:
        until = _now(connection, database) + lease_s
        connection.execute(sa.update(claims).where(claims.c.owner == owner).values(until=until))


def release(database: Database, owner: str) -> None:
    """Give every claim of a run up, and clear away those of runs that are gone."""
    with database.write() as connection:
        now = _now(connection, database)
        connection.execute(sa.delete(claims).where(sa.or_(claims.c.owner == owner, claims.c.until < now)))


def claimed(database: Database, case_ids: Iterable[str], owner: str) -> set[str]:
    """Which of the cases other runs hold."""
    found = set()
    for keys in batched(case_ids, KEYS):
        with database.read() as connection:
            now = _now(connection, database)
            query = sa.select(claims).where(claims.c.case_id.in_(keys), claims.c.owner != owner)
            found |= {row.case_id for row in connection.execute(query) if _is_live(row.owner, row.until, now)}
    return found


def measured_since(database: Database, case_ids: Iterable[str], since: int) -> set[str]:
    """Which of the cases have a measurement that was added after the one of this number."""
    found: set[str] = set()
    for keys in batched(case_ids, KEYS):
        with database.read() as connection:
            condition = measurements.c.case_id.in_(keys) & (measurements.c.number > since)
            found |= set(connection.execute(sa.select(measurements.c.case_id).where(condition)).scalars())
    return found


def _is_live(owner: str, until: float, now: float) -> bool:
    return until >= now and not is_gone(owner.partition(" ")[2])


def _now(connection: sa.Connection, database: Database) -> float:
    """Seconds by a clock that all users of the database share."""
    if database.is_sqlite:
        return time.time()
    return float(connection.execute(sa.text("SELECT EXTRACT(EPOCH FROM clock_timestamp())")).scalar_one())
