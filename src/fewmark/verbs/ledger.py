"""`fewmark ledger`: every prediction that the store saw, scored by what was measured later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from fewmark.core import Card, InputError, Table
from fewmark.core.json_types import Json
from fewmark.core.metrics import ALL_TARGETS
from fewmark.store import Outcome, Store, open_store


@dataclass(frozen=True)
class LedgerRow:
    """How the predictions of one metric, model and provenance turned out. Errors and shares are fractions.

    `promised` is the mean confidence level of the intervals and `held` the share that kept the measured value;
    `bias` is the median of predicted / measured − 1.
    """

    metric: str
    model: str
    provenance: str
    n: int
    median_ape: float
    p90_ape: float
    bias: float
    promised: float | None
    held: float | None


@dataclass(frozen=True)
class Ledger:
    """All that can be said: the rows, and how many predictions still wait for their measurement."""

    rows: tuple[LedgerRow, ...]
    n_predictions: int
    n_waiting: int

    def to_dict(self) -> dict[str, Json]:
        """The ledger as JSON values."""
        return asdict(self)

    def card(self) -> Card:
        """The ledger as a card of a report."""
        columns = ("metric", "model", "provenance", "cells", "median APE", "p90 APE", "bias", "promised", "held")
        rows = tuple(
            (
                r.metric,
                r.model,
                r.provenance,
                r.n,
                *map(_percent, (r.median_ape, r.p90_ape, r.bias, r.promised, r.held)),
            )
            for r in self.rows
        )
        text = (
            f"{self.n_predictions} predictions are on record; {self.n_waiting} still wait for a measurement of their "
            "case. Each was kept before its case was measured."
        )
        return Card("ledger", "Predictions and what came of them", text, tables=(Table("The ledger", columns, rows),))


def ledger(store: str | None = None, *, metric: str | None = None, model: str | None = None) -> Ledger:
    """Score the predictions of a store against the measurements that came after them.

    Parameters
    ----------
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.
    metric : str, optional
        Only predictions of this metric.
    model : str, optional
        Only predictions by this model.

    Returns
    -------
    Ledger
        One row for each metric, model and provenance; errors and shares are fractions.

    Raises
    ------
    InputError
        If the metric is unknown.
    StoreError
        If the store cannot be opened or read.

    Examples
    --------
    >>> import fewmark
    >>> from fewmark import datasets
    >>> datasets.example().to_csv("measured.csv", index=False)
    >>> imported = fewmark.import_files(["measured.csv"], store="sqlite:///example.db")
    >>> cases = [{"accelerator": "H100", "input_tokens": 1024, "output_tokens": 128, "batch_size": 32}]
    >>> predicted = fewmark.predict(cases, store="sqlite:///example.db", model="mechanistic")
    >>> fewmark.ledger("sqlite:///example.db").n_waiting
    1
    """
    if metric is not None and metric not in ALL_TARGETS:
        raise InputError("unknown metric", got=metric, hint=f"one of {', '.join(ALL_TARGETS)}")
    with open_store(store, create=False) as opened:
        return read_ledger(opened, (metric,) if metric else ALL_TARGETS, model)


def read_ledger(store: Store, metrics: Iterable[str], model: str | None = None) -> Ledger:
    """The ledger of an open store."""
    rows: list[LedgerRow] = []
    n_predictions = n_waiting = 0
    for metric in metrics:
        made = list(store.predictions(metric=metric, model=model))
        if not made:
            continue
        outcomes = [o for o in store.outcomes(metric, model) if o.prediction.value is not None and o.actual > 0]
        scored = {id_of(outcome) for outcome in outcomes}
        n_predictions += len(made)
        n_waiting += len({(p.case.case_id, p.model, p.value) for p in made} - scored)
        rows += _score(metric, outcomes)
    return Ledger(tuple(rows), n_predictions, n_waiting)


def id_of(outcome: Outcome) -> tuple[str, str | None, float | None]:
    """What tells one prediction of a metric from another."""
    made = outcome.prediction
    return made.case.case_id, made.model, made.value


def _score(metric: str, outcomes: list[Outcome]) -> list[LedgerRow]:
    frame = pd.DataFrame(
        [
            {
                "model": o.prediction.model or "unknown",
                "provenance": o.prediction.provenance,
                "ratio": (o.prediction.value or np.nan) / o.actual,
                "level": o.prediction.confidence_level,
                "held": _held(o),
            }
            for o in outcomes
        ]
    )
    if frame.empty:
        return []
    out = []
    for (model, provenance), part in frame.groupby(["model", "provenance"]):
        ape, held = (part["ratio"] - 1).abs(), part["held"].dropna()
        out.append(
            LedgerRow(
                metric=metric,
                model=str(model),
                provenance=str(provenance),
                n=len(part),
                median_ape=float(ape.median()),
                p90_ape=float(ape.quantile(0.9)),
                bias=float((part["ratio"] - 1).median()),
                promised=float(part.loc[held.index, "level"].mean()) if len(held) else None,
                held=float(held.astype(float).mean()) if len(held) else None,
            )
        )
    return out


def _held(outcome: Outcome) -> bool | None:
    low, high = outcome.prediction.low, outcome.prediction.high
    return None if low is None or high is None else low <= outcome.actual <= high


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"
