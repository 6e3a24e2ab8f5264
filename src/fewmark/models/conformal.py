"""Conformal intervals around any point predictor.

Notation: m calibration cells with values y and predictions f made without them; s = |log(y / f)| their conformity
scores; α = 1 − confidence_level. The interval of a new cell is [f · exp(−q), f · exp(q)] with q the
⌈(m + 1)(1 − α)⌉-th smallest score (Vovk et al. 2005; Lei et al. 2018), so that it is multiplicative and positive.
Scores come from cross-validation (Barber et al. 2021, without their correction): every cell is held out once, and
the model is then fitted on all. Scores are taken by kind of prediction (Mondrian): interpolated, extrapolated, or
transferred to a deployment that was held out whole.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.errors import ModelError
from fewmark.models.base import FloatArray, Model
from fewmark.models.cells import IntArray, median_of_repeats, read_cells, tidy
from fewmark.models.support import Support, anchors

ENOUGH = 20  # scores of a kind before its own quantile is used


class PointModel(Protocol):
    """A predictor without intervals. `predict` gives NaN for cells that it cannot answer."""

    pools: ClassVar[bool]

    def __init__(self, *, target: str, random_state: int) -> None: ...

    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from cells, one row a cell."""

    def predict(self, X: pd.DataFrame) -> FloatArray:
        """Values of shape (n,); NaN where there is no answer."""

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The fitted model as JSON values and arrays."""

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted model behind `to_state`."""


class SplitConformal(Model):
    """A full model around a point predictor: conformal intervals, provenance, similarity, forecasts, anchors.

    Parameters
    ----------
    name : str
        The model's name in the registry.
    point : type of PointModel
        The predictor's class.
    target : str
    random_state : int
    n_folds : int, default 5
        Of the cross-validation that gives the scores.

    Attributes
    ----------
    scores_ : dict from kind to array of float
        Conformity scores, in no order.
    """

    def __init__(
        self,
        name: str,
        point: type[PointModel],
        *,
        target: str = "throughput_tok_s",
        random_state: int = 0,
        n_folds: int = 5,
    ) -> None:
        super().__init__(target=target, random_state=random_state)
        self.name = name  # type: ignore[misc]
        self.pools = point.pools  # type: ignore[misc]
        self.point = point
        self.n_folds = n_folds

    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from measured cells; repeats are reduced to their median."""
        X, values = median_of_repeats(X, y)
        X = X.reset_index(drop=True)
        cells = read_cells(X)
        self.support_ = Support.of(X)
        rng = np.random.default_rng(self.random_state)
        by_cell = _balanced_folds(rng, cells.deployment, self.n_folds)
        score, kind = self._held_out(X, values, by_cell)
        self.scores_: dict[str, FloatArray] = {
            name: _finite(score[kind == name]) for name in ("interpolated", "extrapolated")
        }
        transferred = np.empty(0)
        n_groups = len(cells.deployments)
        if self.pools and n_groups > 1:
            deal = rng.permutation(n_groups) % min(self.n_folds, n_groups)
            transferred = _finite(self._held_out(X, values, deal[cells.deployment])[0])
        self.scores_["transferred"] = transferred
        self.point_ = self._new().fit(X, values)
        return self

    def predict(self, X: pd.DataFrame) -> FloatArray:
        return self._fitted().predict(X)

    def predict_interval(self, X: pd.DataFrame, confidence_level: float = 0.9) -> FloatArray:
        if not 0 < confidence_level < 1:
            raise ModelError("confidence_level must lie between 0 and 1", got=confidence_level)
        value, provenance = self.predict(X), self.support_.locate(X).provenance
        half = np.empty(len(X))
        for kind in np.unique(provenance):
            half[provenance == kind] = quantile(self._scores_for(str(kind)), confidence_level)
        ends: FloatArray = np.c_[value * np.exp(-half), value * np.exp(half)]
        return ends

    def provenance(self, X: pd.DataFrame) -> NDArray[np.str_]:
        answered = np.isfinite(self.predict(X))
        return np.where(answered, self.support_.locate(X).provenance, "abstained").astype(np.str_)

    def similarity(self, X: pd.DataFrame) -> FloatArray:
        return self.support_.locate(X).similarity

    def abstentions(self, X: pd.DataFrame) -> list[str]:
        places, answered = self.support_.locate(X), np.isfinite(self.predict(X))
        unseen = "no cell of this deployment was measured, and the model looks at each deployment alone"
        few = "too few cells of this deployment were measured"
        return ["" if ok else few if known else unseen for ok, known in zip(answered, places.n_known, strict=True)]

    def forecast_error(self, X: pd.DataFrame) -> float:
        answered = np.isfinite(self.predict(X))
        kinds, counts = np.unique(self.support_.locate(X).provenance[answered], return_counts=True)
        grid = np.linspace(0.005, 0.995, 100)
        errors = [np.quantile(np.expm1(self._scores_for(str(kind))), grid) for kind in kinds]
        if not errors:
            return math.nan
        weights = np.repeat(counts, len(grid))
        return weighted_median(np.concatenate(errors), weights)

    def design(self, X: pd.DataFrame, n_cells: int) -> IntArray:
        return anchors(X, n_cells)

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        state, arrays = self._fitted().to_state()
        table = self.support_.table.astype(object).where(self.support_.table.notna(), None)
        own = {
            "target": self.target,
            "random_state": self.random_state,
            "n_folds": self.n_folds,
            "support": {str(name): table[name].tolist() for name in table},
            "point": state,
        }
        scores = {f"scores/{kind}": values for kind, values in self.scores_.items()}
        return own, {**scores, **{f"point/{name}": values for name, values in arrays.items()}}

    def restore(self, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Take over what `to_state` gave."""
        self.support_ = Support(tidy(pd.DataFrame(state["support"])))
        self.scores_ = {kind: arrays[f"scores/{kind}"] for kind in ("interpolated", "extrapolated", "transferred")}
        inner = {name.removeprefix("point/"): a for name, a in arrays.items() if name.startswith("point/")}
        self.point_ = self.point.from_state(state["point"], inner)
        return self

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        raise ModelError("a conformal model is restored by its name in the registry")

    def _new(self) -> PointModel:
        return self.point(target=self.target, random_state=self.random_state)

    def _fitted(self) -> PointModel:
        if not hasattr(self, "point_"):
            raise ModelError(f"the model {self.name} has not been fitted", hint="call fit(X, y) first")
        return self.point_

    def _held_out(self, X: pd.DataFrame, y: FloatArray, fold: IntArray) -> tuple[FloatArray, NDArray[np.str_]]:
        """Scores of all cells, each predicted without its fold, and the kind that each prediction was."""
        score, kind = np.full(len(y), np.nan), np.full(len(y), "extrapolated", dtype="<U12")
        folds = np.unique(fold)
        if len(folds) < 2:
            return score, kind
        for code in folds:
            out = fold == code
            value = self._new().fit(X[~out], y[~out]).predict(X[out])
            with np.errstate(invalid="ignore", divide="ignore"):
                score[out] = np.abs(np.log(y[out] / value))
            kind[out] = Support.of(X[~out]).locate(X[out]).provenance
        return score, kind

    def _scores_for(self, kind: str) -> FloatArray:
        """The scores of a kind; where they are few, those of all kinds (none is no reason for narrow intervals)."""
        kind = "interpolated" if kind == "measured" else kind
        own = self.scores_[kind]
        if len(own) >= ENOUGH:
            return own
        pooled = np.concatenate(
            [self.scores_["interpolated"], self.scores_["extrapolated"], self.scores_["transferred"]]
        )
        return pooled if len(pooled) else np.array([math.inf])


def quantile(scores: FloatArray, confidence_level: float) -> float:
    """The ⌈(m + 1) · confidence_level⌉-th smallest score; infinite where m is too small for the level."""
    rank = math.ceil((len(scores) + 1) * confidence_level - 1e-9)
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else math.inf


def weighted_median(values: FloatArray, weights: NDArray[Any]) -> float:
    """The value below which half of the weight lies."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _balanced_folds(rng: np.random.Generator, group: IntArray, n_folds: int) -> IntArray:
    """Random folds that take each group's rows in turn, so that no fold holds a group whole; shape (n,)."""
    fold = np.zeros(len(group), np.intp)
    for code in np.unique(group):
        rows = rng.permutation(np.flatnonzero(group == code))
        fold[rows] = (np.arange(len(rows)) + rng.integers(n_folds)) % n_folds
    return fold


def _finite(scores: FloatArray) -> FloatArray:
    return scores[np.isfinite(scores)]
