"""Scores of cells that were left out, and the factors on standard deviations that they make.

Notation: z scores; w their weights; level the confidence level. The factor on a standard deviation is the weighted
quantile of z at (1 + 1/n_eff) level, with scores of a Student t as a prior's worth of data. Cells of one deployment
tend to be off together, so that n_eff counts them by how much they are, with W the weight of a deployment's cells and
rho the intraclass correlation of "beyond the quantile at that level":

    n_eff = (sum w)² / ((1 - rho) sum w² + rho sum W²)

Source: split conformal prediction with weights for shift (Tibshirani et al. 2019, equation 7); effective sizes of
samples of clusters (Kish 1965, section 5.4); the correlation by analysis of variance (Donner and Koval 1980).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from fewmark.models.kernel import FloatArray, IntArray

PRIOR_WEIGHT = 10.0  # scores' worth of the Student t
PRIOR_DEGREES = 4.0
SD_BANDWIDTH = 0.8  # of log standard deviation
BEYOND_BANDWIDTH = 0.75  # octaves
SD_STEP = 0.1
BEYOND_STEP = 0.25
_PRIOR_Z = np.abs(student_t.ppf((np.arange(40) + 0.5) / 40, PRIOR_DEGREES))


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of left-out cells: z (k,), log of the predicted standard deviation (k,), octaves beyond what was measured
    (k, 2) in length and load, how much each counts for the deployment that it comes from (k,), and which that is (k,).
    """

    z: FloatArray
    log_sd: FloatArray
    beyond: FloatArray
    kinship: FloatArray
    deployment: IntArray

    def weights(self, log_sd: FloatArray, beyond: FloatArray) -> FloatArray:
        """How much each score counts for each of m predictions, (m, k)."""
        distance = ((log_sd[:, None] - self.log_sd) / SD_BANDWIDTH) ** 2
        distance = distance + (((beyond[:, None, :] - self.beyond) / BEYOND_BANDWIDTH) ** 2).sum(-1)
        return np.asarray(np.exp(-0.5 * distance) * self.kinship)

    def factor(self, log_sd: FloatArray, beyond: FloatArray, level: float) -> FloatArray:
        """What to multiply each of m standard deviations with for an interval at this level, (m,)."""
        # the weights change slowly: alike situations share one quantile, so that a million rows cost a few hundred
        coarse = np.column_stack([np.round(log_sd / SD_STEP) * SD_STEP, np.round(beyond / BEYOND_STEP) * BEYOND_STEP])
        situations, where = np.unique(coarse, axis=0, return_inverse=True)
        z, weights = self._sorted(situations[:, 0], situations[:, 1:])
        total = weights.sum(1)
        effective = total**2 / self._spent(situations[:, 0], situations[:, 1:], weights, level)
        reach = np.minimum(level * (1 + 1 / effective), 1.0) * total
        at = np.minimum((np.cumsum(weights, axis=1) < reach[:, None]).sum(1), len(z) - 1)
        return np.asarray(z[at][where.ravel()])

    def _spent(self, log_sd: FloatArray, beyond: FloatArray, weights: FloatArray, level: float) -> FloatArray:
        """The sum of squared weights (m,), those of a deployment's cells added up as far as they are off together."""
        alone = (weights**2).sum(1)
        if not len(self.z):
            return np.asarray(alone)
        _, member = np.unique(self.deployment, return_inverse=True)
        own = self.weights(log_sd, beyond)
        of_deployments = np.stack([np.bincount(member, row) for row in own])
        rho = correlation(self.z > np.quantile(self.z, level), member)
        return np.asarray(alone + rho * ((of_deployments**2).sum(1) - (own**2).sum(1)))

    def _sorted(self, log_sd: FloatArray, beyond: FloatArray) -> tuple[FloatArray, FloatArray]:
        weights = self.weights(log_sd, beyond) if len(self.z) else np.zeros((len(log_sd), 0))
        prior = np.full((len(log_sd), len(_PRIOR_Z)), PRIOR_WEIGHT / len(_PRIOR_Z))
        z = np.concatenate([self.z, _PRIOR_Z])
        order = np.argsort(z)
        return z[order], np.hstack([weights, prior])[:, order]

    def median_error(self, log_sd: FloatArray, beyond: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Absolute log errors that m predictions may have and their weights, each (m, k + prior)."""
        z, weights = self._sorted(log_sd, beyond)
        return np.exp(log_sd)[:, None] * z, weights / weights.sum(1, keepdims=True)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """k cells left out of what is known, and what was foretold of them.

    `axes` (k, 3 or more) and `deployment` (k,) say which cells; `truth`, `honest` and `seen` (k,) are their residuals,
    measured, foretold by hyperparameters that never saw their deployment, and by those that predict; `sd` (k,) is the
    predicted standard deviation, `share` how much `seen` counts, `offset` (k,) the mean function, NaN where it was not
    kept; `beyond` and `kinship` as in `Scores`.
    """

    axes: FloatArray
    deployment: IntArray
    offset: FloatArray
    truth: FloatArray
    honest: FloatArray
    seen: FloatArray
    sd: FloatArray
    share: float
    beyond: FloatArray
    kinship: FloatArray

    def mixed(self, honest: FloatArray, seen: FloatArray) -> FloatArray:
        """The mixture of two errors, (k,)."""
        return np.asarray((1 - self.share) * honest + self.share * seen)

    @property
    def error(self) -> FloatArray:
        """The absolute log error of each cell, (k,)."""
        return self.mixed(np.abs(self.truth - self.honest), np.abs(self.truth - self.seen))

    @property
    def scores(self) -> Scores:
        """The scores of these cells."""
        return Scores(self.error / self.sd, np.log(self.sd), self.beyond, self.kinship, self.deployment)


def correlation(outside: NDArray[np.bool_], member: NDArray[np.intp]) -> float:
    """How much cells of one deployment are off together, the intraclass correlation in [0, 1].

    `outside` (k,) says which cells are off, `member` (k,) the deployment of each, from 0 on.
    """
    size = np.bincount(member)
    k, n = len(size), len(member)
    if k < 2 or n == k:
        return 0.0
    mean = np.bincount(member, outside) / size
    between = float((size * (mean - outside.mean()) ** 2).sum()) / (k - 1)
    within = float(((outside - mean[member]) ** 2).sum()) / (n - k)
    typical = (n - float((size**2).sum()) / n) / (k - 1)
    if between <= within:
        return 0.0
    return (between - within) / (between + (typical - 1) * within)
