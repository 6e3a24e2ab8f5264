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

from fewmark.models.gp.kernel import Inputs, Kernel, Pairs
from fewmark.models.gp.noise import NOISE_FLOOR, Noise, refresh_noise
from fewmark.tables.arrays import FloatArray

FARTHEST = 50.0  # prior deviations, to which a line search that strays is turned back


@dataclass(frozen=True, slots=True)
class HyperPrior:
    """Independent normal priors on theta and on the log of the common noise scale; also where the search starts."""

    mean: FloatArray
    sd: FloatArray
    noise_mean: float
    noise_sd: float


def learn(
    kernel: Kernel,
    prior: HyperPrior,
    inputs: Inputs,
    y: FloatArray,
    group: NDArray[np.int64],
    *,
    rounds: tuple[int, ...] = (15, 12, 12),
    start: tuple[FloatArray, float] | None = None,
) -> tuple[FloatArray, Noise]:
    """Hyperparameters and noise by alternating L-BFGS and expectation-maximisation; `rounds` are L-BFGS iterations."""
    from scipy.optimize import minimize  # takes half a second to load, and a model that is kept never learns

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


def _negative_log_posterior(
    packed: FloatArray, pairs: Pairs, prior: HyperPrior, y: FloatArray, unit: FloatArray
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
    weights = inverted.T - np.outer(a, a)  # its lower triangle
    weights *= 0.5
    value = 0.5 * (y @ a + log_determinant + centred @ centred + noise_centred**2)
    slope = np.empty_like(packed)
    diagonal = weights[at].copy()
    slope[:-1] = pairs.gradient(theta, weights) + centred / prior.sd
    slope[-1] = 2 * (diagonal * noise).sum() + noise_centred / prior.noise_sd
    return float(value), slope
