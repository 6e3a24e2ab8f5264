"""Saturation parameters of pairs that nobody measured, learned from those of the pairs that were.

Notation (the ALA paper's symbols: arXiv 2505.09319, Algorithm 3)
    ii, oo   input and output length, ``input_tokens`` and ``output_tokens``: a pair
    T        rows (ii, oo, a, b, c), one a pair whose fit was successful; one T for each deployment
    M        the model that maps a pair's features to a, b, c: one regressor each

What the listing leaves open: its feature ``log_bb`` is log(1 + ii/oo) there, though no batch size enters; parameters
belong to a pair, so none can. It is taken as printed and called ``log_ratio`` here. A pair without output (oo = 0)
counts as oo = 1 in that ratio, the only feature that would be undefined.
"""

from __future__ import annotations

from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.multioutput import MultiOutputRegressor

from fewmark.models.ala.batched_trees import MAX_POINTS, boost, distinct_orders
from fewmark.models.ala.validation import unique_rows
from fewmark.tables.arrays import FloatArray, IntArray

FEATURES: Final = ("ii", "oo", "log_ii", "log_oo", "log_ratio", "ii_oo_ratio", "ii_ii_ratio")


def pair_features(pairs: FloatArray) -> FloatArray:
    """Features (k, 7) of pairs (k, 2). Pairs of another width (k, q) are described by themselves and their logarithms.

    Source: ALA, Algorithm 3, lines 2-8.
    """
    if pairs.shape[1] != 2:
        return np.hstack([pairs, np.log1p(pairs)])
    ii, oo = pairs[:, 0], pairs[:, 1]
    ratio = ii / np.where(oo > 0, oo, 1.0)
    return np.column_stack([ii, oo, np.log1p(ii), np.log1p(oo), np.log1p(ratio), ii / (oo + 1), ii / (ii + 1)])


class Learner(Protocol):
    """A regressor as scikit-learn has them."""

    def fit(self, X: FloatArray, y: FloatArray) -> Self:
        """Learn from features (k, p) and targets (k, t)."""

    def predict(self, X: FloatArray) -> FloatArray:
        """Targets (q, t) at features (q, p)."""


def fit_learner(features: FloatArray, targets: FloatArray, learner: Learner | None = None) -> Learner:
    """M on targets (k, t): XGBoost with its defaults, one model a target, or clones of another scikit-learn
    regressor."""
    if learner is not None:
        many: Learner = MultiOutputRegressor(clone(learner)).fit(features, targets)
        return many
    from xgboost import XGBRegressor

    boosted: Learner = XGBRegressor(n_jobs=1).fit(features, targets)
    return boosted


def _between(train: FloatArray, features: FloatArray) -> NDArray[np.int16]:
    """For each feature, the number of distinct training values up to each row's, in XGBoost's single precision."""
    counts = np.empty(features.shape, dtype=np.int16)
    for j, (known, asked) in enumerate(zip(train.astype(np.float32).T, features.astype(np.float32).T, strict=True)):
        counts[:, j] = np.searchsorted(np.unique(known), asked, side="right")
    return counts


class ParameterModels:
    """M of Algorithm 3, one for each deployment (Algorithm 4).

    Parameters
    ----------
    learner : None or scikit-learn regressor
        None is the paper's choice, XGBoost with its defaults. Any other is cloned for each parameter.
    """

    def __init__(self, learner: Learner | None = None) -> None:
        self.learner = learner

    def fit(self, group: IntArray, pairs: FloatArray, parameters: FloatArray) -> Self:
        """Learn from T: deployments (k,), pairs (k, 2) and parameters (k, 3)."""
        self._group, self._pairs, self._parameters = group, pairs, parameters
        self._models: dict[int, Learner] = {}
        return self

    def predict(self, group: IntArray, pairs: FloatArray) -> FloatArray:
        """Parameters a, b, c (q, 3) of distinct (deployment, pair)s, shapes (q,), (q, 2); NaN where T has no row of
        the deployment."""
        out = np.full((len(group), 3), np.nan)
        asked = np.flatnonzero(np.isin(group, self._group))
        if not len(asked):
            return out
        codes = np.unique(group[asked])
        own = np.flatnonzero(np.isin(self._group, codes))
        if self.learner is None and (len(own) + len(asked)) <= 64 * len(codes):
            points, at = np.unique(np.vstack([self._pairs[own], pairs[asked]]), axis=0, return_inverse=True)
            if len(points) <= MAX_POINTS:
                learned = self._learn_together(codes, own, points, at.ravel()[: len(own)])
                out[asked] = learned[np.searchsorted(codes, group[asked]), :, at.ravel()[len(own) :]]
                return out
        for code in codes:
            rows = asked[group[asked] == code]
            if code not in self._models:
                mine = self._group == code
                self._models[code] = fit_learner(pair_features(self._pairs[mine]), self._parameters[mine], self.learner)
            features = pair_features(pairs[rows])
            first, same = np.arange(len(rows)), np.arange(len(rows))
            if self.learner is None:
                # XGBoost cuts at the training values only: rows between the same ones get the same answer.
                first, same = unique_rows(_between(pair_features(self._pairs[self._group == code]), features))
            out[rows] = np.asarray(self._models[code].predict(features[first])).reshape(len(first), 3)[same]
        return out

    def _learn_together(self, codes: IntArray, own: IntArray, points: FloatArray, at: IntArray) -> FloatArray:
        """XGBoost's predictions for all deployments at all points at once; (deployments, 3, points)."""
        row = np.searchsorted(codes, self._group[own])
        train = np.zeros((len(codes), len(points)), dtype=bool)
        targets = np.zeros((len(codes), 3, len(points)))
        train[row, at] = True
        targets[row, :, at] = self._parameters[own]
        learned = boost(
            distinct_orders(pair_features(points)), np.repeat(train, 3, axis=0), targets.reshape(-1, len(points))
        )
        return learned.reshape(targets.shape)
