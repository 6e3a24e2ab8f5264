"""The canonical table by columns, read straight from SQL without building a measurement."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from fewmark.core import CANONICAL_COLUMNS, Projection, Status, StoreError
from fewmark.core.columns import (
    DEPLOYMENT_COLUMNS,
    METRIC_COLUMNS,
    NUMERIC_COLUMNS,
    OPTION_PREFIX,
    OPTIONAL_COLUMNS,
    WORKLOAD_COLUMNS,
    WORKLOAD_PREFIX,
)
from fewmark.core.errors import MALFORMED
from fewmark.core.frozen import canonical_json
from fewmark.core.validity import MAX_SECONDS
from fewmark.core.values import RUN_PROVENANCES
from fewmark.store.database import DAMAGED_HINT, Database
from fewmark.store.queries import Condition, pages
from fewmark.store.rows import holds_nonsense, readable_number
from fewmark.store.schema import COST_COLUMNS, cases, deployments, measurements, serving

_PAGE: Final = 20_000
_OWN: Final = ("measurement_id", "case_id", "deployment_id", "provenance", "source", "status", "flag", "n_repeats")
_REAL: Final = (
    *("accelerator_count", "tensor_parallel_size", "n_repeats"),
    *(*WORKLOAD_COLUMNS, *METRIC_COLUMNS, *COST_COLUMNS),
)


def read_columns(
    database: Database, conditions: Sequence[Condition], case_ids: Iterable[str] | None
) -> dict[str, list[Any]]:
    """See `Store.table`."""
    try:
        return _read_columns(database, conditions, case_ids)
    except MALFORMED as error:
        raise StoreError(
            "the store's tables do not fit together, or a row of them is damaged",
            got=f"{type(error).__name__}: {error}",
            hint=DAMAGED_HINT,
        ) from None


def _read_columns(
    database: Database, conditions: Sequence[Condition], case_ids: Iterable[str] | None
) -> dict[str, list[Any]]:
    m, c = measurements, cases
    extra = sa.case((m.c.has_extra == 1, m.c.body)).label("extra")
    query = (
        sa.select(
            m.c.number,
            *(m.c[name] for name in (*_OWN, *METRIC_COLUMNS, *COST_COLUMNS)),
            *(c.c[name] for name in WORKLOAD_COLUMNS),
            *(c.c.options, extra),
        )
        .join_from(m, c, m.c.case_id == c.c.case_id)
        .where(*conditions)
    )
    names = [str(column.key) for column in query.selected_columns]
    found = pages(database, query, m.c.number, key=m.c.case_id, keys=case_ids, size=_PAGE)
    rows = list(itertools.chain.from_iterable(found))
    columns: dict[str, list[Any]] = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    with database.read() as connection:
        # Read last: a deployment is stored before what refers to it.
        known = {row["deployment_id"]: row for row in connection.execute(sa.select(deployments)).mappings()}
    where = [known[key] for key in columns["deployment_id"]]
    columns |= {name: [row[name] for row in where] for name in DEPLOYMENT_COLUMNS}
    for name in METRIC_COLUMNS:
        odd = [k for k, value in enumerate(columns[name]) if value is not None and not _is_usual(value)]
        for position in odd:
            if holds_nonsense(name, columns[name][position]):  # it stops nobody who reads the others
                columns["status"][position] = str(Status.INVALID)
    columns |= {
        name: [value if _is_usual(value) else readable_number(value) for value in columns[name]] for name in _REAL
    }
    workload_options = [text and json.loads(text) for text in columns["options"]]
    extras = [text and _extra(json.loads(text)) for text in columns["extra"]]
    options = {key: json.loads(row["body"]).get("engine_options") for key, row in known.items()}
    out = {name: columns[name] for name in (*CANONICAL_COLUMNS, *names) if name not in ("number", "options", "extra")}
    _spread(out, [options[key] for key in out["deployment_id"]], OPTION_PREFIX)
    _spread(out, workload_options, WORKLOAD_PREFIX)
    served = _served(database, conditions, case_ids)
    _add_serving(out, served, extras)
    _spread(out, extras, "")
    return out


def _is_usual(value: object) -> bool:
    return type(value) is float and 0.0 <= value <= MAX_SECONDS


def _served(
    database: Database, conditions: Sequence[Condition], case_ids: Iterable[str] | None
) -> dict[str, Mapping[str, object]]:
    """The rows of `serving` of the measurements that pass the filters, by id."""
    m, s = measurements, serving
    with database.read() as connection:
        if connection.execute(sa.select(s.c.measurement_id).limit(1)).first() is None:
            return {}
    query = sa.select(m.c.number, s).join_from(m, s, m.c.measurement_id == s.c.measurement_id).where(*conditions)
    found = pages(database, query, m.c.number, key=m.c.case_id, keys=case_ids, size=_PAGE)
    return {row.measurement_id: row._asdict() for row in itertools.chain.from_iterable(found)}


def _add_serving(
    columns: dict[str, list[Any]],
    served: Mapping[str, Mapping[str, object]],
    extras: Sequence[Mapping[str, object] | None],
) -> None:
    """Add those of the optional columns of which anything is known; older measurements keep them among their extras."""
    unique = {id(extra): extra for extra in extras if extra}
    held = {name for extra in unique.values() for name in extra}
    for name in OPTIONAL_COLUMNS:
        found = [row and row[name] for row in map(served.get, columns["measurement_id"])]
        if name in held:
            older = [extra.get(name) if extra else None for extra in extras]
            found = [_typed(name, old) if value is None else value for value, old in zip(found, older, strict=True)]
        if name == "statistic":
            # Of batches measured here, the metrics are the medians of their repeats.
            found = [
                "median" if value is None and provenance in RUN_PROVENANCES and repeats > 0 else value
                for value, provenance, repeats in zip(found, columns["provenance"], columns["n_repeats"], strict=True)
            ]
        if any(value is not None for value in found):
            blank = float("nan") if name in NUMERIC_COLUMNS else None
            columns[name] = [blank if value is None else value for value in found]


def _typed(name: str, value: object) -> object:
    if name in NUMERIC_COLUMNS:
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    return None if value is None else str(value)


def _extra(body: Mapping[str, Any]) -> dict[str, object]:
    held = Projection.from_dict(body["projection"]).columns() if "projection" in body else {}
    return {**body.get("extra", {}), **held}


def _spread(columns: dict[str, list[Any]], mappings: Sequence[Mapping[str, object] | None], prefix: str) -> None:
    """Add a column for each name in the mappings; a column that is there already stays as it is."""
    unique = {id(mapping): mapping for mapping in mappings if mapping}
    for name in sorted({name for mapping in unique.values() for name in mapping}):
        if prefix + name not in (*columns, *OPTIONAL_COLUMNS):
            columns[prefix + name] = [_cell(mapping.get(name)) if mapping else None for mapping in mappings]


def _cell(value: object) -> object:
    return canonical_json(value) if isinstance(value, (dict, list)) else value
