"""What is foretold of some cells of a block as if they were not known, by all other cells and those that stay.

The hidden cells were fitted with the others, so whatever is learned from values is estimated anew without them: the
noise, the amplitude of a deployment's own covariance, and how many users a deployment serves at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fewmark.models.analytic.batch_limits import SEQUENCES, STEP, log_waves
from fewmark.models.analytic.closed_loop import TOLD, log2_users, reach_of_few
from fewmark.models.analytic.queueing import expected_waiting
from fewmark.models.auto.block_forecasts import Block, foretell
from fewmark.models.auto.covariance import own as own_covariance
from fewmark.models.auto.extrapolation import length_load
from fewmark.models.auto.features import COLUMNS, OWN, WAIT
from fewmark.models.auto.fold import Fold
from fewmark.models.auto.inflation import DEGREES, inflation
from fewmark.models.gp.amplitude import amplitude, is_unusual
from fewmark.models.gp.linalg import cholesky, inverse, solve
from fewmark.models.gp.noise import NOISE_STEPS, Noise, refresh_noise
from fewmark.models.gp.posterior import Posterior
from fewmark.tables.arrays import FloatArray, IntArray

MAX_REVISED = 1500  # cells; with more, hiding a few changes little and costs much
PRESSURE_TOLERANCE = 0.02  # octaves
PRESSURE = COLUMNS.index("pressure")
WHOLE_INVERSE_SHARE = 0.3  # of the cells, in blocks whose inverse is wanted, from which the whole inverse costs less

Task = tuple[Fold, NDArray[np.intp], NDArray[np.bool_]]  # who foretells, a block's rows, which of them stay
Asked = tuple[int, int, int, bytes]  # number of the fold, first row and length of a block, which of its cells stay


class HiddenCells:
    """Forecasts of cells that are hidden, each made once.

    Parameters
    ----------
    main, folds, axes, kept, deployment : as of `fewmark.models.auto.leave_out.Calibrator`
    """

    def __init__(
        self, main: Fold, folds: Sequence[Fold], axes: FloatArray, kept: FloatArray, deployment: IntArray
    ) -> None:
        self.main, self.folds, self.axes, self.kept, self.deployment = main, folds, axes, kept, deployment
        self._numbers = {id(fold): number for number, fold in enumerate((main, *folds))}
        self._latent: dict[tuple[int, int, int], tuple[FloatArray, FloatArray, FloatArray]] = {}
        self._foretold: dict[Asked, tuple[FloatArray, FloatArray]] = {}

    def foretell_many(self, tasks: Iterable[Task]) -> None:
        """Foretell all of these at once, as far as `as_if` does not know them; each block of one deployment."""
        wanted = {key: task for task in tasks if (key := self._key(*task)) not in self._foretold}
        for fold in (self.main, *self.folds):
            asked = {self._key_of_block(one, rows) for one, rows, _ in wanted.values() if one is fold}
            if sum(length for _, _, length in asked - set(self._latent)) > WHOLE_INVERSE_SHARE * len(self.axes):
                _ = fold.posterior.precision  # at once costs less than for each block
        keys, blocks = [], []
        for key, (fold, rows, stay) in wanted.items():
            if self._as_known(fold.posterior.inputs.values, rows, stay) is not None:
                continue  # by itself, when it is asked for
            alone = np.zeros(len(rows), dtype=np.int64)
            mean, covariance, own = self._usual_of(fold, rows, alone)
            keys.append(key)
            blocks.append(Block(mean, covariance, own, fold.posterior.y[rows], stay, fold.log_scale))
        self._foretold |= zip(keys, foretell(blocks, DEGREES), strict=True)

    def _key_of_block(self, fold: Fold, rows: NDArray[np.intp]) -> tuple[int, int, int]:
        return self._numbers[id(fold)], int(rows[0]), len(rows)

    def _key(self, fold: Fold, rows: NDArray[np.intp], stay: NDArray[np.bool_]) -> Asked:
        return *self._key_of_block(fold, rows), stay.tobytes()

    def as_if(self, fold: Fold, rows: NDArray[np.intp], stay: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        """Mean and inflated variance (with noise) of the cells that do not stay, given those that do and all others'.

        The noise of what stays, and the amplitude of each deployment's own covariance, are estimated anew: the fitted
        ones know the values that are hidden here.
        """
        key = self._key(fold, rows, stay)
        if key not in self._foretold:  # many deployments are known at like cells
            _, group = np.unique(self.deployment[rows], return_inverse=True)
            self._foretold[key] = self._foretell(fold, rows, stay, group.astype(np.int64))
        return self._foretold[key]

    def _foretell(
        self, fold: Fold, rows: NDArray[np.intp], stay: NDArray[np.bool_], group: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        revised = self._as_known(fold.posterior.inputs.values, rows, stay)
        if revised is not None:
            values, shift, waiting = revised
            mean, covariance, own = self._usual(fold.posterior, rows, group, values)
            mean, covariance = mean + shift, covariance + np.diag(waiting)  # beside another mean function
        else:
            mean, covariance, own = self._usual_of(fold, rows, group)
        noise = Noise(fold.log_scale, np.ones(int(group.max()) + 1), np.ones(int(stay.sum())))
        if not stay.any():
            return mean, np.diag(covariance) + float(np.median(fold.noise)) ** 2
        known, across = covariance[np.ix_(stay, stay)], covariance[np.ix_(~stay, stay)]
        y = fold.posterior.y[rows][stay] - mean[stay]
        refresh_noise(noise, known, y, group[stay], steps=NOISE_STEPS)
        for number in range(len(noise.factor)):
            inside = group[stay] == number
            if not is_unusual(noise.precision[inside], float(noise.factor[number])):
                continue
            at = np.ix_(inside, inside)
            found, own_noise = amplitude(y[inside], known[at], own[np.ix_(stay, stay)][at], fold.log_scale)
            noise.factor[number], noise.precision[inside] = own_noise.factor[0], own_noise.precision
            covariance = covariance + (found**2 - 1) * own * (group == number)[:, None]
        known, across = covariance[np.ix_(stay, stay)], covariance[np.ix_(~stay, stay)]
        factor = cholesky(known + np.diag(noise.variance(group[stay])))
        weights, inner = solve(factor, y), inverse(factor)
        unlike = np.ones(len(noise.factor))  # the factor on each deployment's standard deviations
        for number in np.unique(group[stay]):
            own_rows = np.flatnonzero(group[stay] == number)
            own_weights = weights[own_rows]
            distance = own_weights @ solve(cholesky(inner[np.ix_(own_rows, own_rows)]), own_weights)
            unlike[number] = inflation(float(distance), len(own_rows))
        scale = np.exp(noise.log_scale) * noise.factor[group[~stay]]
        explained = (across * solve(factor, np.asfortranarray(across.T)).T).sum(1)
        variance = np.diag(covariance)[~stay] - explained + scale**2
        return mean[~stay] + across @ weights, np.maximum(variance, 1e-12) * unlike[group[~stay]] ** 2

    def _as_known(
        self, inputs: FloatArray, rows: NDArray[np.intp], stay: NDArray[np.bool_]
    ) -> tuple[FloatArray, FloatArray, FloatArray] | None:
        """A block's inputs as they would be if only the cells that stay were known; None where that changes nothing.

        With them by how much the mean function is then another, and the variance of the wait larger, (k,) each. How
        many users a deployment serves at once is learned from its cells, the hidden ones among them.
        """
        if len(inputs) > MAX_REVISED or np.isnan(self.kept[rows, 1]).all():
            return None
        values, shift, waiting = inputs[rows].copy(), np.zeros(len(rows)), np.zeros(len(rows))
        for number in np.unique(self.deployment[rows]):
            own = np.flatnonzero(self.deployment[rows] == number)
            length, load = length_load(self.axes[rows[own]]).T
            told, users = self.kept[rows[own], 1 : 1 + TOLD], np.exp2(load)
            if np.isnan(told[:, 1]).any() or np.isnan(told[~stay[own], 0]).all():
                continue
            told[~stay[own], 0] = np.nan
            values[own, PRESSURE], wait, variance = queued(reach_of_few(told, users, length), users, told[:, 1])
            if not np.isnan(self.kept[rows[own], WAIT]).any():
                shift[own] = wait - self.kept[rows[own], WAIT]
                waiting[own] = variance - self.kept[rows[own], WAIT + 1]
        changed = max(np.abs(values - inputs[rows]).max(), np.abs(shift).max())
        return (values, shift, waiting) if changed > PRESSURE_TOLERANCE else None

    def _usual_of(
        self, fold: Fold, rows: NDArray[np.intp], group: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        key = self._key_of_block(fold, rows)
        if key not in self._latent:
            self._latent[key] = self._usual(fold.posterior, rows, group)
        return self._latent[key]

    @staticmethod
    def _usual(
        posterior: Posterior, rows: NDArray[np.intp], group: IntArray, values: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean and covariance of a block given all other cells, with all amplitudes 1, and the own part of it."""
        mean, covariance = posterior.without(rows, values)
        values = posterior.inputs.values[rows] if values is None else values
        own = own_covariance(posterior.kernel, posterior.theta, values) * (group[:, None] == group)
        return mean, covariance - (values[:, OWN, None] ** 2 - 1) * own, own


def queued(reach: FloatArray, users: FloatArray, log_x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Octaves by which users outnumber the batch; mean and variance of the log of what waiting multiplies, (n,)."""
    pressure = log_waves(users, log2_users(reach)) / np.log(2.0)
    return pressure, *expected_waiting(reach, users, SEQUENCES, STEP, log_x)
