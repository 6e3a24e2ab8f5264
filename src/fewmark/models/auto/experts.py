"""Deployments that `auto` solves together: one exact posterior, its noise, and its calibration.

Exact inference costs the cube of the cells, so very many cells are partitioned into local experts of related
deployments (`partition`), each exact by itself under the same hyperparameters; the cost then grows with their number. A
deployment asked for is answered by its own expert, one never seen by the expert that knows its relatives best.

Source: a product-of-experts layout without the product (Deisenroth and Ng 2015 call the parts local experts); relatives
share an expert, so that little is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Final

import numpy as np

from fewmark.models.auto import extrapolation, unmeasured
from fewmark.models.auto.conformity_scores import LeftOut
from fewmark.models.auto.covariance import components
from fewmark.models.auto.covariance import own as own_covariance
from fewmark.models.auto.extrapolation import beyond, parametric_at
from fewmark.models.auto.features import ACCELERATOR, DEPLOYMENT, OWN
from fewmark.models.auto.fold import Fold
from fewmark.models.auto.hyperparameters import Hyperparameters
from fewmark.models.auto.inflation import inflation
from fewmark.models.auto.leave_out import DEVICES, Calibrator
from fewmark.models.auto.unmeasured import Trees
from fewmark.models.gp.amplitude import amplitude, is_unusual
from fewmark.models.gp.kernel import Inputs, Kernel
from fewmark.models.gp.linalg import cholesky
from fewmark.models.gp.noise import NOISE_FLOOR, Noise, settle_noise
from fewmark.models.gp.posterior import Posterior
from fewmark.models.state import Arrays
from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.identity import rows_by_group

NOISE_ROUNDS: Final = 2  # inverses until the noise is stationary
WHOLE_INVERSE_SHARE: Final = 0.3  # of the cells in blocks, from which the whole inverse costs less than theirs
UNKNOWN: Final = -1  # the number of any deployment of which nothing is measured
MIN_DENSE_CELLS: Final = 400  # asked of one deployment, from which it pays to compress what is known of it


def partition(codes: IntArray, max_cells: int) -> IntArray:
    """The expert of each cell, (n,): whole deployments, relatives together; at most about `max_cells` with one.

    Several experts are of half that size each: a quarter of the memory, and relatives beyond a thousand cells add
    little.
    """
    if len(codes) <= max_cells:
        return np.zeros(len(codes), dtype=np.int64)
    max_cells = max(1, max_cells // 2)
    engine, accelerator, model = codes[:, 0], codes[:, ACCELERATOR], codes[:, 2]
    order = np.lexsort([codes[:, DEPLOYMENT], model, engine, accelerator])
    expert = np.empty(len(codes), dtype=np.int64)
    expert[order] = np.arange(len(codes)) // max_cells
    numbers, first, group = np.unique(codes[:, DEPLOYMENT], return_index=True, return_inverse=True)
    return np.asarray(expert[first][group] if len(numbers) else expert)


class LocalExpert:
    """Cells solved together.

    Parameters
    ----------
    hyper : what predicts; folds : what calibrates
    inputs, residual, axes : the cells, as in `features.Features`
    random_state : seed of the calibration's choices
    kept : the mean function at the cells (n,) and what a closed loop tells (n, k), side by side, (n, 1 + k); NaN if
        unknown
    whole : whether the latency is that of whole requests, from end to end
    noise : ((n,), (n,)), optional
        Each row's noise variance and its deployment's noise scale, where they are known already.
    """

    def __init__(
        self,
        hyper: Hyperparameters,
        folds: Sequence[Hyperparameters],
        inputs: Inputs,
        residual: FloatArray,
        axes: FloatArray,
        kept: FloatArray,
        random_state: int,
        noise: tuple[FloatArray, FloatArray] | None = None,
        *,
        whole: bool,
    ) -> None:
        self.hyper, self.folds, self.random_state, self.whole = hyper, folds, random_state, whole
        self.kernel = Kernel(components())
        self.axes, self.kept = axes, kept
        if noise is None:
            self.posterior, self.noise = self._solve(hyper, inputs, residual)
        else:
            self.posterior, self.noise = Posterior(self.kernel, hyper.theta, inputs, residual, noise[0]), noise[1]
        self.members = rows_by_group(inputs.codes[:, DEPLOYMENT])
        self._inflations: dict[int, float] = {}

    @cached_property
    def calibrator(self) -> Calibrator:
        """Scores from all deployments of the expert; made when the first interval is asked for."""
        posterior, noise = self.posterior, self.noise
        main = Fold(self.hyper.log_scale, frozenset(self.members), lambda: (posterior, noise))
        folds = [
            Fold(hyper.log_scale, hyper.unseen, partial(self._solve_alike, hyper, posterior, noise))
            for hyper in self.folds
        ]
        codes = posterior.inputs.codes
        return Calibrator(
            main, folds or [main], self.axes, self.kept, codes[:, DEPLOYMENT], codes[:, ACCELERATOR], self.random_state,
            whole=self.whole,
        )  # fmt: skip

    @cached_property
    def trees(self) -> Trees:
        """What is asked beside the process of a deployment of which nothing is known."""
        return Trees(self.posterior.inputs, self.axes, self.kept[:, 0], self.posterior.y, self.random_state)

    def add(self, inputs: Inputs, residual: FloatArray, axes: FloatArray, kept: FloatArray, noise: FloatArray) -> None:
        """Further cells under the same hyperparameters; calibration goes on by the cells that it knew."""
        calibrator = self.__dict__.get("calibrator")
        self.posterior = self.posterior.add(inputs, residual, noise**2)
        self.axes, self.kept = np.vstack([self.axes, axes]), np.vstack([self.kept, kept])
        self.noise = np.append(self.noise, noise)
        self.members = rows_by_group(self.posterior.inputs.codes[:, DEPLOYMENT])
        self._inflations = {}
        self.__dict__.pop("trees", None)
        if calibrator is not None:
            self.__dict__["calibrator"] = calibrator

    def inflation(self, deployment: int) -> float:
        """The factor on a deployment's standard deviations, by how unlike its relatives it is; 1 if unknown."""
        if deployment not in self.members:
            return 1.0
        if deployment not in self._inflations:
            rows = self.members[deployment]
            self._inflations[deployment] = inflation(self.posterior.surprise(rows), len(rows))
        return self._inflations[deployment]

    def n_worked_out(self) -> int:
        """For how many situations cells were left out, and of how many deployments the inflation is known."""
        calibrator = self.__dict__.get("calibrator")
        return len(self._inflations) + (0 if calibrator is None else calibrator.n_situations)

    def worked_out(self) -> Arrays:
        """What was left out so far, and each deployment's inflation, as arrays."""
        calibrator = self.__dict__.get("calibrator")
        arrays = {} if calibrator is None else calibrator.to_arrays()
        arrays["deployment"] = np.array(list(self._inflations), dtype=np.int64)
        arrays["inflation"] = np.array(list(self._inflations.values()), dtype=np.float64)
        return arrays

    def recall(self, arrays: Arrays) -> None:
        """Take over what `worked_out` gave, of the same cells."""
        self._inflations = dict(zip(arrays["deployment"].tolist(), arrays["inflation"].tolist(), strict=True))
        if "situation" in arrays:
            self.calibrator.recall(arrays)

    def known(self, deployment: int) -> FloatArray:
        """Where a deployment's measured cells lie, (k, 3 or more)."""
        return self.axes[self.members.get(deployment, np.zeros(0, dtype=np.intp))]

    def left_out(self, deployment: int, inputs: Inputs) -> LeftOut:
        """Cells of others left out as if of each only such cells as of this deployment were known.

        `inputs` is one of its asked cells or more.
        """
        return self.calibrator.left_out(*self._situation(deployment, inputs))

    def prepare(self, asked: Iterable[tuple[int, Inputs]]) -> None:
        """Leave out at once what `left_out` needs for these deployments, of each `inputs` as there."""
        self.calibrator.prepare([self._situation(deployment, inputs) for deployment, inputs in asked])

    def _situation(self, deployment: int, inputs: Inputs) -> tuple[int, int, float, FloatArray]:
        accelerator, devices = int(inputs.codes[0, ACCELERATOR]), float(inputs.values[0, DEVICES])
        # deployments of which nothing is known share a situation
        number = deployment if deployment in self.members else UNKNOWN
        return number, accelerator, devices, self.known(deployment)

    def shrunk(
        self, deployment: int, inputs: Inputs, axes: FloatArray, log_latency: FloatArray, sd: FloatArray
    ) -> FloatArray:
        """The log latency (m,) of a deployment's asked cells, shrunk towards its own parametric fit at far loads.

        `inputs` as for `left_out`; `sd` (m,): standard deviations before inflation (see `models.auto.extrapolation`).
        """
        if not self.is_extrapolated(deployment, axes):
            return log_latency
        octaves = beyond(axes, self.known(deployment))[:, 1]
        parametric = parametric_at(self.posterior, self.axes, self.kept, self.members[deployment], axes)
        if np.isnan(parametric).all():
            return log_latency
        share = self.left_out(deployment, inputs).shrinkage
        return extrapolation.shrunk(log_latency, parametric, sd * self.inflation(deployment), octaves, share)

    def averaged(
        self, deployment: int, inputs: Inputs, axes: FloatArray, log_roofline: FloatArray, log_latency: FloatArray
    ) -> FloatArray:
        """The log latency (m,) of cells asked of a deployment, averaged with trees' where nothing of it is known.

        `log_roofline` (m,): the mean function (see `models.auto.unmeasured`).
        """
        if deployment in self.members or not unmeasured.has_say(len(self.members), self.kept):
            return log_latency
        said = self.trees.residuals(inputs, axes, log_roofline)
        share = self.left_out(deployment, inputs).shrinkage
        return log_roofline + unmeasured.averaged(log_latency - log_roofline, said, share)

    def is_extrapolated(self, deployment: int, axes: FloatArray) -> bool:
        """Whether any of a deployment's cells at these axes lies at a load beyond its known ones."""
        loads = self.known(deployment)[:, 2]
        if not self.whole or not len(loads):
            return False
        return bool(axes[:, 2].max() > loads.max() or axes[:, 2].min() < loads.min())

    def similarity_weight(self, codes: IntArray) -> float:
        """How much of the expert is related to a deployment with these group codes."""
        same = self.posterior.inputs.codes[:, :3] == codes[:3]
        return float(same[:, ACCELERATOR].mean() * 4 + same.all(1).mean() + same.mean())

    def latent(self, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the latent function at m cells; where densely asked, compressed."""
        mean, variance = np.empty(len(inputs)), np.empty(len(inputs))
        groups = list(rows_by_group(inputs.codes[:, DEPLOYMENT]).values())
        sparse = [rows for rows in groups if len(rows) < MIN_DENSE_CELLS]
        dense = [rows for rows in groups if len(rows) >= MIN_DENSE_CELLS]
        said = self.posterior.predict_dense([inputs.take(rows) for rows in dense], self.random_state)
        for rows, (some, doubt) in zip(dense, said, strict=True):
            mean[rows], variance[rows] = some, doubt
        if sparse:
            rows = np.concatenate(sparse)
            mean[rows], variance[rows] = self.posterior.predict(inputs.take(rows))
        return mean, variance

    def _solve(self, hyper: Hyperparameters, inputs: Inputs, residual: FloatArray) -> tuple[Posterior, FloatArray]:
        """The posterior, with each deployment's noise and amplitude of its own terms; noise scales (n,)."""
        inputs = replace(inputs, values=inputs.values.copy())
        inputs.values[:, OWN] = 1.0
        _, group = np.unique(inputs.codes[:, DEPLOYMENT], return_inverse=True)
        group = group.astype(np.int64)
        matrix = self.kernel.matrix(hyper.theta, inputs)
        noise = Noise(hyper.log_scale, np.ones(int(group.max()) + 1), np.ones(len(group)))
        settle_noise(noise, matrix, residual, group, steps=NOISE_ROUNDS)
        variance = noise.variance(group)
        usual = Posterior(self.kernel, hyper.theta, inputs, residual, variance)
        usual.__dict__["factor"] = cholesky(matrix, variance)
        unusual = False
        suspects = {
            number: rows
            for number, rows in rows_by_group(group).items()
            if is_unusual(noise.precision[rows], float(noise.factor[number]))
        }
        if sum(map(len, suspects.values())) > WHOLE_INVERSE_SHARE * len(group):
            _ = usual.precision  # at once costs less than for each
        for number, rows in suspects.items():
            mean, covariance = usual.without(rows)
            own = own_covariance(self.kernel, hyper.theta, inputs.values[rows])
            found, own_noise = amplitude(residual[rows] - mean, covariance, own, hyper.log_scale)
            if found != 1.0:
                unusual = True
                inputs.values[rows, OWN] = found
                matrix[np.ix_(rows, rows)] += (found**2 - 1) * own
                variance[rows] = own_noise.variance(np.zeros(len(rows), dtype=np.int64))
                noise.factor[number] = own_noise.factor[0]
        if unusual:
            usual = Posterior(self.kernel, hyper.theta, inputs, residual, variance)
            usual.__dict__["factor"] = cholesky(matrix, variance)
        return usual, np.exp(hyper.log_scale) * noise.factor[group]

    def _solve_alike(
        self, hyper: Hyperparameters, found: Posterior, scales: FloatArray
    ) -> tuple[Posterior, FloatArray]:
        """The posterior under other hyperparameters, its noise and amplitudes near those found; noise scales (n,)."""
        residual = found.y
        _, first, group = np.unique(found.inputs.codes[:, DEPLOYMENT], return_index=True, return_inverse=True)
        group = group.astype(np.int64)
        matrix = self.kernel.matrix(hyper.theta, found.inputs)
        precision = (scales**2 + NOISE_FLOOR**2) / found.variance
        noise = Noise(hyper.log_scale, scales[first] / np.exp(hyper.log_scale), precision)
        settle_noise(noise, matrix, residual, group, steps=1)
        variance = noise.variance(group)
        posterior = Posterior(self.kernel, hyper.theta, found.inputs, residual, variance)
        posterior.__dict__["factor"] = cholesky(matrix, variance)
        return posterior, np.exp(hyper.log_scale) * noise.factor[group]

    def forget(self) -> None:
        """Drop what can be computed again."""
        for name in ("factor", "precision", "a"):
            self.posterior.__dict__.pop(name, None)
