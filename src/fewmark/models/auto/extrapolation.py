"""Loads beyond those known of a deployment: predictions shrink towards a parametric model; the weight is learned.

Beyond the known cells a Gaussian process falls back to what relatives say, over length scales that few deployments
teach badly. The few terms of `fewmark.models.analytic.mechanistic` go on growing as the work does, and are wrong where
an engine changes its ways. So at such loads of a batch, notation g what the process says of the log latency, s its
standard deviation, m what the parametric model fitted to the deployment's own cells says:

    g + x · r · MAX_SHIFT_SD · s · tanh((m - g) / (MAX_SHIFT_SD · s)),   r = min(1, octaves beyond the known loads)

and x, a share, is learned from other deployments of which cells beyond like loads are left out: the one with the least
mean log error, shrunk towards DEFAULT_SHARE as if DEFAULT_WEIGHT deployments had it, since few deployments hardly beat
equal shares.

Source: stacking of models by their left-out errors (Wolpert 1992), with shares between 0 and 1 (Breiman 1996); equal
shares where little is known (Bates and Granger 1969, and the many after them who found these hard to beat).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fewmark.models.analytic.mechanistic import N_TERMS, solve, work
from fewmark.models.auto.conformity_scores import LeftOut, how_many
from fewmark.models.auto.features import COLUMNS
from fewmark.models.gp.posterior import Posterior
from fewmark.tables.arrays import FloatArray

MAX_SHIFT_SD: Final = 2.0
DEFAULT_WEIGHT: Final = 4.0
DEFAULT_SHARE: Final = 0.5
ERROR_FLOOR: Final = 0.01  # log error below which nothing is much better than anything else
SHARES: Final = np.linspace(0.0, 1.0, 21)
_ONLINE: Final = COLUMNS.index("online")


def parametric(known: FloatArray, log_seconds: FloatArray, asked: FloatArray) -> FloatArray:
    """The log latency of m further cells of a deployment by the parametric model of its known ones; else NaN, (m,).

    `known` (k, 3 or more) and `asked` (m, as many) are log2 input, output and load, and further axes; `log_seconds`
    (k,) those of the known cells. It says nothing where cells differ in a further axis.
    """
    if len(known) < N_TERMS or not np.isfinite(log_seconds).all():
        return np.full(len(asked), np.nan)
    if (np.vstack([known, asked])[:, 3:] != known[0, 3:]).any():
        return np.full(len(asked), np.nan)
    terms, wanted = (work("e2e_latency_s", *np.exp2(axes[:, :3]).T) for axes in (known, asked))
    return np.asarray(np.log(wanted @ solve(terms, np.exp(log_seconds))))


def shrunk(mean: FloatArray, parametric: FloatArray, sd: FloatArray, octaves: FloatArray, share: float) -> FloatArray:
    """The means (m,), shrunk towards the parametric model; unchanged where that is NaN or no load is beyond."""
    reach = MAX_SHIFT_SD * sd
    moved = share * np.minimum(1.0, octaves) * reach * np.tanh((parametric - mean) / reach)
    return np.where(np.isnan(parametric), mean, mean + moved)


def learn(left: LeftOut, parametric: FloatArray) -> LeftOut:
    """The left-out cells with predictions shrunk as far as that pays; `parametric` (k,) on their scale."""
    octaves = left.beyond[:, 1]
    at = np.flatnonzero(np.isfinite(parametric) & (octaves > 0))
    share = DEFAULT_SHARE
    if len(at):
        truth, said, weight = (
            left.truth[at],
            left.mixed(left.out_of_fold, left.in_sample)[at],
            left.similarity_weight[at],
        )
        errors = [np.abs(truth - shrunk(said, parametric[at], left.sd[at], octaves[at], x)) for x in SHARES]
        best = float(SHARES[np.argmin([weight @ np.log(error + ERROR_FLOOR) for error in errors])])
        _, member = np.unique(left.deployment[at], return_inverse=True)
        known = float(how_many(np.bincount(member, weight)))
        share = (best * known + DEFAULT_SHARE * DEFAULT_WEIGHT) / (known + DEFAULT_WEIGHT)
    out_of_fold, in_sample = (
        shrunk(each, parametric, left.sd, octaves, share) for each in (left.out_of_fold, left.in_sample)
    )
    return replace(left, out_of_fold=out_of_fold, in_sample=in_sample, shrinkage=share)


def beyond(axes: FloatArray, known: FloatArray) -> FloatArray:
    """Octaves by which cells lie outside the range of the known ones, in length and in load, (m, 2)."""
    if not len(known):
        return np.zeros((len(axes), 2))
    asked, have = length_load(axes), length_load(known)
    return np.asarray(np.maximum(0.0, np.maximum(asked - have.max(0), have.min(0) - asked)))


def length_load(axes: FloatArray) -> FloatArray:
    """log2 of the sequence length and of the load of cells, (m, 2)."""
    return np.column_stack([np.logaddexp2(axes[:, 0], axes[:, 1]), axes[:, 2]])


def parametric_at(
    posterior: Posterior, axes: FloatArray, kept: FloatArray, known: NDArray[np.intp], asked: FloatArray
) -> FloatArray:
    """The log latency of a batch deployment's cells at axes `asked` (m, 3 or more), by a parametric model.

    It is fitted to the deployment's known rows. NaN where it has no say, (m,).
    `axes` and `kept` are those of all cells of the posterior.
    """
    if not len(known) or posterior.inputs.values[known[0], _ONLINE]:
        return np.full(len(asked), np.nan)
    return parametric(axes[known], posterior.y[known] + kept[known, 0], asked)
