"""`auto` by what is asked: the kind of load, and whether of a mean or a percentile over requests.

At a request rate nobody knows how many requests are in flight: not one of the definitions that join latencies and rates
of a closed loop holds, so no cell of one kind may teach the other's curve. Batches and closed loops are answered by
`fewmark.models.auto.model`, open loops by `fewmark.models.auto.open_loop`, and percentiles of either by
`fewmark.models.auto.percentiles`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.metrics import PERCENTILE_METRICS
from fewmark.models.auto.model import AutoModel
from fewmark.models.auto.open_loop import UNSEEN, OpenLoops
from fewmark.models.auto.percentiles import Percentiles
from fewmark.models.base import Answers, Model
from fewmark.models.design import anchors
from fewmark.tables.arrays import BoolArray, FloatArray
from fewmark.tables.cells import check_target
from fewmark.tables.columns import load_kind_of

OPEN: Final = LOAD_COLUMNS.index("request_rate")
LEVEL: Final = 0.9  # of the interval where only the value counts


class AutoByLoad(AutoModel):
    """`auto`; see the module. Parameters are those of `AutoModel`."""

    open_: OpenLoops | None = None
    percentiles_: Percentiles | None = None
    knows_closed_ = False

    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from measured cells; of a percentile y may be unknown (NaN) where X has others of its metric."""
        return self._learn(X, y, again=False)

    def refit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        return self._learn(X, y, again=True)

    def _learn(self, X: pd.DataFrame, y: FloatArray, *, again: bool) -> Self:
        if self.target in PERCENTILE_METRICS:
            before = self.percentiles_ if again else None
            self.percentiles_ = Percentiles(self.target, self._of_mean).fit(X, y, before=before)
            self.n_public_cells_ = self.percentiles_.mean.n_public_cells_
            return self
        values = check_target(y, len(X))
        rate: BoolArray = load_kind_of(X) == OPEN
        self.open_ = OpenLoops(self.target, self.random_state).fit(X[rate], values[rate]) if rate.any() else None
        if rate.all():
            self.knows_closed_ = False
            return self
        if again and self.knows_closed_:
            super().refit(X[~rate], values[~rate])
        else:
            super().fit(X[~rate], values[~rate])
        self.knows_closed_ = True
        return self

    def add(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Take in further batches and closed loops; percentiles and open loops are learned anew by `refit` alone."""
        rate = load_kind_of(X) == OPEN
        if self.percentiles_ is None and self.knows_closed_ and not rate.all():
            super().add(X[~rate], np.asarray(y, dtype=float)[~rate])
        return self

    def answer(self, X: pd.DataFrame, confidence_level: float = 0.9) -> Answers:
        if self.percentiles_ is not None:
            return self.percentiles_.answer(X, confidence_level)
        rate: BoolArray = load_kind_of(X) == OPEN
        if not rate.any() and self.knows_closed_:
            return super().answer(X, confidence_level)
        n = len(X)
        out = Answers(
            value=np.full(n, np.nan),
            low=np.full(n, np.nan),
            high=np.full(n, np.nan),
            provenance=np.full(n, "abstained", dtype="<U12"),
            similarity=np.zeros(n),
            abstained=[""] * n,
        )
        if self.knows_closed_ and not rate.all():
            _put(out, np.flatnonzero(~rate), super().answer(X[~rate], confidence_level))
        elif not rate.all():
            _silence(out, np.flatnonzero(~rate), "no batch and no closed loop was measured, only open loops")
        if self.open_ is not None and rate.any():
            _put(out, np.flatnonzero(rate), self.open_.answer(X[rate], confidence_level))
        elif rate.any():
            _silence(out, np.flatnonzero(rate), UNSEEN)
        return out

    def predict(self, X: pd.DataFrame) -> FloatArray:
        return super().predict(X) if self._is_plain(X) else self.answer(X, LEVEL).value

    def predict_interval(self, X: pd.DataFrame, confidence_level: float = 0.9) -> FloatArray:
        if self._is_plain(X):
            return super().predict_interval(X, confidence_level)
        found = self.answer(X, confidence_level)
        return np.column_stack([found.low, found.high])

    def provenance(self, X: pd.DataFrame) -> NDArray[np.str_]:
        return super().provenance(X) if self._is_plain(X) else self.answer(X, LEVEL).provenance

    def similarity(self, X: pd.DataFrame) -> FloatArray:
        return super().similarity(X) if self._is_plain(X) else self.answer(X, LEVEL).similarity

    def abstentions(self, X: pd.DataFrame) -> list[str]:
        return super().abstentions(X) if self._is_plain(X) else self.answer(X, LEVEL).abstained

    def forecast_error(self, X: pd.DataFrame) -> float:
        if self._is_plain(X):
            return super().forecast_error(X)
        found = self.answer(X, 0.5)  # half of the values lie outside
        ends = np.abs(np.log(np.column_stack([found.low, found.high]) / found.value[:, None]))
        known = ends[np.isfinite(ends).all(axis=1)]
        return float(np.expm1(np.median(known.mean(axis=1)))) if len(known) else float("nan")

    def design(self, X: pd.DataFrame, n_cells: int) -> NDArray[np.intp]:
        if self._is_plain(X):
            return super().design(X, n_cells)
        if self.percentiles_ is not None and not (load_kind_of(X) == OPEN).any():
            return self.percentiles_.mean.design(X, n_cells)
        return anchors(X, n_cells)

    def joint(self, X: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
        if self.percentiles_ is not None:
            return self.percentiles_.joint(X)
        if not self.knows_closed_:
            return np.full(len(X), np.nan), np.eye(len(X)), np.zeros(len(X))
        mean, covariance, noise = super().joint(X)
        return np.where(load_kind_of(X) == OPEN, np.nan, mean), covariance, noise

    @property
    def is_cacheable(self) -> bool:
        plain = self.open_ is None and self.target not in PERCENTILE_METRICS
        return plain and super().is_cacheable

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        if self.percentiles_ is not None:
            state, arrays = self.percentiles_.to_state()
            return {"percentiles": state, "target": self.target}, arrays
        if self.open_ is None:
            return super().to_state()
        own, mine = self.open_.to_state()
        state, arrays = super().to_state() if self.knows_closed_ else ({}, {})
        opened = {"target": self.target, "random_state": self.random_state, **own}
        return {**state, "open": opened}, arrays | {f"open/{name}": values for name, values in mine.items()}

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        if "percentiles" in state:
            model = cls(target=state["target"])
            model.percentiles_ = Percentiles(model.target, model._of_mean).restore(state["percentiles"], arrays, cls)
            return model
        rest = {name: value for name, value in state.items() if name != "open"}
        if rest:
            model = super().from_state(rest, {n: a for n, a in arrays.items() if not n.startswith("open/")})
            model.knows_closed_ = True
        else:
            model = cls(target=state["open"]["target"], random_state=state["open"]["random_state"])
        if "open" in state:
            own = {n.removeprefix("open/"): a for n, a in arrays.items() if n.startswith("open/")}
            model.open_ = OpenLoops(model.target, model.random_state).restore(state["open"], own)
        return model

    def _is_plain(self, X: pd.DataFrame) -> bool:
        """Whether what is asked is all of batches and closed loops, and known to the model of these."""
        if self.percentiles_ is not None:
            return False
        if not self.knows_closed_ and self.open_ is None:
            return True  # not fitted: let it say so
        return self.knows_closed_ and not (load_kind_of(X) == OPEN).any()

    def _of_mean(self, target: str) -> Model:
        return type(self)(
            target=target, random_state=self.random_state, facts=self.facts, max_learning_cells=self.max_learning_cells,
            max_pool_cells=self.max_pool_cells, max_log_sd=self.max_log_sd, prior=self.prior,
        )  # fmt: skip


def _put(out: Answers, rows: NDArray[np.intp], part: Answers) -> None:
    for item in fields(Answers):
        whole, some = getattr(out, item.name), getattr(part, item.name)
        if isinstance(whole, list):
            for row, value in zip(rows.tolist(), some, strict=True):
                whole[row] = value
        else:
            whole[rows] = some


def _silence(out: Answers, rows: NDArray[np.intp], reason: str) -> None:
    for row in rows.tolist():
        out.abstained[row] = reason
