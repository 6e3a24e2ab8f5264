"""The Gaussian process given the measured cells: predictions, leave-block-out residuals, and one more measurement.

Notation: n measured cells, m asked ones; C = K + diag(S) = L L^T (n, n); y (n,) residuals to the mean function;
a = C^-1 y; P = C^-1.

    predict     mean = k_* a, variance = k(x, x) - |L^-1 k_*|²
    leave out   a block H at once: mean_H = y_H - P_HH^-1 a_H, covariance P_HH^-1 - diag(S_H); if its inputs change,
                predict by the inverse without H, P_OO - P_OH P_HH^-1 P_HO
    add         a row to L: l = L^-1 k, lambda = sqrt(k(x, x) + S - l·l)

Source: Rasmussen and Williams (2006), equations 2.25-2.26 and 5.12 (one row; the block form follows from the
partitioned inverse, their A.11); Golub and Van Loan (2013), section 6.5.4, for the added row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from fewmark.models.gp.kernel import Inputs, Kernel, Within
from fewmark.models.gp.linalg import cholesky, inverse, solve
from fewmark.tables.arrays import FloatArray

MAX_PIVOTS = 160
SAMPLE = 400
SOLVED_AT_ONCE = 16  # deployments whose pivots are solved for together
TOLERANCE = 1e-6  # of log latency squared: a tenth of a percent
JITTER = 1e-9


class Posterior:
    """A kernel with its hyperparameters, conditioned on noisy residuals.

    Parameters
    ----------
    kernel, theta : the covariance
    inputs : the n measured cells
    y : (n,) residuals
    variance : (n,) noise variance of each
    """

    def __init__(self, kernel: Kernel, theta: FloatArray, inputs: Inputs, y: FloatArray, variance: FloatArray) -> None:
        self.kernel, self.theta = kernel, theta
        self.inputs, self.y, self.variance = inputs, y, variance

    @cached_property
    def factor(self) -> FloatArray:
        """L, (n, n)."""
        return cholesky(self.kernel.matrix(self.theta, self.inputs), self.variance)

    @cached_property
    def a(self) -> FloatArray:
        """C^-1 y, (n,)."""
        return solve(self.factor, self.y)

    @cached_property
    def precision(self) -> FloatArray:
        """P = C^-1, (n, n)."""
        return inverse(self.factor)

    def predict(self, inputs: Inputs, rows: int = 4096) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the latent function at m cells, each (m,)."""
        mean, variance = np.empty(len(inputs)), np.empty(len(inputs))
        for start in range(0, len(inputs), rows):
            part = inputs.take(slice(start, start + rows))
            cross = self.kernel.matrix(self.theta, part, self.inputs)
            mean[start : start + rows] = cross @ self.a
            explained = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
            variance[start : start + rows] = self.kernel.diagonal(self.theta, part) - (explained**2).sum(0)
        return mean, np.maximum(variance, 1e-12)

    def predict_dense(
        self, groups: Sequence[Inputs], random_state: int, rows: int = 256
    ) -> list[tuple[FloatArray, FloatArray]]:
        """As `predict`, for very many cells of each of some deployments.

        Cells of one deployment share every group, so what is known of it is a smooth function of the cell alone: it is
        carried by the posterior at `pivots`, which leave of the prior variance at any asked cell less than TOLERANCE.
        The posterior at the pivots of many deployments is one solution.
        """
        out: list[tuple[FloatArray, FloatArray]] = []
        for start in range(0, len(groups), SOLVED_AT_ONCE):
            out += self._dense(groups[start : start + SOLVED_AT_ONCE], random_state, rows)
        return out

    def _dense(self, groups: Sequence[Inputs], random_state: int, rows: int) -> list[tuple[FloatArray, FloatArray]]:
        withins = [Within(self.kernel, self.theta, one.values) for one in groups]
        prior_variances = [self.kernel.diagonal(self.theta, one) for one in groups]
        pivots = [
            _pivots(within, one.values, variance, random_state)
            for within, one, variance in zip(withins, groups, prior_variances, strict=True)
        ]
        codes = [np.repeat(one.codes[:1], len(z), axis=0) for one, z in zip(groups, pivots, strict=True)]
        cross = self.kernel.matrix(self.theta, Inputs(np.vstack(pivots), np.vstack(codes)), self.inputs)
        means = cross @ self.a
        explained = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        out, end = [], 0
        for one, within, prior_variance, z in zip(groups, withins, prior_variances, pivots, strict=True):
            at, end = end, end + len(z)
            prior = self.kernel.within(self.theta, z, z)
            covariance_z = prior - explained[:, at:end].T @ explained[:, at:end]
            prior[np.diag_indices(len(z))] += JITTER
            root = cholesky(prior)
            weights = solve(root, means[at:end])
            # variance = k(x, x) - k_xz (A^-1 - A^-1 C A^-1) k_zx with A the prior and C the posterior at the pivots
            solved = solve(root, np.asfortranarray(covariance_z))
            gain = solve(root, np.asfortranarray(np.eye(len(z)) - solved.T))
            mean, variance, against_z = np.empty(len(one)), np.empty(len(one)), within.against(z)
            for start in range(0, len(one), rows):
                across = against_z(one.values[start : start + rows])
                mean[start : start + rows] = weights @ across
                variance[start : start + rows] = np.einsum("ij,ij->j", gain.T @ across, across)
            out.append((mean, np.maximum(prior_variance - variance, 1e-12)))
        return out

    def joint(self, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        """Mean (m,) and covariance (m, m) of the latent function at m cells."""
        cross = self.kernel.matrix(self.theta, inputs, self.inputs)
        explained = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        return cross @ self.a, self.kernel.matrix(self.theta, inputs) - explained.T @ explained

    def without(self, block: NDArray[np.intp], values: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Mean (h,) and covariance (h, h) of the latent function at a block of cells, given all cells but these.

        With `values` (h, q) as if those were the block's inputs, which takes the whole inverse.
        """
        if values is not None:
            inner = inverse(cholesky(self.precision[np.ix_(block, block)]))
            moved, rows = replace(self.inputs.take(block), values=values), self.precision[:, block]
            cross = self.kernel.matrix(self.theta, moved, self.inputs)
            cross[:, block] = 0.0
            weights = self.a - rows @ (inner @ self.a[block])
            solved = self.precision @ cross.T - rows @ (inner @ (rows.T @ cross.T))
            return cross @ weights, self.kernel.matrix(self.theta, moved) - cross @ solved
        if "precision" in self.__dict__:
            precision = self.precision[np.ix_(block, block)]
        else:  # a few blocks cost less than the whole inverse
            unit = np.zeros((len(self.y), len(block)), order="F")
            unit[block, np.arange(len(block))] = 1.0
            precision = solve(self.factor, unit)[block]
        covariance = inverse(cholesky(precision))
        mean = self.y[block] - covariance @ self.a[block]
        covariance[np.diag_indices(len(block))] -= self.variance[block]
        return mean, covariance

    def surprise(self, block: NDArray[np.intp]) -> float:
        """The squared Mahalanobis distance of a block's values from what all other cells foretell of them."""
        mean, _ = self.without(block)
        return float(self.a[block] @ (self.y[block] - mean))

    def add(self, inputs: Inputs, y: FloatArray, variance: FloatArray) -> Posterior:
        """This posterior with further cells measured: one row of the factor each, hyperparameters kept."""
        cross = self.kernel.matrix(self.theta, self.inputs, inputs)
        own = self.kernel.matrix(self.theta, inputs)
        own[np.diag_indices(len(own))] += variance
        n, m = len(self.y), len(y)
        lower = solve_triangular(self.factor, cross, lower=True, check_finite=False)
        factor = np.zeros((n + m, n + m), order="F")
        factor[:n, :n] = self.factor
        factor[n:, :n] = lower.T
        factor[n:, n:] = cholesky(own - lower.T @ lower)
        grown = Posterior(
            self.kernel, self.theta, self.inputs.join(inputs), np.append(self.y, y), np.append(self.variance, variance)
        )
        grown.__dict__["factor"] = factor
        return grown


def _pivots(within: Within, values: FloatArray, variance: FloatArray, random_state: int) -> FloatArray:
    """Cells of one deployment that determine the others, by pivoted Cholesky on a sample of them, (p, q).

    `variance` (m,): the prior variance of each of its m cells.
    """
    rng = np.random.default_rng(random_state)
    some = rng.permutation(len(values))[:SAMPLE] if len(values) > SAMPLE else np.arange(len(values))
    corners = np.unique(np.concatenate([values.argmin(0), values.argmax(0)]))
    at = np.concatenate([corners, some])
    sample, left = values[at], variance[at].copy()
    columns = np.zeros((len(sample), MAX_PIVOTS))
    chosen: list[int] = []
    for k in range(min(MAX_PIVOTS, len(sample))):
        best = int(np.argmax(left))
        if left[best] < TOLERANCE:
            break
        column = within.column(sample, sample[best])
        columns[:, k] = (column - columns[:, :k] @ columns[best, :k]) / np.sqrt(left[best])
        left = np.maximum(left - columns[:, k] ** 2, 0.0)
        chosen.append(best)
    return np.asarray(sample[chosen])
