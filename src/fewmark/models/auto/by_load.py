"""`auto` by the kind of load: batches and closed loops are answered by one model, open loops are kept apart.

At a request rate nobody knows how many requests are in flight: not one of the definitions that join latencies and rates
of a closed loop holds, so no cell of one kind may teach the other's curve.
"""

from __future__ import annotations

from typing import Final, Self

import numpy as np
import pandas as pd

from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.errors import ModelError
from fewmark.models.auto.model import ConsistentAuto
from fewmark.tables.arrays import BoolArray, FloatArray
from fewmark.tables.cells import check_target
from fewmark.tables.columns import load_kind_of

OPEN: Final = LOAD_COLUMNS.index("request_rate")
NOT_YET: Final = (
    "an open loop (request_rate) is not predicted: what is in flight follows from no other cell; measure it, or ask "
    "for a concurrency"
)


class AutoByLoad(ConsistentAuto):
    """`auto`; see the module. Parameters are those of `ConsistentAuto`."""

    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        return super().fit(*_closed(X, y))

    def refit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        return super().refit(*_closed(X, y))

    def add(self, X: pd.DataFrame, y: FloatArray) -> Self:
        open_loop = load_kind_of(X) == OPEN
        if open_loop.all():
            return self
        return super().add(X[~open_loop], np.asarray(y, dtype=float)[~open_loop])

    def abstentions(self, X: pd.DataFrame) -> list[str]:
        reasons = super().abstentions(X)
        for row in np.flatnonzero(load_kind_of(X) == OPEN):
            reasons[row] = NOT_YET
        return reasons

    def joint(self, X: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
        mean, covariance, noise = super().joint(X)
        return np.where(load_kind_of(X) == OPEN, np.nan, mean), covariance, noise


def _closed(X: pd.DataFrame, y: FloatArray) -> tuple[pd.DataFrame, FloatArray]:
    """The rows that are no open loops."""
    values = check_target(y, len(X))
    open_loop: BoolArray = load_kind_of(X) == OPEN
    if not open_loop.any():
        return X, values
    if open_loop.all():
        raise ModelError("no batch and no closed loop is known to learn from", got=NOT_YET)
    return X[~open_loop], values[~open_loop]
