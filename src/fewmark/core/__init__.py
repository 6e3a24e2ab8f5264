"""Frozen values, metric definitions, the error tree and the canonical table's columns. Standard library only."""

from fewmark.core.cards import Card, Chart, Series, Table
from fewmark.core.columns import CANONICAL_COLUMNS, CASE_COLUMNS, DEPLOYMENT_COLUMNS, KNOWN_COLUMNS, WORKLOAD_COLUMNS
from fewmark.core.errors import (
    EngineError,
    FewmarkError,
    FormatError,
    InputError,
    ModelError,
    StoreError,
    SuiteError,
)
from fewmark.core.frozen import FrozenMap, content_hash
from fewmark.core.metrics import METRICS, Metric, derive_metrics, tpot_s
from fewmark.core.projection import Projection
from fewmark.core.requests import Requests
from fewmark.core.samples import Sample
from fewmark.core.values import (
    Advice,
    Case,
    Cost,
    Deployment,
    Measurement,
    Prediction,
    Status,
    Workload,
)

__all__ = [
    "CANONICAL_COLUMNS",
    "CASE_COLUMNS",
    "DEPLOYMENT_COLUMNS",
    "KNOWN_COLUMNS",
    "METRICS",
    "WORKLOAD_COLUMNS",
    "Advice",
    "Card",
    "Case",
    "Chart",
    "Cost",
    "Deployment",
    "EngineError",
    "FewmarkError",
    "FormatError",
    "FrozenMap",
    "InputError",
    "Measurement",
    "Metric",
    "ModelError",
    "Prediction",
    "Projection",
    "Requests",
    "Sample",
    "Series",
    "Status",
    "StoreError",
    "SuiteError",
    "Table",
    "Workload",
    "content_hash",
    "derive_metrics",
    "tpot_s",
]
