"""Conformal intervals around any point predictor.

Notation: m calibration cells with values y and predictions f made without them; r = log(y / f) their residuals and
s = |r| their conformity scores; α = 1 − confidence_level. The interval of a new cell is [f · exp(−q), f · exp(q)] with
q the ⌈(m + 1)(1 − α)⌉-th smallest score (Vovk et al. 2005; Lei et al. 2018), so that it is multiplicative and positive.

The predictions come from cross-validation (Barber et al. 2021, without their correction), and from hiding what
`fewmark.models.conformal.splitters` says; then the model is fitted on everything. A score counts for a new cell if it
was made in a like situation (Mondrian categories): about as many cells of the deployment known, inside the box of these
or beyond it in length or in load, and on an accelerator that is known from other deployments or is not. Where a
category has few scores, the nearest ones are added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Final, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.errors import ModelError
from fewmark.core.fractions import require_fraction
from fewmark.models.base import Model
from fewmark.models.conformal.splitters import folds, rounds, unseen_accelerators
from fewmark.models.conformal.support import Domain, Support
from fewmark.models.design import anchors
from fewmark.models.state import Arrays, State, floats, part, table, under, whole
from fewmark.tables.arrays import AnyArray, FloatArray, IntArray
from fewmark.tables.cells import read_cells
from fewmark.tables.columns import tidy
from fewmark.tables.repeats import median_of_repeats

MIN_SCORES: Final = 20  # scores of a category before its own quantile is used
MAX_LOG2_KNOWN: Final = 4  # log2 of known cells from which on more make no other category
ELSEWHERE: Final = 2.0  # a category inside is as far from one beyond as one is from one with a quarter of the cells
ABROAD: Final = 3.0  # and one on an accelerator that is hardly known from one on a known one


class PointModel(Protocol):
    """A predictor without intervals. `predict` gives NaN for cells that it cannot answer."""

    pools_deployments: ClassVar[bool]

    def __init__(self, *, target: str, random_state: int) -> None: ...

    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from cells, one row a cell."""

    def predict(self, X: pd.DataFrame) -> FloatArray:
        """Values of shape (n,); NaN where there is no answer."""

    def to_state(self) -> tuple[State, Arrays]:
        """The fitted model as JSON values and arrays."""

    @classmethod
    def from_state(cls, state: State, arrays: Arrays) -> Self:
        """The fitted model behind `to_state`."""


class CrossConformal(Model):
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
    residuals_ : (m,) float
        r of the calibration cells.
    situations_ : (m, 3) int
        Their categories: see `situations`.

    Examples
    --------
    >>> from fewmark import datasets
    >>> from fewmark.models.registry import make_model
    >>> table = datasets.example()
    >>> from fewmark.models.baselines.loglog import LogLogInterpolation
    >>> from fewmark.models.conformal.cross_conformal import CrossConformal
    >>> model = CrossConformal("loglog", LogLogInterpolation).fit(table, table["throughput_tok_s"])
    >>> model.predict_interval(table, 0.9).shape
    (24, 2)
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
        self.pools_deployments = point.pools_deployments  # type: ignore[misc]
        self.point = point
        self.n_folds = n_folds

    @property
    def is_cacheable(self) -> bool:
        # the code of others' predictors may change unseen
        return self.point.__module__.startswith("fewmark.")

    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from measured cells; repeats are reduced to their median."""
        X, values = median_of_repeats(X, y)
        X = X.reset_index(drop=True)
        cells = read_cells(X)
        self.support_ = Support.of(X)
        rng = np.random.default_rng(self.random_state)
        hidden = [
            *folds(cells, self.n_folds, rng),
            *rounds(cells, rng),
            *(unseen_accelerators(cells, rng) if self.pools_deployments else ()),
        ]
        parts = [self._held_out(X, values, out) for out in hidden]
        self.residuals_ = np.concatenate([residual for residual, _ in parts])
        self.situations_ = np.concatenate([situation for _, situation in parts])
        self.point_ = self._new().fit(X, values)
        return self

    def predict(self, X: pd.DataFrame) -> FloatArray:
        return self._fitted().predict(X)

    def predict_interval(self, X: pd.DataFrame, confidence_level: float = 0.9) -> FloatArray:
        require_fraction("the confidence level", confidence_level, error=ModelError)
        value, places = self.predict(X), self.support_.locate(X)
        half = np.empty(len(X))
        for rows, residuals in self._alike(places):
            half[rows] = quantile(np.abs(residuals), confidence_level)
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
        errors, weights = [], []
        for rows, residuals in self._alike(self.support_.locate(X)):
            if answered[rows].any() and len(residuals):
                errors.append(np.abs(np.expm1(-residuals)))
                weights.append(np.full(len(residuals), answered[rows].sum() / len(residuals)))
        return weighted_median(np.concatenate(errors), np.concatenate(weights)) if errors else math.nan

    def design(self, X: pd.DataFrame, n_cells: int) -> IntArray:
        return anchors(X, n_cells)

    def to_state(self) -> tuple[State, Arrays]:
        state, arrays = self._fitted().to_state()
        table = self.support_.table.astype(object).where(self.support_.table.notna(), None)
        own: State = {
            "target": self.target,
            "random_state": self.random_state,
            "n_folds": self.n_folds,
            "support": {str(name): table[name].tolist() for name in table},
            "point": state,
        }
        scores: Arrays = {"residuals": self.residuals_, "situations": self.situations_}
        return own, {**scores, **{f"point/{name}": values for name, values in arrays.items()}}

    def restore(self, state: State, arrays: Arrays) -> Self:
        """Take over what `to_state` gave."""
        self.random_state, self.n_folds = whole(state, "random_state"), whole(state, "n_folds")
        self.support_ = Support(tidy(table(state, "support")))
        self.residuals_ = floats(arrays, "residuals")
        self.situations_ = arrays["situations"].astype(np.intp, copy=False)
        if self.situations_.shape != (len(self.residuals_), 3):
            raise ModelError(f"the saved {self.name} is damaged", got=f"situations of shape {self.situations_.shape}")
        self.point_ = self.point.from_state(part(state, "point"), under(arrays, "point/"))
        return self

    @classmethod
    def from_state(cls, state: State, arrays: Arrays) -> Self:
        raise ModelError("a conformal model is restored by its name in the registry")

    def _new(self) -> PointModel:
        return self.point(target=self.target, random_state=self.random_state)

    def _fitted(self) -> PointModel:
        if not hasattr(self, "point_"):
            raise ModelError(f"the model {self.name} has not been fitted", hint="call fit(X, y) first")
        return self.point_

    def _held_out(self, X: pd.DataFrame, y: FloatArray, out: NDArray[np.bool_]) -> tuple[FloatArray, IntArray]:
        """Residuals of the cells that are left out, where the others give an answer, and their categories."""
        none = np.empty(0), np.empty((0, 3), np.intp)
        if out.all() or not out.any():
            return none
        try:
            value = self._new().fit(X[~out], y[~out]).predict(X[out])
        except ModelError:  # the cells that are left are too few for this model
            return none
        answered = np.isfinite(value) & (value > 0)
        residual = np.log(y[out][answered] / value[answered])
        return residual, situations(Support.of(X[~out]).locate(X[out]))[answered]

    def _alike(self, places: Domain) -> Iterator[tuple[IntArray, FloatArray]]:
        """Rows of one category, and the residuals of like situations: of its own, then of the nearest categories."""
        asked, row = np.unique(situations(places), axis=0, return_inverse=True)
        own, of = np.unique(self.situations_, axis=0, return_inverse=True)
        counts = np.bincount(of.ravel(), minlength=len(own))
        for number, (known, place, unknown_accelerator) in enumerate(asked):
            gap = (
                np.abs(own[:, 0] - known)
                + ELSEWHERE * (own[:, 1] != place)
                + ABROAD * (own[:, 2] != unknown_accelerator)
            )
            order = np.argsort(gap, kind="stable")
            reached = np.cumsum(counts[order]) >= MIN_SCORES
            limit = gap[order][np.argmax(reached)] if reached.any() else np.inf
            yield np.flatnonzero(row.ravel() == number), self.residuals_[gap[of.ravel()] <= limit]


def situations(places: Domain) -> IntArray:
    """The categories of cells, shape (n, 3): how many cells of the deployment are known, the place, and foreign.

    The first is ⌊log2⌋ of the count, −2 without any. The place is 0 inside the box of the known cells, 1 beyond it in
    length only, 2 beyond it in load. Foreign is 1 where the accelerator is hardly known either.
    """
    known = np.floor(np.log2(np.maximum(places.n_known, 1))).clip(max=MAX_LOG2_KNOWN)
    far = np.where(places.beyond[:, 2] > 0, 2, np.where((places.beyond[:, :2] > 0).any(axis=1), 1, 0))
    none = places.n_known == 0
    return np.asarray(np.c_[np.where(none, -2, known), np.where(none, 0, far), places.unknown_accelerator], np.intp)


def quantile(scores: FloatArray, confidence_level: float) -> float:
    """The ⌈(m + 1) · confidence_level⌉-th smallest score; infinite where m is too small for the level."""
    rank = math.ceil((len(scores) + 1) * confidence_level - 1e-9)
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else math.inf


def weighted_median(values: FloatArray, weights: AnyArray) -> float:
    """The value below which half of the weight lies."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
