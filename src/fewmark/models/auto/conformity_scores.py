"""Scores of cells that were left out, and the factors on standard deviations that they make.

Notation: z scores; w their weights, W those of a deployment added up; level the confidence level. The factor on a
standard deviation is a weighted quantile of z, with scores of a Student t as a prior's worth of data. Cells of one
deployment tend to be off together, so that the quantile of some deployments' scores covers fewer of another's. How many
fewer, each deployment says when it is left out: the quantile of all others covers level - short of its scores, in the
mean. One over the number of deployments is the order of that, so a situation in which only

    K = (sum W)² / sum W²

of the deployments count, K_all when scores count by similarity weight alone, takes the quantile at level +
short · K_all / K + FINITE_SAMPLE_SHARE · level / K. The last is a share of what single exchangeable scores would need:
what few deployments say of short is unsure itself.

Of a deployment of which nothing is measured, errors are mostly one: those of d others tell its scale as d numbers do.
Its factor is multiplied with the quantile of a Student t of d - 1 degrees over the normal one.

What an accelerator's scores say of another depends on how alike accelerators are, and few of them tell little of that.
Where the scores of n accelerators are to stand for an unknown one, the factor is multiplied with the quantile of a
Student t of DEGREES_PER_ACCELERATOR · n degrees over the normal one, as if each accelerator had a scale of its own.

Source: split conformal prediction with weights for shift (Tibshirani et al. 2019, equation 7); exchangeable are
deployments, not cells, and left out are whole ones (Dunn, Wasserman and Ramdas 2022, section 3); effective sizes of
samples of clusters (Kish 1965, section 5.4).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri as normal_quantile
from scipy.special import stdtrit as student_quantile

from fewmark.tables.arrays import AnyArray, FloatArray, IntArray

PRIOR_WEIGHT = 10.0  # scores' worth of the Student t
PRIOR_DEGREES = 4.0
DEGREES_PER_ACCELERATOR = 4.0
FINITE_SAMPLE_SHARE = 0.05
SD_BANDWIDTH = 0.8  # of log standard deviation
BEYOND_BANDWIDTH = 0.75  # octaves
SD_STEP = 0.1
BEYOND_STEP = 0.25
_PRIOR_Z = np.abs(student_quantile(PRIOR_DEGREES, (np.arange(40) + 0.5) / 40))


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of left-out cells: z (k,), log of the predicted standard deviation (k,), octaves beyond what was measured
    (k, 2) in length and load, how much each counts for the deployment that it comes from (k,), and which that is (k,).
    `n_foreign` accelerators stand for one of which nothing is well known; 0 where it is known. `unmeasured`: nothing
    is known of the deployment that they stand for.
    """

    z: FloatArray
    log_sd: FloatArray
    beyond: FloatArray
    similarity_weight: FloatArray
    deployment: IntArray
    n_foreign: int = 0
    unmeasured: bool = False

    def weights(self, log_sd: FloatArray, beyond: FloatArray) -> FloatArray:
        """How much each score counts for each of m predictions, (m, k)."""
        distance = ((log_sd[:, None] - self.log_sd) / SD_BANDWIDTH) ** 2
        distance = distance + (((beyond[:, None, :] - self.beyond) / BEYOND_BANDWIDTH) ** 2).sum(-1)
        return np.asarray(np.exp(-0.5 * distance) * self.similarity_weight)

    def factor(self, log_sd: FloatArray, beyond: FloatArray, level: float) -> FloatArray:
        """What to multiply each of m standard deviations with for an interval at this level, (m,)."""
        # the weights change slowly: alike situations share one quantile, so that a million rows cost a few hundred
        situations, where = _distinct(np.round(log_sd / SD_STEP), np.round(beyond / BEYOND_STEP))
        situations = situations * [SD_STEP, BEYOND_STEP, BEYOND_STEP]
        own = self.weights(situations[:, 0], situations[:, 1:])
        z, weights = self._sorted(own)
        reach = np.minimum(level + self._short(own, level), 1.0) * weights.sum(1)
        at = np.minimum((np.cumsum(weights, axis=1) < reach[:, None]).sum(1), len(z) - 1)
        return np.asarray(self._unlike(level) * z[at][where])

    def most(self, level: float) -> float:
        """What no factor at this level exceeds."""
        return self._unlike(level) * max(float(self.z.max(initial=0.0)), float(_PRIOR_Z.max()))

    def _unlike(self, level: float) -> float:
        """How much wider intervals are for not knowing how alike accelerators, or few deployments, are."""
        degrees = DEGREES_PER_ACCELERATOR * self.n_foreign
        if not degrees and self.unmeasured and len(self.deployment):
            degrees = max(len(np.unique(self.deployment)) - 1.0, 2.0)
        if not degrees:
            return 1.0
        return float(student_quantile(degrees, 0.5 + level / 2) / normal_quantile(0.5 + level / 2))

    def _short(self, weights: FloatArray, level: float) -> FloatArray:
        """By how much quantiles at this level of scores with these weights (m, k) are too low for a new deployment."""
        if not len(self.z):
            return np.zeros(len(weights))
        _, member = np.unique(self.deployment, return_inverse=True)
        if not member.any():  # one deployment alone: as if its cells were independent
            member = np.arange(len(member))
        short = max(0.0, level - left_out_coverage(self.z, self.similarity_weight, member, level))
        here = np.stack([np.bincount(member, row) for row in weights])
        everywhere = np.asarray(np.bincount(member, self.similarity_weight), dtype=np.float64)
        return np.asarray(
            (short * how_many(everywhere) + FINITE_SAMPLE_SHARE * level) / np.maximum(how_many(here), 1.0)
        )

    def _sorted(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        prior = np.full((len(weights), len(_PRIOR_Z)), PRIOR_WEIGHT / len(_PRIOR_Z))
        z = np.concatenate([self.z, _PRIOR_Z])
        order = np.argsort(z)
        return z[order], np.hstack([weights, prior])[:, order]

    def median_error(self, log_sd: FloatArray, beyond: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Absolute log errors that m predictions may have and their weights, each (m, k + prior)."""
        z, weights = self._sorted(self.weights(log_sd, beyond))
        return np.exp(log_sd)[:, None] * z, weights / weights.sum(1, keepdims=True)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """k cells left out of what is known, and what was foretold of them.

    `axes` (k, 3 or more) and `deployment` (k,) say which cells; `truth`, `out_of_fold` and `in_sample` (k,) are
    their residuals, measured, foretold by hyperparameters that never saw their deployment, and by those that
    predict; `sd` (k,) is the predicted standard deviation, `share` how much `in_sample` counts in intervals and
    `deciding` in comparisons; `offset` (k,) is the mean function, NaN where it was not kept; `beyond`,
    `similarity_weight` and `n_foreign` and `unmeasured` as in `Scores`. `shrinkage` is how far both were shrunk
    towards a parametric model at loads beyond those known (`fewmark.models.auto.extrapolation`), a share.
    """

    axes: FloatArray
    deployment: IntArray
    offset: FloatArray
    truth: FloatArray
    out_of_fold: FloatArray
    in_sample: FloatArray
    sd: FloatArray
    share: float
    deciding: float
    beyond: FloatArray
    similarity_weight: FloatArray
    n_foreign: int = 0
    shrinkage: float = 0.0
    unmeasured: bool = False
    rows: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def mixed(self, out_of_fold: FloatArray, in_sample: FloatArray) -> FloatArray:
        """The mixture of two errors that intervals are made of, (k,)."""
        return np.asarray((1 - self.share) * out_of_fold + self.share * in_sample)

    def compared(self, out_of_fold: FloatArray, in_sample: FloatArray) -> FloatArray:
        """The mixture of two errors that decides between models, (k,)."""
        return np.asarray((1 - self.deciding) * out_of_fold + self.deciding * in_sample)

    @property
    def errors(self) -> tuple[FloatArray, FloatArray]:
        """The absolute log errors of each cell, out of fold and in sample, each (k,)."""
        return np.abs(self.truth - self.out_of_fold), np.abs(self.truth - self.in_sample)

    @property
    def error(self) -> FloatArray:
        """The absolute log error of each cell that intervals are made of, (k,)."""
        return self.mixed(*self.errors)

    @property
    def scores(self) -> Scores:
        """The scores of these cells."""
        return Scores(
            self.error / self.sd, np.log(self.sd), self.beyond, self.similarity_weight, self.deployment,
            self.n_foreign, self.unmeasured,
        )  # fmt: skip


def _distinct(first: FloatArray, others: FloatArray) -> tuple[FloatArray, NDArray[np.intp]]:
    """The distinct rows (s, 3) of whole numbers (m,) and (m, 2), and which of them each row is, (m,); no sorting."""
    every = np.column_stack([first, others]).astype(np.int64)
    low = every.min(0, initial=0)
    span = every.max(0, initial=0) - low + 1
    code = ((every[:, 0] - low[0]) * span[1] + every[:, 1] - low[1]) * span[2] + every[:, 2] - low[2]
    where, found = pd.factorize(code)
    rest, last = np.divmod(found, span[2])
    middle = np.divmod(rest, span[1])
    return (np.column_stack([*middle, last]) + low).astype(np.float64), where


def left_out_coverage(z: FloatArray, weight: FloatArray, member: NDArray[np.intp], level: float) -> float:
    """The share of a deployment's scores up to the quantile of all other deployments' at this level, in the mean.

    `z`, `weight` and `member` (k,): scores, how much each counts, and the number of its deployment, from 0 on, of at
    least two.
    """
    order = np.argsort(z)
    weight, member = weight[order], member[order]
    cumulative = np.cumsum(weight)
    covered = 0.0
    for number in range(int(member.max()) + 1):
        own = np.where(member == number, weight, 0.0)
        others = cumulative - np.cumsum(own)
        # up to the first score of another at which that much of the others' weight is reached
        last = int(np.searchsorted(others, level * others[-1] * (1 - 1e-12)))
        covered += float(own[: last + 1].sum())
    return covered / float(cumulative[-1])


def how_many(weight: AnyArray) -> FloatArray:
    """As how many equal ones the weights (…, k) count."""
    total = np.maximum(weight.sum(-1), np.finfo(float).tiny)
    return np.asarray(total**2 / np.maximum((weight**2).sum(-1), np.finfo(float).tiny))
