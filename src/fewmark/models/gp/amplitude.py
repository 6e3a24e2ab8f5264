"""Amplitude multiplier of a deployment's own covariance terms.

Most deployments differ little from what their relatives share. A few run other code from some batch size or length on
and differ by factors, coherently over many cells; robust noise would take all these cells for outliers. So each
deployment's own terms of the covariance have an amplitude g: 1 for nearly all, one of a few larger sizes for the rest.

Notation, n cells of one deployment:
    r (n,)      their residuals to the mean given every other deployment
    A (n, n)    the covariance of f given every other deployment, at g = 1; B (n, n) what of it is the deployment's own
    w, s        latent precisions and noise scale (`fewmark.models.gp.regression`), estimated anew under each g

    g maximises log N(r | 0, A + (g² - 1) B + S) + log p(w) + log p(s) + log p(g),
    p(1) = 1 / (1 + e^-2), the rest falls with log2(g)

Source: a spike-and-slab prior (Mitchell and Beauchamp 1988) on the amplitude; the scale mixture as in Kuss (2006).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from fewmark.models.gp.linalg import log_normal
from fewmark.models.gp.noise import DEGREES, KAPPA, Noise, refresh_noise
from fewmark.tables.arrays import FloatArray

AMPLITUDES: Final = (2.0, 4.0, 8.0)
LOG_ODDS: Final = 2.0  # of a usual deployment over any other
MIN_CELLS: Final = 4
LOW_PRECISION: Final = 0.5
LARGE_NOISE: Final = 2.0
STEPS: Final = 8


def is_unusual(precision: FloatArray, factor: float) -> bool:
    """Whether a deployment's noise looks as if it hid something coherent: two outliers or more, or a large scale."""
    return len(precision) >= MIN_CELLS and (int((precision < LOW_PRECISION).sum()) >= 2 or factor > LARGE_NOISE)


def amplitude(residual: FloatArray, covariance: FloatArray, own: FloatArray, log_scale: float) -> tuple[float, Noise]:
    """The amplitude g of a deployment's own terms, and its noise under it.

    Parameters
    ----------
    residual : (n,) r; covariance : (n, n) A; own : (n, n) B
    log_scale : log of the common noise scale
    """
    best, noise = _evidence(residual, covariance, log_scale)
    found = 1.0
    for g in AMPLITUDES:
        evidence, other = _evidence(residual, covariance + (g**2 - 1) * own, log_scale)
        evidence -= LOG_ODDS + 0.5 * np.log(g) ** 2
        if evidence > best:
            best, found, noise = evidence, g, other
    return found, noise


def _evidence(residual: FloatArray, covariance: FloatArray, log_scale: float) -> tuple[float, Noise]:
    n = len(residual)
    noise, group = Noise(log_scale, np.ones(1), np.ones(n)), np.zeros(n, dtype=np.int64)
    refresh_noise(noise, covariance, residual, group, steps=STEPS)
    w, scale = noise.precision, float(noise.factor[0])
    fit = log_normal(residual, covariance + np.diag(noise.variance(group)))
    precisions = ((DEGREES / 2 - 1) * np.log(w) - DEGREES / 2 * w).sum()
    return float(fit + precisions - 0.5 * KAPPA * scale**-2 - KAPPA * np.log(scale)), noise
