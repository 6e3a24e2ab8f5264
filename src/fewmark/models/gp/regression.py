"""Gaussian-process regression with Student-t noise whose scale differs between groups of rows.

Notation, n rows:
    y (n,)      log latency minus its mean function; K (n, n) the covariance of the latent function f
    d(i)        the noise group (deployment) of row i; s_d its noise scale; nu the degrees of freedom
    w (n,)      latent precisions: y_i | f_i, w_i ~ N(f_i, s_d² / w_i), w_i ~ Gamma(nu/2, nu/2), so y_i is Student-t
    S (n,)      s_d² / w_i, the variance the row is treated with; C = K + diag(S); a = C^-1 y

Expectation step: e_i² = E[(y_i - f_i)²] = (S_i a_i)² + S_i - S_i² C^-1_ii and w_i = (nu + 1) / (nu + e_i² / s_d²).
Maximisation: s_d² = (sum_i w_i e_i² + kappa s²) / (n_d + kappa), kappa rows' worth of the common scale s; theta and s
by L-BFGS on log N(y | 0, C) plus their log priors.

Source: Rasmussen and Williams (2006), equations 2.23-2.26 and 5.9; the scale mixture and its EM as in Kuss (2006),
section 5.2 (here with the expectation over f exact, since f is Gaussian given w).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.optimize import minimize

from fewmark.core.errors import ModelError
from fewmark.models.gp.kernel import FloatArray, Inputs, Kernel, Pairs

DEGREES = 2.5
KAPPA = 4.0
NOISE_STEPS = 5  # of expectation-maximisation once the hyperparameters are fixed
FARTHEST = 50.0  # prior deviations, to which a line search that strays is turned back
NOISE_FLOOR = 1e-4  # of the scale: below a hundredth of a percent no benchmark repeats


@dataclass(frozen=True, slots=True)
class Prior:
    """Independent normal priors on theta and on the log of the common noise scale; also where the search starts."""

    mean: FloatArray
    sd: FloatArray
    noise_mean: float
    noise_sd: float


@dataclass(slots=True)
class Noise:
    """The noise model: common log scale, each group's factor on it, each row's latent precision."""

    log_scale: float
    factor: FloatArray
    precision: FloatArray

    def variance(self, group: NDArray[np.int64]) -> FloatArray:
        """S, the variance each row is treated with, (n,)."""
        scale = np.exp(self.log_scale) * self.factor[group]
        return np.asarray((scale**2 + NOISE_FLOOR**2) / self.precision)


def cholesky(matrix: FloatArray) -> FloatArray:
    """The lower factor of a symmetric matrix; adds the smallest jitter that makes it definite."""
    size = float(np.mean(np.diag(matrix)))
    for jitter in (0.0, 1e-10, 1e-8, 1e-6, 1e-4):
        trial = matrix.T.copy(order="F")  # the same matrix, and columns are copied faster than rows
        trial[np.diag_indices(len(trial))] += jitter * size
        factor, info = lapack.dpotrf(trial, lower=1, clean=1, overwrite_a=1)
        if info == 0:
            return np.asarray(factor)
    raise ModelError("the covariance of the measured cells is not positive definite", hint="report this table")


def inverse(factor: FloatArray) -> FloatArray:
    """The symmetric inverse of the matrix whose lower Cholesky factor this is."""
    out, info = lapack.dpotri(factor, lower=1)
    if info != 0:
        raise ModelError("the covariance of the measured cells is singular", hint="report this table")
    out = np.tril(out)
    return np.asarray(out + np.tril(out, -1).T)


def solve(factor: FloatArray, right: FloatArray) -> FloatArray:
    """(L L^T)^-1 right."""
    out, _ = lapack.dpotrs(factor, right, lower=1)
    return np.asarray(out)


def log_normal(y: FloatArray, covariance: FloatArray) -> float:
    """log N(y | 0, covariance) of n values, up to a constant."""
    factor = cholesky(covariance)
    return float(-0.5 * y @ solve(factor, y) - np.log(np.diag(factor)).sum())


def learn(
    kernel: Kernel,
    prior: Prior,
    inputs: Inputs,
    y: FloatArray,
    group: NDArray[np.int64],
    *,
    rounds: tuple[int, ...] = (15, 12, 12),
    start: tuple[FloatArray, float] | None = None,
) -> tuple[FloatArray, Noise]:
    """Hyperparameters and noise by alternating L-BFGS and expectation-maximisation; `rounds` are L-BFGS iterations."""
    pairs = Pairs(kernel, inputs)
    theta, log_scale = (prior.mean.copy(), prior.noise_mean) if start is None else (start[0].copy(), start[1])
    noise = Noise(log_scale, np.ones(int(group.max()) + 1), np.ones(len(y)))
    for iterations in rounds:
        unit = (noise.factor[group] ** 2) / noise.precision

        def objective(packed: FloatArray, unit: FloatArray = unit) -> tuple[float, FloatArray]:
            return _negative_log_posterior(packed, pairs, prior, y, unit)

        found = minimize(
            objective, np.append(theta, noise.log_scale), jac=True, method="L-BFGS-B",
            options={"maxiter": iterations, "maxcor": 30},
        )  # fmt: skip
        theta, noise.log_scale = found.x[:-1], float(found.x[-1])
        covariance = pairs.matrix(theta)
        covariance = covariance + np.tril(covariance, -1).T
        refresh_noise(noise, covariance, y, group, steps=3)
        # the common scale is the typical group's, not one that outliers blew up before they were known as such
        typical = float(np.median(noise.factor))
        noise.factor /= typical
        noise.log_scale += np.log(typical)
    return theta, noise


def refresh_noise(noise: Noise, covariance: FloatArray, y: FloatArray, group: NDArray[np.int64], *, steps: int) -> None:
    """Expectation-maximisation of the noise with the covariance fixed, in place."""
    counts = np.bincount(group, minlength=len(noise.factor)).astype(float)
    for _ in range(steps):
        variance = noise.variance(group)
        matrix = covariance.copy()
        matrix[np.diag_indices(len(y))] += variance
        factor = cholesky(matrix)
        a = solve(factor, y)
        root, _ = lapack.dtrtri(factor, lower=1, overwrite_c=1)
        squared = (variance * a) ** 2 + variance - variance**2 * np.einsum("ij,ij->j", root, root)
        common = np.exp(2 * noise.log_scale)
        for _ in range(3):  # precision and scale settle together at little cost
            scale2 = common * noise.factor[group] ** 2 + NOISE_FLOOR**2
            noise.precision = (DEGREES + 1) / (DEGREES + squared / scale2)
            weighted = np.bincount(group, noise.precision * squared, minlength=len(counts))
            noise.factor = np.sqrt((weighted / common + KAPPA) / (counts + KAPPA))


def _negative_log_posterior(
    packed: FloatArray, pairs: Pairs, prior: Prior, y: FloatArray, unit: FloatArray
) -> tuple[float, FloatArray]:
    theta, log_scale = packed[:-1], float(packed[-1])
    centred, noise_centred = (theta - prior.mean) / prior.sd, (log_scale - prior.noise_mean) / prior.noise_sd
    if max(np.abs(centred).max(), abs(noise_centred)) > FARTHEST:
        return 1e12, np.zeros_like(packed)
    covariance = pairs.matrix(theta)
    at = np.diag_indices(len(y))
    noise = np.exp(2 * log_scale) * unit
    covariance[at] += noise + NOISE_FLOOR**2
    factor, info = lapack.dpotrf(covariance.T, lower=0, clean=0, overwrite_a=1)
    if info != 0:
        return 1e12, np.zeros_like(packed)
    a, _ = lapack.dpotrs(factor, y, lower=0)
    log_determinant = 2 * np.log(np.diag(factor)).sum()
    inverted, _ = lapack.dpotri(factor, lower=0, overwrite_c=1)
    upper = np.triu(inverted)
    weights = 0.5 * (upper + np.triu(inverted, 1).T - np.outer(a, a))
    value = 0.5 * (y @ a + log_determinant + centred @ centred + noise_centred**2)
    slope = np.empty_like(packed)
    diagonal = weights[at].copy()
    slope[:-1] = pairs.gradient(theta, weights) + centred / prior.sd
    slope[-1] = 2 * (diagonal * noise).sum() + noise_centred / prior.noise_sd
    return float(value), slope
