"""A new version of an engine: which few old cells to measure again, whether it changed, and which old cells expire.

Notation: n old cells; d_i the log of new over old value at cell i, smooth within a deployment; s the noise of one
measurement (log), so that a measured d has variance 2 s²; k sentinels S with measured d_S.

    prior       d ~ N(0, C), C smooth: a change of level, of slopes by octave, and waves (`belief.structure`)
    sentinels   greedily the cells that lower Σ sd(d) most by the square root of their cost
    test        under no change, Σ_S d² / (2 s²) ~ chi² with k degrees
    expired     cells with P(|d_i| > tolerance | d_S) above a half; the rest may be kept

Source: the chi-square test of a known variance; the posterior is Rasmussen and Williams (2006), equations 2.23-2.24.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import chdtrc as chi2_tail
from scipy.special import ndtr as normal_cdf
from scipy.special import ndtri as normal_quantile

from fewmark.core.errors import InputError
from fewmark.planning.belief import Belief
from fewmark.planning.space import Space
from fewmark.planning.surrogate import structure
from fewmark.tables.arrays import BoolArray, FloatArray, IntArray

MEASURED_SD: Final = 0.01
TOLERANCE: Final = 0.05
ALPHA: Final = 0.05


@dataclass(frozen=True)
class Drift:
    """What sentinels say of a new version.

    `p_value` of no change at all; `changed` where it is below 5%. `ratio`, `low`, `high` (n,) new over old value of
    each cell with its 90% interval; `expired` (n,) old cells that should not be believed any more.
    """

    p_value: float
    changed: bool
    ratio: FloatArray
    low: FloatArray
    high: FloatArray
    expired: BoolArray


def sentinels(space: Space, cost_s: FloatArray, n: int) -> IntArray:
    """The n cells of an old space to measure again, best first.

    Parameters
    ----------
    cost_s : array (n,), seconds that each takes

    Raises
    ------
    InputError
        If there is not one cell to choose, or a cost is not positive.
    """
    if not 1 <= n <= len(space):
        raise InputError("sentinels are at least one and at most all cells", got=n)
    cost = np.asarray(cost_s, dtype=float)
    if not (cost > 0).all():
        raise InputError("costs must be positive", got=cost[:5].tolist())
    belief, left = _no_change(space, MEASURED_SD), np.arange(len(space))
    chosen: list[int] = []
    for _ in range(n):
        best = int(np.argmax(belief.sd_reduction(left) / np.sqrt(cost[left])))
        chosen.append(int(left[best]))
        belief = belief.fantasize(chosen[-1])
        left = np.delete(left, best)
    return np.asarray(chosen, dtype=np.intp)


def detect_drift(
    space: Space,
    old: FloatArray,
    new: FloatArray,
    *,
    noise_sd: float = MEASURED_SD,
    tolerance: float = TOLERANCE,
) -> Drift:
    """Compare a new version with the old one.

    Parameters
    ----------
    old : array (n,), the old values of every cell of the space
    new : array (n,), the new values at the sentinels, NaN elsewhere
    noise_sd : of one measurement, as a standard deviation of its log
    tolerance : relative change that does not matter

    Raises
    ------
    InputError
        If a value is not positive, no sentinel was measured, or noise or tolerance are not positive.
    """
    old, new = np.asarray(old, dtype=float), np.asarray(new, dtype=float)
    measured = np.flatnonzero(~np.isnan(new))
    if not len(measured):
        raise InputError("no sentinel was measured", hint="sentinels says which cells to measure")
    if not ((old > 0).all() and (new[measured] > 0).all()):
        raise InputError("values must be positive", got=[float(old.min()), float(new[measured].min())])
    if not (noise_sd > 0 and tolerance > 0):
        raise InputError("noise and tolerance must be positive", got=[noise_sd, tolerance])
    change = np.log(new[measured] / old[measured])
    p_value = float(chi2_tail(len(measured), (change**2).sum() / (2 * noise_sd**2)))
    start = _no_change(space, noise_sd)
    total = start.covariance[np.ix_(measured, measured)] + np.diag(start.noise[measured] ** 2)
    weights = np.linalg.solve(total, start.covariance[measured]).T
    mean = weights @ change
    sd = np.sqrt(np.maximum(np.diag(start.covariance) - (weights * start.covariance[:, measured]).sum(1), 1e-12))
    limit = np.log1p(tolerance)
    beyond = normal_cdf((mean - limit) / sd) + normal_cdf((-limit - mean) / sd)
    changed = p_value < ALPHA
    half = normal_quantile(0.95) * sd
    return Drift(
        p_value=p_value,
        changed=changed,
        ratio=np.exp(mean),
        low=np.exp(mean - half),
        high=np.exp(mean + half),
        expired=np.asarray((beyond > 0.5) & changed),
    )


def _no_change(space: Space, noise_sd: float) -> Belief:
    """Before any sentinel: no change expected, of a size that new versions have had: tens of percent."""
    n = len(space)
    covariance = structure(space, level=0.15, slope=0.05, long=0.1, short=0.03)
    return Belief(np.zeros(n), covariance, np.zeros(n, dtype=bool), np.full(n, np.sqrt(2) * noise_sd))
