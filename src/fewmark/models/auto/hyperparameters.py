"""Hyperparameters of a latency process, and the schedule by which they are learned.

Notation: t hyperparameters; theta (t,) as in `fewmark.models.gp.kernel`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from fewmark.models.auto.covariance import components, prior
from fewmark.models.auto.features import DEPLOYMENT
from fewmark.models.gp import regression
from fewmark.models.gp.kernel import Inputs, Kernel
from fewmark.tables.arrays import FloatArray, IntArray

N_FOLDS: Final = 2
MIN_DEPLOYMENTS: Final = 8  # with fewer there is no half to spare for calibration
MAX_CELLS_RATIO: Final = 10  # of cells to those learned from; beyond it the hyperparameters have seen hardly any cell
# Iterations of L-BFGS between expectations. From the folds' hyperparameters on, fewer are not enough: deployments never
# seen are predicted worse.
ITERATIONS: Final = (40, 20, 15)
FOLD_ITERATIONS: Final = (15, 12, 12)  # hyperparameters that only calibrate may be learned less far


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Learned hyperparameters: theta (t,), the log of the common noise scale, the deployments that they never saw."""

    theta: FloatArray
    log_scale: float
    unseen: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class LearningSchedule:
    """From how many cells hyperparameters are learned.

    Attributes
    ----------
    max_cells : int
        Cells drawn at random for those that predict; half as many for those of each fold, which only calibrate.
    random_state : int
        Seed of the draw and of the folds.
    """

    max_cells: int
    random_state: int

    def learn(self, inputs: Inputs, residual: FloatArray) -> list[Hyperparameters]:
        """Those learned from all deployments, then those of each fold, which never saw half of the deployments."""
        folds = self._folds(inputs.codes[:, DEPLOYMENT])
        calibrating = [self._learn(inputs, residual, self.max_cells // 2, hidden, FOLD_ITERATIONS) for hidden in folds]
        return [self._learn(inputs, residual, self.max_cells, frozenset(), ITERATIONS), *calibrating]

    def _folds(self, deployment: IntArray) -> list[frozenset[int]]:
        numbers = np.random.default_rng(self.random_state).permutation(np.unique(deployment))
        if len(numbers) < MIN_DEPLOYMENTS or len(deployment) > MAX_CELLS_RATIO * self.max_cells:
            return []
        return [frozenset(int(d) for d in numbers[k::N_FOLDS]) for k in range(N_FOLDS)]

    def _learn(
        self, inputs: Inputs, residual: FloatArray, max_cells: int, unseen: frozenset[int], rounds: tuple[int, ...]
    ) -> Hyperparameters:
        rows = np.flatnonzero(~np.isin(inputs.codes[:, DEPLOYMENT], list(unseen)))
        if len(rows) > max_cells:
            # single cells, not whole deployments: the more deployments, the better the shared scales are known
            rows = np.sort(np.random.default_rng(self.random_state).permutation(rows)[:max_cells])
        kernel = Kernel(components())
        _, group = np.unique(inputs.codes[rows, DEPLOYMENT], return_inverse=True)
        theta, noise = regression.learn(
            kernel, prior(kernel), inputs.take(rows), residual[rows], group.astype(np.int64), rounds=rounds
        )
        return Hyperparameters(theta, noise.log_scale, unseen)
