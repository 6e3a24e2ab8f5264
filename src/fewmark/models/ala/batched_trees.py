"""XGBoost's default regressor, restated for many tiny training sets at once.

Notation
    B problems over the same P points (training points and points to predict), F features
    rank (B, F, P)   dense rank of each point's value of a feature; only the order matters to trees
    train (B, P)     which points a problem learns from; n of them
    y (B, P)         targets, read at training points only
    G, n             sum of gradients (prediction - target) and number of training points in a node

ALA's learner sees one row per (input, output) pair, a handful. There, building an XGBoost model costs tens of
milliseconds of overhead and a few microseconds of arithmetic; the annealing builds thousands. This module does the
arithmetic for all of them side by side: gradient boosting of squared error with XGBoost's defaults (100 rounds,
learning rate 0.3, depth 6, lambda 1, minimum child weight 1, histogram cuts at the training values, base score the
mean), in single precision where XGBoost has it. The tests hold it against XGBoost itself.

Source: Chen and Guestrin, XGBoost (KDD 2016), equations 5-7; thresholds and tie-breaking as in XGBoost's ``hist``
method.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fewmark.tables.arrays import FloatArray

MAX_POINTS: Final = 16  # beyond, XGBoost itself is as cheap
_ROUNDS: Final = 100
_RATE: Final = np.float32(0.3)
_DEPTH: Final = 6
_LAMBDA: Final = 1.0
_MIN_GAIN: Final = np.float32(1e-6)  # XGBoost's kRtEps: a split must gain more


def distinct_orders(features: FloatArray) -> NDArray[np.intp]:
    """Dense ranks (F', P) of features (P, F), each order once: among features that order the points alike, XGBoost
    splits on the first, and a constant one it cannot split on."""
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in features.astype(np.float32).T])
    ranks = ranks[ranks.max(axis=1) > 0]
    if not len(ranks):
        return np.zeros((1, len(features)), dtype=np.intp)
    _, first = np.unique(ranks, axis=0, return_index=True)
    return np.asarray(ranks[np.sort(first)], dtype=np.intp)


def boost(ranks: NDArray[np.intp], train: NDArray[np.bool_], y: FloatArray) -> FloatArray:
    """Predictions at all points of all problems, shape (B, P).

    Parameters
    ----------
    ranks : int array (F, P)
        As from `distinct_orders`, shared by the problems.
    train : bool array (B, P)
        At least one True in each row.
    y : array (B, P)
    """
    n_points = train.shape[1]
    target = np.where(train, y, 0.0).astype(np.float32)
    count = train.sum(axis=1)
    base = (target.sum(axis=1, dtype=np.float64) / count).astype(np.float32)
    prediction = np.repeat(base[:, None], n_points, axis=1)
    in_line = len(ranks) == 1 and len(np.unique(ranks)) == n_points
    plan: _Line | _Cuts = _Line(ranks[0], train) if in_line else _Cuts(ranks, train)
    for _ in range(_ROUNDS):
        gradient = np.where(train, prediction - target, np.float32(0))
        prediction += plan.tree(gradient.astype(np.float64))
    return prediction.astype(np.float64)


class _Line:
    """Trees over points that every feature puts in the same order: each node is a run of neighbours.

    There are few runs, so that the sums, gains and best cuts of all of them cost less than finding out which ones a
    tree has. A run is [i, j) of the P points in order; a cut at k makes [i, k) and [k, j) of it. Problems are the last
    axis of every array, so that what is gathered lies together.
    """

    def __init__(self, rank: NDArray[np.intp], train: NDArray[np.bool_]) -> None:
        n_problems, n_points = train.shape
        self.order, self.back = np.argsort(rank), rank
        # Runs of one point come last: they have no cut.
        runs = [(i, i + length) for length in range(n_points, 0, -1) for i in range(n_points - length + 1)]
        number = {run: s for s, run in enumerate(runs)}
        self.start, self.end = np.array(runs).T
        self.longer = len(runs) - n_points
        width = max(1, n_points - 1)
        self.left, self.right, self.cut = (np.zeros((self.longer, width), dtype=np.intp) for _ in range(3))
        real = np.zeros((self.longer, width), dtype=bool)
        for s, (i, j) in enumerate(runs[: self.longer]):
            for place, k in enumerate(range(i + 1, j)):
                self.left[s, place], self.right[s, place], self.cut[s, place] = number[i, k], number[k, j], k
                real[s, place] = True
        ordered = train.T[self.order]
        counts = np.concatenate([np.zeros((1, n_problems)), np.cumsum(ordered, axis=0)])
        n = counts[self.end] - counts[self.start]
        self.weight = n + _LAMBDA
        # A cut stands at a training value and leaves training points on both sides.
        allowed = ordered[self.cut] & (n[self.left] > 0) & real[:, :, None]
        self.handicap = np.where(allowed, np.float32(0), np.float32(-np.inf))
        self.problem = np.arange(n_problems)
        self.own = np.arange(len(runs))[:, None]
        self.row = (np.arange(self.longer) * width)[:, None]
        self.position = np.arange(n_points)[:, None]
        self.depth = min(_DEPTH, n_points - 1)
        # Where a run is not cut, its cut lies beyond all points and both ways lead back to itself.
        shape = (len(runs), n_problems)
        self.next_left, self.next_right = (np.broadcast_to(self.own, shape).copy() for _ in range(2))
        self.next_cut = np.full(shape, n_points)

    def tree(self, gradient: FloatArray) -> NDArray[np.float32]:
        """One tree's contribution at every point, (B, P)."""
        sums = np.zeros((len(self.order) + 1, len(gradient)))
        np.cumsum(gradient.T[self.order], axis=0, out=sums[1:])
        total = sums[self.end] - sums[self.start]
        score = (total * total / self.weight).astype(np.float32)
        gain = score[self.left]
        gain += score[self.right]
        gain -= score[: self.longer, None]
        gain += self.handicap
        pays = gain.max(axis=1) > _MIN_GAIN
        best = gain.argmax(axis=1) + self.row
        self.next_left[: self.longer] = np.where(pays, self.left.take(best), self.own[: self.longer])
        self.next_right[: self.longer] = np.where(pays, self.right.take(best), self.own[: self.longer])
        self.next_cut[: self.longer] = np.where(pays, self.cut.take(best), len(self.order))
        at = np.zeros((len(self.order), len(gradient)), dtype=np.intp)  # the longest run, all points, is the first
        for _ in range(self.depth):
            here = at * len(gradient) + self.problem
            goes_left = self.position < self.next_cut.take(here)
            at = np.where(goes_left, self.next_left.take(here), self.next_right.take(here))
        leaf = (-total / self.weight).astype(np.float32) * _RATE
        return np.asarray(leaf.take(at * len(gradient) + self.problem)[self.back].T)


class _Cuts:
    """Trees over points that features put in different orders: each feature's cuts, and who lies left of each.

    The cut after training value v is at the next training value: points below that go left, be they trained on or not.
    """

    def __init__(self, ranks: NDArray[np.intp], train: NDArray[np.bool_]) -> None:
        self.train = train
        owner = np.concatenate([np.argsort(rank, kind="stable") for rank in ranks])
        lower = np.concatenate([rank[None, :] < np.sort(rank)[:, None] for rank in ranks])
        self.left = lower  # (C, P), in XGBoost's order of preference
        self.into_left = lower.T.astype(np.float64)
        self.at_training_value = train[:, owner]

    def tree(self, gradient: FloatArray) -> NDArray[np.float32]:
        """One tree's contribution at every point, (B, P)."""
        out = np.zeros(gradient.shape, dtype=np.float32)
        # The nodes of all problems in one list: whose they are, and which points they hold.
        problem = np.arange(len(gradient))
        member = np.ones(gradient.shape, dtype=bool)
        for depth in range(_DEPTH + 1):
            held = (member & self.train[problem]).astype(np.float64)
            pull = member * gradient[problem]
            n, total = held.sum(axis=1), pull.sum(axis=1)
            open_ = np.flatnonzero((n > 1) & (depth < _DEPTH))
            cut = np.full(len(problem), -1)
            if len(open_):
                best, pays = self._best(problem[open_], held[open_], pull[open_], n[open_], total[open_])
                cut[open_[pays]] = best[pays]
            leaf = cut < 0
            weight = (-total[leaf] / (n[leaf] + _LAMBDA)).astype(np.float32) * _RATE
            node, point = np.nonzero(member[leaf])
            out[problem[leaf][node], point] = weight[node]
            split = ~leaf
            if not split.any():
                break
            goes_left, inside = self.left[cut[split]], member[split]
            problem = np.concatenate([problem[split], problem[split]])
            member = np.concatenate([inside & goes_left, inside & ~goes_left])
        return out

    def _best(
        self, problem: NDArray[np.intp], held: FloatArray, pull: FloatArray, n: FloatArray, total: FloatArray
    ) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Each node's best cut, and whether it gains enough."""
        n_left, left = held @ self.into_left, pull @ self.into_left
        n_right, right = n[:, None] - n_left, total[:, None] - left
        gain = (left * left / (n_left + _LAMBDA)).astype(np.float32)
        gain += (right * right / (n_right + _LAMBDA)).astype(np.float32)
        gain -= (total * total / (n + _LAMBDA)).astype(np.float32)[:, None]
        gain[~self.at_training_value[problem] | (n_left < 1) | (n_right < 1)] = -1
        best = gain.argmax(axis=1)
        return best, gain[np.arange(len(best)), best] > _MIN_GAIN
