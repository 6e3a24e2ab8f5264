"""Today's tables, as the last migration leaves them."""

from typing import Final

import sqlalchemy as sa

from fewmark.core.columns import DEPLOYMENT_COLUMNS, METRIC_COLUMNS, NUMERIC_COLUMNS, OPTIONAL_COLUMNS, WORKLOAD_COLUMNS

COST_COLUMNS: Final = ("wall_s", "accelerator_s", "energy_j", "startup_s")

_metadata = sa.MetaData()


def _columns(names: tuple[str, ...]) -> list[sa.Column[float] | sa.Column[str]]:
    return [sa.Column(name, sa.Double) if name in NUMERIC_COLUMNS else sa.Column(name, sa.Text) for name in names]


environments: Final = sa.Table(
    "environments", _metadata, sa.Column("environment_id", sa.Text, primary_key=True), sa.Column("body", sa.Text)
)
deployments: Final = sa.Table(
    "deployments",
    _metadata,
    sa.Column("deployment_id", sa.Text, primary_key=True),
    *_columns(DEPLOYMENT_COLUMNS),
    sa.Column("body", sa.Text),
)
cases: Final = sa.Table(
    "cases",
    _metadata,
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("deployment_id", sa.Text),
    *_columns(WORKLOAD_COLUMNS[:4]),
    sa.Column("options", sa.Text),
    *_columns(WORKLOAD_COLUMNS[4:]),  # newer than the table
)
measurements: Final = sa.Table(
    "measurements",
    _metadata,
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("measurement_id", sa.Text),
    sa.Column("case_id", sa.Text),
    sa.Column("deployment_id", sa.Text),
    sa.Column("environment_id", sa.Text),
    *(sa.Column(name, sa.Text) for name in ("status", "provenance", "source", "flag")),
    *(sa.Column(name, sa.Double) for name in ("source_row", "n_repeats")),
    *(sa.Column(name, sa.Text) for name in ("measured_at", "added_at")),
    *(sa.Column(name, sa.Double) for name in (*METRIC_COLUMNS, *COST_COLUMNS)),
    sa.Column("has_extra", sa.Integer),
    sa.Column("body", sa.Text),
)
serving: Final = sa.Table(
    "serving", _metadata, sa.Column("measurement_id", sa.Text, primary_key=True), *_columns(OPTIONAL_COLUMNS)
)
predictions: Final = sa.Table(
    "predictions",
    _metadata,
    sa.Column("number", sa.BigInteger, primary_key=True),
    *(sa.Column(name, sa.Text) for name in ("prediction_id", "case_id", "metric", "model")),
    sa.Column("known_number", sa.BigInteger),
    *(sa.Column(name, sa.Text) for name in ("added_at", "body")),
)
annotations: Final = sa.Table(
    "annotations",
    _metadata,
    sa.Column("number", sa.BigInteger, primary_key=True),
    *(sa.Column(name, sa.Text) for name in ("measurement_id", "rule", "action", "added_at", "body")),
)
claims: Final = sa.Table(
    "claims",
    _metadata,
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text),
    sa.Column("until", sa.Double),
)
visits: Final = sa.Table(
    "visits",
    _metadata,
    sa.Column("number", sa.BigInteger, primary_key=True),
    *(sa.Column(name, sa.Text) for name in ("visit_id", "case_id", "added_at", "body")),
)
records: Final = sa.Table(
    "records", _metadata, sa.Column("record_id", sa.Text, primary_key=True), sa.Column("body", sa.Text)
)
origins: Final = sa.Table(
    "origins",
    _metadata,
    *(sa.Column(name, sa.Text) for name in ("measurement_id", "file", "format", "place")),
    *(sa.Column(name, sa.Text) for name in ("modified_at", "imported_at", "record_id")),
)
