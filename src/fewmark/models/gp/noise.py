"""Student-t noise whose scale differs between groups of rows; notation and source as in `regression`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewmark.models.gp.linalg import cholesky, inverse_diagonal, solve
from fewmark.tables.arrays import FloatArray

DEGREES = 2.5
KAPPA = 4.0
NOISE_STEPS = 5  # of expectation-maximisation once the hyperparameters are fixed
SETTLING = 8  # turns of a row's noise by itself between two inverses
NOISE_FLOOR = 1e-4  # of the scale: below a hundredth of a percent no benchmark repeats


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


def refresh_noise(noise: Noise, covariance: FloatArray, y: FloatArray, group: NDArray[np.int64], *, steps: int) -> None:
    """Expectation-maximisation of the noise with the covariance fixed, in place."""
    counts = np.bincount(group, minlength=len(noise.factor)).astype(float)
    for _ in range(steps):
        variance = noise.variance(group)
        factor = cholesky(covariance, variance)
        a = solve(factor, y)
        squared = (variance * a) ** 2 + variance - variance**2 * inverse_diagonal(factor)
        common = np.exp(2 * noise.log_scale)
        for _ in range(3):  # precision and scale settle together at little cost
            scale2 = common * noise.factor[group] ** 2 + NOISE_FLOOR**2
            noise.precision = (DEGREES + 1) / (DEGREES + squared / scale2)
            weighted = np.bincount(group, noise.precision * squared, minlength=len(counts))
            noise.factor = np.sqrt((weighted / common + KAPPA) / (counts + KAPPA))


def settle_noise(noise: Noise, covariance: FloatArray, y: FloatArray, group: NDArray[np.int64], *, steps: int) -> None:
    """As `refresh_noise` with fewer inverses, in place: each row's noise settles given what all others say of it.

    Row i left out has mean mu_i and latent variance v_i, from the diagonal of C^-1; these do not depend on S_i, so that

        e_i² = (S_i (y_i - mu_i) / (v_i + S_i))² + v_i S_i / (v_i + S_i)

    is followed to where it settles, at no cost, before the rows' effect on one another is brought up to date.
    """
    counts = np.bincount(group, minlength=len(noise.factor)).astype(float)
    common = np.exp(2 * noise.log_scale)
    for _ in range(steps):
        variance = noise.variance(group)
        factor = cholesky(covariance, variance)
        a = solve(factor, y)
        precision = inverse_diagonal(factor)
        latent, off = np.maximum(1 / precision - variance, 0.0), a / precision
        for _ in range(SETTLING):
            variance = noise.variance(group)
            squared = (variance * off / (latent + variance)) ** 2 + latent * variance / (latent + variance)
            scale2 = common * noise.factor[group] ** 2 + NOISE_FLOOR**2
            noise.precision = (DEGREES + 1) / (DEGREES + squared / scale2)
            weighted = np.bincount(group, noise.precision * squared, minlength=len(counts))
            noise.factor = np.sqrt((weighted / common + KAPPA) / (counts + KAPPA))
