"""The baselines that every better model has to beat: one learner over the whole table, on logarithms.

Each is what a practitioner would try first: the columns of `models.encoding.CellEncoder`, the logarithm of the target,
the library's default learner. Everything is pooled; what tells deployments apart are their names and counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
import pandas as pd

from fewmark.core.errors import ModelError
from fewmark.models.baselines.encoding import CellEncoder
from fewmark.models.baselines.trees import Forest
from fewmark.models.state import Arrays, State, floats, text, whole
from fewmark.tables.arrays import FloatArray


class Learner(Protocol):
    """What has learned from an encoded table."""

    def predict(self, matrix: FloatArray) -> FloatArray:
        """Values of shape (n,) for a matrix (n, p)."""

    def to_arrays(self) -> Arrays:
        """What it has learned, by name."""


class _LogTarget:
    """A learner on an encoded table that predicts the target's logarithm."""

    pools_deployments: ClassVar[bool] = True

    def __init__(self, *, target: str = "throughput_tok_s", random_state: int = 0) -> None:
        self.target = target
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from measured cells."""
        self.encoder_ = CellEncoder().fit(X)
        self.learner_ = self._learn(self.encoder_.transform(X), np.log(np.asarray(y, float)))
        return self

    def predict(self, X: pd.DataFrame) -> FloatArray:
        """Values of shape (n,)."""
        if not len(X):
            return np.empty(0)
        return np.asarray(np.exp(self.learner_.predict(self.encoder_.transform(X))), float)

    def to_state(self) -> tuple[State, Arrays]:
        """The encoder's names and the learner's arrays."""
        state: State = {"target": self.target, "random_state": self.random_state, **self.encoder_.to_state()}
        return state, self.learner_.to_arrays()

    @classmethod
    def from_state(cls, state: State, arrays: Arrays) -> Self:
        """The model behind `to_state`."""
        model = cls(target=text(state, "target"), random_state=whole(state, "random_state"))
        model.encoder_ = CellEncoder.from_state(state)
        model.learner_ = model._restore(arrays)
        return model

    def _learn(self, matrix: FloatArray, log_y: FloatArray) -> Learner:
        raise ModelError("a baseline needs a learner")

    def _restore(self, arrays: Arrays) -> Learner:
        return Forest.from_arrays(arrays, n_features=self.encoder_.n_features)


@dataclass(frozen=True)
class Coefficients:
    """A linear function: the constant and one coefficient for each of p columns, (1 + p,)."""

    coefficients: FloatArray

    def predict(self, matrix: FloatArray) -> FloatArray:
        """Its value for each row of an (n, p) matrix, (n,)."""
        return np.asarray(np.c_[np.ones(len(matrix)), matrix] @ self.coefficients, float)

    def to_arrays(self) -> Arrays:
        """The coefficients by name."""
        return {"coefficients": self.coefficients}


class LinearBaseline(_LogTarget):
    """Linear regression of the target's logarithm on logarithms and names, by least squares of least norm.

    Parameters
    ----------
    target : str, default "throughput_tok_s"
        The metric, in the unit of its name; rates become latencies by their definitions.
    random_state : int, default 0
        Seed of the learner.

    Attributes
    ----------
    encoder_ : CellEncoder
        Columns of numbers for the cells' columns.
    learner_ : object
        The fitted learner.

    Examples
    --------
    >>> from fewmark import datasets
    >>> from fewmark.models.registry import make_model
    >>> table = datasets.example()
    >>> model = make_model("linear").fit(table, table["throughput_tok_s"])
    >>> value = model.predict(table)
    >>> value.shape, model.predict_interval(table, 0.9).shape
    ((24,), (24, 2))
    """

    def _learn(self, matrix: FloatArray, log_y: FloatArray) -> Coefficients:
        design = np.c_[np.ones(len(matrix)), matrix]
        return Coefficients(np.asarray(np.linalg.lstsq(design, log_y, rcond=1e-10)[0], float))

    def _restore(self, arrays: Arrays) -> Coefficients:
        if arrays["coefficients"].shape != (1 + self.encoder_.n_features,):
            raise ModelError("the coefficients do not fit the columns", got=arrays["coefficients"].shape)
        return Coefficients(floats(arrays, "coefficients"))


class RandomForestBaseline(_LogTarget):
    """scikit-learn's random forest with its defaults, on the logarithm of the target.

    Parameters
    ----------
    target : str, default "throughput_tok_s"
        The metric, in the unit of its name; rates become latencies by their definitions.
    random_state : int, default 0
        Seed of the learner.

    Attributes
    ----------
    encoder_ : CellEncoder
        Columns of numbers for the cells' columns.
    learner_ : object
        The fitted learner.

    Examples
    --------
    >>> from fewmark import datasets
    >>> from fewmark.models.registry import make_model
    >>> table = datasets.example()
    >>> from fewmark.models.baselines.learners import RandomForestBaseline
    >>> model = RandomForestBaseline().fit(table, table["throughput_tok_s"])
    >>> model.predict(table).shape
    (24,)
    """

    def _learn(self, matrix: FloatArray, log_y: FloatArray) -> Forest:
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(random_state=self.random_state).fit(matrix, log_y)
        trees = [tree.tree_ for tree in forest.estimators_]
        return Forest.of(trees, base=0.0, scale=1.0 / len(trees))


class GradientBoostingBaseline(_LogTarget):
    """scikit-learn's gradient boosting with its defaults, on the logarithm of the target.

    Parameters
    ----------
    target : str, default "throughput_tok_s"
        The metric, in the unit of its name; rates become latencies by their definitions.
    random_state : int, default 0
        Seed of the learner.

    Attributes
    ----------
    encoder_ : CellEncoder
        Columns of numbers for the cells' columns.
    learner_ : object
        The fitted learner.

    Examples
    --------
    >>> from fewmark import datasets
    >>> from fewmark.models.registry import make_model
    >>> table = datasets.example()
    >>> from fewmark.models.baselines.learners import GradientBoostingBaseline
    >>> model = GradientBoostingBaseline().fit(table, table["throughput_tok_s"])
    >>> model.predict(table).shape
    (24,)
    """

    def _learn(self, matrix: FloatArray, log_y: FloatArray) -> Forest:
        from sklearn.ensemble import GradientBoostingRegressor

        boosted = GradientBoostingRegressor(random_state=self.random_state).fit(matrix, log_y)
        trees = [tree.tree_ for tree in boosted.estimators_[:, 0]]
        return Forest.of(trees, base=float(log_y.mean()), scale=boosted.learning_rate)


class XGBoostBaseline(_LogTarget):
    """XGBoost with its defaults on the logarithm of the target.

    Parameters
    ----------
    target : str, default "throughput_tok_s"
        The metric, in the unit of its name; rates become latencies by their definitions.
    random_state : int, default 0
        Seed of the learner.

    Attributes
    ----------
    encoder_ : CellEncoder
        Columns of numbers for the cells' columns.
    learner_ : object
        The fitted learner.

    Examples
    --------
    >>> from fewmark import datasets
    >>> from fewmark.models.registry import make_model
    >>> table = datasets.example()
    >>> from fewmark.models.baselines.learners import XGBoostBaseline
    >>> model = XGBoostBaseline().fit(table, table["throughput_tok_s"])
    >>> model.predict(table).shape
    (24,)
    """

    def _learn(self, matrix: FloatArray, log_y: FloatArray) -> Forest:
        import xgboost

        parameters = {"nthread": 1, "seed": self.random_state, "verbosity": 0}
        return Forest.of_booster(xgboost.train(parameters, xgboost.DMatrix(matrix, log_y), num_boost_round=100))
