"""Which cells of a deployment to measure first when nothing is known of it, and greedy variance reduction."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.cells import read_cells

ANCHOR_LOAD = 16.0  # one cell alone teaches most at a middle length and a middling batch


def anchors(X: pd.DataFrame, n_cells: int) -> IntArray:
    """Positions of `n_cells` rows of X for each deployment in it, to be measured first: space-filling, cheapest first.

    One cell: a middle length at a load near 16. Two: add the smallest load. Then whichever cell is farthest from
    those taken, so that the largest is never taken alone.
    """
    cells = read_cells(X)
    chosen: list[int] = []
    for code in range(len(cells.deployments)):
        rows = np.flatnonzero(cells.deployment == code)
        rows = rows[np.unique(cells.cell[rows], return_index=True)[1]]
        chosen += [int(rows[i]) for i in spread(cells.log_workload[rows], n_cells)]
    return np.array(chosen, np.intp)


def spread(z: FloatArray, n_cells: int) -> list[int]:
    """Positions of at most `n_cells` anchors among one deployment's cells, z (n, 3); see `anchors`."""
    if n_cells < 1:
        return []
    middle = np.median(z, axis=0)
    middle[2] = np.clip(np.log2(ANCHOR_LOAD), z[:, 2].min(), z[:, 2].max())
    taken = [int(np.abs(z - middle).sum(axis=1).argmin())]
    if n_cells > 1 and len(z) > 1:
        small = np.array([*middle[:2], z[:, 2].min()])
        gaps = np.abs(z - small).sum(axis=1)
        gaps[taken] = np.inf
        taken.append(int(gaps.argmin()))
    span = np.maximum(np.ptp(z, axis=0), 1e-9)
    while len(taken) < min(n_cells, len(z)):
        gaps = (np.abs(z[:, None, :] - z[None, taken, :]) / span).sum(axis=2).min(axis=1)
        gaps[taken] = -1
        # Of equally far cells the cheapest teaches as much for less.
        cost = z[:, 1] + z[:, 2]
        best = np.flatnonzero(gaps >= gaps.max() - 1e-9)
        taken.append(int(best[cost[best].argmin()]))
    return taken


def greedy(covariance: FloatArray, noise: FloatArray, count: int) -> IntArray:
    """Rows whose measurement leaves the smallest sum of standard deviations, one after another.

    Parameters
    ----------
    covariance : (m, m) of the latent function; noise : (m,) variances
    """
    left = covariance.copy()
    free = np.ones(len(noise), dtype=bool)
    chosen = []
    for _ in range(count):
        variance = np.maximum(np.diag(left), 0.0)
        after = variance[None, :] - left**2 / (variance + noise)[:, None]
        remaining = np.sqrt(np.maximum(after, 0.0)).sum(1)
        remaining[~free] = np.inf
        best = int(np.argmin(remaining))
        chosen.append(best)
        free[best] = False
        left = left - np.outer(left[:, best], left[best]) / (variance[best] + noise[best])
    return np.array(chosen, dtype=np.intp)
