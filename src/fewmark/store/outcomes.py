"""Forecasts beside what was measured after them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from fewmark.core import Prediction
from fewmark.core.columns import METRIC_COLUMNS, REPLACED, RETRACTED
from fewmark.store import schema
from fewmark.store.database import Database
from fewmark.store.marks import marked
from fewmark.store.queries import Condition, pages
from fewmark.store.rows import column_text, read_prediction


@dataclass(frozen=True)
class Outcome:
    """A forecast and one measurement of its case that came after it. `actual` is the median over the samples."""

    prediction: Prediction
    measurement_id: str
    actual: float


def read_outcomes(database: Database, metric: str, model: str | None) -> Iterator[Outcome]:
    """See `Store.outcomes`."""
    p, m, s = schema.predictions, schema.measurements, schema.serving
    actual_value = m.c[metric] if metric in METRIC_COLUMNS else s.c[metric]
    forecasts = sa.select(p.c.number, p.c.body).where(*forecast_conditions(metric, model))
    later = (
        sa.select(p.c.number, m.c.measurement_id, actual_value)
        .join_from(p, m, (p.c.case_id == m.c.case_id) & (m.c.number > p.c.known_number))
        .outerjoin(s, s.c.measurement_id == m.c.measurement_id)
        .where(*(m.c.measurement_id.not_in(marked(rule)) for rule in (RETRACTED, REPLACED)))
        .where(m.c.status == "ok", m.c.provenance != "projected", actual_value.is_not(None))
        .where(*forecast_conditions(metric, model))
        .order_by(p.c.number, m.c.number)
    )
    for page in pages(database, forecasts, p.c.number):
        known = {number: read_prediction(body) for number, body in page}
        with database.read() as connection:
            rows = connection.execute(later.where(p.c.number.between(page[0][0], page[-1][0]))).all()
        for number, measurement_id, actual in rows:
            if number in known:
                yield Outcome(known[number], measurement_id, actual)


def forecast_conditions(metric: str | None, model: str | None) -> list[Condition]:
    """The conditions on the table of predictions."""
    p = schema.predictions
    wanted = ((p.c.metric, metric), (p.c.model, model))
    return [column == column_text(value) for column, value in wanted if value is not None]
