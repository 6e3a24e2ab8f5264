"""How wrong ALA will be on data that nobody has measured: learned from the annealing's log.

Notation (the ALA paper's symbols: arXiv 2505.09319, Algorithms 7 and 8)
    L         the log: subsets S and their errors, M in the listings, here ``error``
    X_new     a table's values of ii, bb and oo as 0 and 1 over all the values that the annealing knew
    F         the error predictor, XGBoost on these encodings
    d, c      as in `similarity`; c, the paper's confidence, is published as ``similarity``

What the paper leaves open, and what is done here: values of the new table that the annealing never knew have no bit
in the encoding and are left out of it, their number is told; the listing encodes combinations, a vector of them for a
table of several deployments: here each deployment is one. Log entries without an error teach nothing and are left
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from fewmark.core.errors import ModelError
from fewmark.models.ala.annealing.log import AnnealingLog
from fewmark.models.ala.histogram_similarity import similarity, subset_distances
from fewmark.models.ala.validation import AlaInputError, check_positive
from fewmark.tables.arrays import FloatArray


class ErrorPredictor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """The error of a training subset from its binary encoding. Source: ALA, Algorithm 7.

    Parameters
    ----------
    random_state : int, default 0
        XGBoost's seed; its defaults draw nothing.

    Attributes
    ----------
    learner_ : xgboost.XGBRegressor
    """

    def __init__(self, *, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn errors y (n,) of encodings X (n, number of values), as from `AnnealingLog.encode`."""
        from xgboost import XGBRegressor

        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        self.learner_ = XGBRegressor(n_jobs=1, random_state=self.random_state).fit(X, y)
        return self

    def fit_log(self, log: AnnealingLog) -> Self:
        """Learn from a log. Raises `ModelError` if none of its entries has an error."""
        if not log.known.any():
            raise ModelError("the log has no subset with an error to learn from", got=f"{len(log)} entries")
        return self.fit(log.encode()[log.known], log.error[log.known])

    def predict(self, X: ArrayLike) -> FloatArray:
        """Predicted errors (n,) of encodings X, in the unit learned."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return np.asarray(self.learner_.predict(X), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class ErrorForecast:
    """What to expect of ALA on an unseen table, one entry a deployment of it.

    Attributes
    ----------
    error : array (g,)
        Predicted errors, in the unit of the log (percent by default).
    similarity : array (g,)
        1 / (1 + d_min), in [1/2, 1]: the paper's confidence, and no probability.
    nearest : int array (g,)
        The log entry that is nearest.
    n_unknown : int array (g,)
        Values of ii, oo and bb that the annealing did not know.
    """

    error: FloatArray
    similarity: FloatArray
    nearest: NDArray[np.intp]
    n_unknown: NDArray[np.intp]


def forecast_error(
    predictor: ErrorPredictor,
    log: AnnealingLog,
    known_X: ArrayLike,
    known_y: ArrayLike,
    new_X: ArrayLike,
    new_y: ArrayLike,
    new_deployment: ArrayLike | None = None,
    *,
    n_bins: int = 10,
    scale: str = "linear",
) -> ErrorForecast:
    """Predict ALA's error on an unseen table and say how like the annealed data it is. Source: ALA, Algorithm 8.

    Parameters
    ----------
    predictor : fitted ErrorPredictor
    log : AnnealingLog
        Of the annealing of the known table.
    known_X, known_y : arrays (N, 3), (N,)
        The annealed table: ii, oo, bb and throughput.
    new_X, new_y : arrays (m, 3), (m,)
        The unseen one.
    new_deployment : int array (m,), optional
        Which deployment each of its rows belongs to; one by default.
    n_bins, scale : as `similarity.subset_distances` takes them

    Raises
    ------
    AlaInputError
        If shapes or values are wrong.
    """
    known, new = _table(known_X, known_y), _table(new_X, new_y)
    groups = np.zeros(len(new), dtype=np.intp) if new_deployment is None else np.asarray(new_deployment)
    if groups.shape != (len(new),):
        raise AlaInputError("new_deployment must have one entry a row", got=groups.shape)
    entries, first = np.unique(log.subsets, axis=0, return_index=True)
    in_values = np.array([np.searchsorted(log.values[j], known[:, j]) for j in range(3)])
    sizes = [len(values) for values in log.values]
    bits = in_values + np.cumsum([0, *sizes[:-1]])[:, None]
    if any((i >= size).any() for i, size in zip(in_values, sizes, strict=True)):
        raise AlaInputError("the known table has values that the log does not know", hint="give the annealed table")
    trained = np.asarray(entries[:, bits].all(axis=1))
    codes = np.unique(groups)
    error, like = np.zeros((2, len(codes)))
    nearest, unknown = np.zeros((2, len(codes)), dtype=np.intp)
    for row, code in enumerate(codes):
        table = new[groups == code]
        signature = np.concatenate([np.isin(values, table[:, j]) for j, values in enumerate(log.values)])
        unknown[row] = sum((~np.isin(np.unique(table[:, j]), values)).sum() for j, values in enumerate(log.values))
        error[row] = predictor.predict(log.encode(signature[None]))[0]
        distances = subset_distances(known, trained, table, n_bins=n_bins, scale=scale)
        best = int(distances.argmin())
        like[row], nearest[row] = similarity(float(distances[best])), first[best]
    return ErrorForecast(error=error, similarity=like, nearest=nearest, n_unknown=unknown)


def _table(X: ArrayLike, y: ArrayLike) -> FloatArray:
    X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    if X.ndim != 2 or X.shape[1] != 3 or y.shape != (len(X),) or not len(X):
        raise AlaInputError("X must have columns ii, oo, bb and y one value a row", got=f"{X.shape} and {y.shape}")
    check_positive(y)
    return np.column_stack([X, y])
