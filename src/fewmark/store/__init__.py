"""Measurements, predictions and annotations in SQL: append-only, content-addressed, safe against kills.

SQLite by default, PostgreSQL by URL. Heavy imports: SQLAlchemy alone, and psycopg where PostgreSQL is used.
"""

from fewmark.store.annotations import Annotation
from fewmark.store.origins import Origin
from fewmark.store.outcomes import Outcome
from fewmark.store.queries import DeploymentFilter
from fewmark.store.salvage import Salvage, check_store, salvage_store
from fewmark.store.store import Store, open_store

__all__ = [
    "Annotation",
    "DeploymentFilter",
    "Origin",
    "Outcome",
    "Salvage",
    "Store",
    "check_store",
    "open_store",
    "salvage_store",
]
