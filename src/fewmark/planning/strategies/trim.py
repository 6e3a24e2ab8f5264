"""TRIM's rule (IBM ado): a space-filling start, then candidates by feature importance, until holdouts settle.

Notation: n points measured, in the order o_1 … o_n; h_t the mean absolute error (of logarithms) on the last 5 of the
first t points of a model fitted to those before them. It stops at 40 points, or once over two windows of 5 steps the
means of h have a ratio within (0.9, 1 / 0.9) and their standard deviations one below 1 / 0.75.

Source: ado-trim 2.2.5's description. Its regressor is AutoGluon, here extremely randomised trees; "ordered by feature
importance" is read as: the candidate farthest from what was measured, features stretched by their importance.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from fewmark.core.errors import InputError
from fewmark.planning.strategies.base import State, Strategy
from fewmark.planning.strategies.latin_hypercube import LatinHypercube
from fewmark.planning.strategies.space_filling import unit_cube
from fewmark.tables.arrays import FloatArray, IntArray

WINDOW: Final = 5
MEAN_RATIO: Final = 0.9
SPREAD_RATIO: Final = 0.75
N_TREES: Final = 30


class Trim(Strategy):
    """18 points of a Latin hypercube, then by importance, at most 40.

    Parameters
    ----------
    start, most : points at the start, and at most
    """

    name = "trim"

    def __init__(self, start: float = 18, most: float = 40) -> None:
        if not (start >= 2 * WINDOW and most >= start and float(start).is_integer() and float(most).is_integer()):
            raise InputError("trim needs whole numbers, start at least 10 and most at least start", got=(start, most))
        self.start, self.most = int(start), int(most)
        self._design = LatinHypercube(block=int(start))
        self._order: list[int] = []
        self._holdout: list[float] = []

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        seen = np.flatnonzero(state.observed & np.isfinite(state.latency_s))
        self._order = [cell for cell in self._order if state.observed[cell]]
        self._order += [int(cell) for cell in seen if cell not in set(self._order)]
        done = len(self._order)
        if done >= self.most or not len(candidates):
            return candidates[:0]
        if done < self.start:
            return self._design.propose(state, candidates, min(n, self.most - done))
        cube, y = unit_cube(state), np.log(state.latency_s[self._order])
        self._holdout = self._holdout[: done - self.start]
        self._holdout.append(_error(cube[self._order], y, state.random_state))
        if _settled(self._holdout):
            return candidates[:0]
        importance = _model(cube[self._order], y, state.random_state).feature_importances_
        return _farthest(cube * importance, self._order, candidates, min(n, self.most - done))


def _model(X: FloatArray, y: FloatArray, random_state: int) -> ExtraTreesRegressor:
    return ExtraTreesRegressor(N_TREES, random_state=random_state).fit(X, y)


def _error(X: FloatArray, y: FloatArray, random_state: int) -> float:
    fitted = _model(X[:-WINDOW], y[:-WINDOW], random_state)
    return float(np.abs(fitted.predict(X[-WINDOW:]) - y[-WINDOW:]).mean())


def _settled(holdout: list[float]) -> bool:
    if len(holdout) < 2 * WINDOW:
        return False
    before, after = np.array(holdout[-2 * WINDOW : -WINDOW]), np.array(holdout[-WINDOW:])
    if not before.mean() > 0:
        return True
    means, spreads = after.mean() / before.mean(), after.std() / max(before.std(), 1e-300)
    return bool(MEAN_RATIO < means < 1 / MEAN_RATIO and spreads < 1 / SPREAD_RATIO)


def _farthest(points: FloatArray, measured: list[int], candidates: IntArray, n: int) -> IntArray:
    """Candidates one after another, each the farthest from all that are measured or chosen before it."""
    distance = np.full(len(candidates), np.inf)
    for cell in measured:
        distance = np.minimum(distance, ((points[candidates] - points[cell]) ** 2).sum(axis=1))
    out: list[int] = []
    for _ in range(min(n, len(candidates))):
        best = int(np.argmax(distance))
        out.append(int(candidates[best]))
        distance = np.minimum(distance, ((points[candidates] - points[candidates[best]]) ** 2).sum(axis=1))
        distance[[int(np.flatnonzero(candidates == cell)[0]) for cell in out]] = -1.0
    return np.asarray(out, dtype=np.intp)
