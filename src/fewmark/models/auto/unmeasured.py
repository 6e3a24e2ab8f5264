"""Deployments of which nothing is measured: where there are few others, the process is averaged with trees.

What a deployment that nobody has measured shares with its relatives, a dozen deployments teach badly, and a process and
trees err in different ways there. Notation g what the process says of the log latency, t the mean of three ensembles of
trees over the table's cells (one of the latencies themselves, two of what the roofline leaves):

    g + x (t - g)

Their shares go by how large the errors of either are where other deployments are left out: with r the mean over
deployments of the log of the ratio of trees' errors to the process', and s its standard error,

    x = 1 / (1 + exp(STEEPNESS · r · r² / (r² + s²))),

one half where the two cannot be told apart: a choice by few deployments follows chance, and equal shares are hard to
beat. With more than MAX_DEPLOYMENTS the process knows better, and trees are not asked; nor where the mean function has
learned of a queue, whose knee few cells do not show to trees.

Source: shares by errors, and equal ones where little is known (Bates and Granger 1969); shrinkage by significance as in
James and Stein (1961). Random forests (Breiman 2001), extremely randomised trees
(Geurts, Ernst and Wehenkel 2006), stochastic gradient boosting (Friedman 2002).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from fewmark.models.auto.conformity_scores import LeftOut, how_many
from fewmark.models.auto.features import DEPLOYMENT, WAIT
from fewmark.models.gp.kernel import Inputs
from fewmark.tables.arrays import FloatArray, IntArray

MIN_DEPLOYMENTS: Final = 4
MAX_DEPLOYMENTS: Final = 40
STEEPNESS: Final = 3.0
PRIOR_SD: Final = 0.5  # of the log ratio of errors in one deployment
PRIOR_DEPLOYMENTS: Final = 2.0  # how many deployments that counts as
ERROR_FLOOR: Final = 0.01  # log error below which nothing is much better than anything else
LARGEST: Final = 1e6  # of a value that trees see
N_FOLDS: Final = 4
N_TREES: Final = 30
N_BOOSTED: Final = 60


def has_say(n_deployments: int, kept: FloatArray) -> bool:
    """Whether trees are asked at all; `kept` as `fewmark.models.auto.features.Features.kept` of the learned cells."""
    knows_queue = np.isfinite(kept[:, WAIT]).any()
    return bool(MIN_DEPLOYMENTS <= n_deployments <= MAX_DEPLOYMENTS and not knows_queue)


class Trees:
    """Three ensembles that learned the residuals of n cells.

    Parameters
    ----------
    cells : the n cells; axes : (n, k) where they lie
    mean : (n,) the log latency of the roofline; residual : (n,) what the cells are off it
    random_state : seed of the trees
    """

    def __init__(
        self, cells: Inputs, axes: FloatArray, mean: FloatArray, residual: FloatArray, random_state: int
    ) -> None:
        from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, RandomForestRegressor

        self.codes = cells.codes
        self.known = bool(np.isfinite(mean).all())  # a file of an older version has no mean function
        if not self.known:
            return
        plain, full = self._columns(cells, axes)
        self.forest = RandomForestRegressor(N_TREES, random_state=random_state).fit(plain, mean + residual)
        self.extra = ExtraTreesRegressor(N_TREES, min_samples_leaf=2, random_state=random_state).fit(full, residual)
        boosted = GradientBoostingRegressor(
            n_estimators=N_BOOSTED, learning_rate=0.08, subsample=0.7, random_state=random_state
        )
        self.boosted = boosted.fit(full, residual)

    def residuals(self, cells: Inputs, axes: FloatArray, mean: FloatArray) -> FloatArray:
        """The mean of what the three say of the residuals of m cells, (m,); NaN where that is nothing."""
        if not self.known:
            return np.full(len(cells), np.nan)
        plain, full = self._columns(cells, axes)
        mean = np.where(np.isfinite(mean), mean, np.nan)
        said = self.forest.predict(plain) - mean, self.extra.predict(full), self.boosted.predict(full)
        return np.asarray(np.mean(said, axis=0))

    def _columns(self, cells: Inputs, axes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Where cells lie and the names of what they run on, as numbers; and these beside the cells' own values."""
        names = [cells.codes[:, column, None] == np.unique(self.codes[:, column]) for column in range(DEPLOYMENT)]
        plain = np.hstack([axes, *(name.astype(np.float64) for name in names)])
        # of absurd lengths there are values beyond all numbers, which trees refuse
        return plain, np.hstack([np.clip(np.nan_to_num(cells.values), -LARGEST, LARGEST), plain])


def left_out_trees(
    cells: Inputs, axes: FloatArray, mean: FloatArray, residual: FloatArray, group: IntArray, random_state: int
) -> FloatArray:
    """What trees that have not seen a cell's group say of its residual, (n,); see `Trees`."""
    numbers, member = np.unique(group, return_inverse=True)
    fold = (np.random.default_rng(random_state).permutation(len(numbers)) % N_FOLDS)[member]
    out = np.full(len(residual), np.nan)
    for one in np.unique(fold):
        rows, others = np.flatnonzero(fold == one), np.flatnonzero(fold != one)
        if len(others):
            trees = Trees(cells.take(others), axes[others], mean[others], residual[others], random_state)
            out[rows] = trees.residuals(cells.take(rows), axes[rows], mean[rows])
    return out


def averaged(residual: FloatArray, trees: FloatArray, share: float) -> FloatArray:
    """The process' residuals (m,), averaged with those of trees; unchanged where these are NaN."""
    return np.where(np.isnan(trees), residual, residual + share * (trees - residual))


def learn(left: LeftOut, trees: FloatArray) -> LeftOut:
    """The left-out cells with predictions averaged as far as that pays; `trees` (k,) as their residuals."""
    at = np.flatnonzero(np.isfinite(trees))
    if not len(at):
        return left
    said = left.mixed(left.out_of_fold, left.in_sample)[at]
    process, other = (np.log(np.abs(left.truth[at] - each) + ERROR_FLOOR) for each in (said, trees[at]))
    share = _share(other - process, left.similarity_weight[at], left.deployment[at])
    out_of_fold, in_sample = (averaged(each, trees, share) for each in (left.out_of_fold, left.in_sample))
    return replace(left, out_of_fold=out_of_fold, in_sample=in_sample, shrinkage=share)


def _share(worse: FloatArray, weight: FloatArray, deployment: IntArray) -> float:
    """x by how much worse trees are than the process at left-out cells, logs of ratios (k,), which count by weight."""
    _, member = np.unique(deployment, return_inverse=True)
    total = np.maximum(np.bincount(member, weight), np.finfo(float).tiny)
    each, total = np.bincount(member, weight * worse) / total, total / total.sum()
    ratio, n = float(total @ each), float(how_many(total))
    squares = n * float(total @ (each - ratio) ** 2) + PRIOR_DEPLOYMENTS * PRIOR_SD**2
    variance = squares / (n + PRIOR_DEPLOYMENTS - 1) / n
    believed = ratio * ratio**2 / (ratio**2 + variance)
    return float(1.0 / (1.0 + np.exp(STEEPNESS * believed)))
