"""What a fitted model was given, and where new cells lie beside it: provenance, similarity, the design of anchors.

Notation: z = log2 of (input tokens, output tokens, load), the workload's coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.tables.cells import Cells, FloatArray, IntArray, cell_columns, read_cells

ANCHOR_LOAD = 16.0  # one cell alone teaches most at a middle length and a middling batch
FEW = 6  # cells of a deployment that tell little of its accelerator


@dataclass(frozen=True)
class Support:
    """The measured cells of a fitted model.

    Attributes
    ----------
    table : DataFrame
        The case columns of the learned cells, one row a cell.
    """

    table: pd.DataFrame

    @classmethod
    def of(cls, X: pd.DataFrame) -> Support:
        """The support that the cells of X make."""
        return cls(X[cell_columns(X)].drop_duplicates().reset_index(drop=True))

    def locate(self, X: pd.DataFrame) -> Places:
        """Where the rows of X lie beside the learned cells."""
        names = list(dict.fromkeys([*cell_columns(self.table), *cell_columns(X)]))
        both = pd.concat([self.table.reindex(columns=names), X.reindex(columns=names)], ignore_index=True)
        cells, n = read_cells(both), len(self.table)
        z = cells.log_workload
        measured = np.isin(cells.cell[n:], cells.cell[:n])
        beyond, n_known = np.full((len(X), 3), np.inf), np.zeros(len(X), np.intp)
        distance = np.full(len(X), np.inf)
        kind = 2 * cells.deployment + cells.online
        for code in np.unique(kind[n:]):
            own, asked = np.flatnonzero(kind[:n] == code), np.flatnonzero(kind[n:] == code)
            if not len(own):
                continue
            low, high = z[own].min(axis=0), z[own].max(axis=0)
            beyond[asked] = np.maximum(0.0, np.maximum(low - z[n + asked], z[n + asked] - high))
            n_known[asked] = len(own)
            for part in np.array_split(asked, max(1, len(asked) * len(own) // 4_000_000)):
                gaps = np.abs(z[n + part][:, None, :] - z[own][None, :, :]).sum(axis=2)
                distance[part] = gaps.min(axis=1)
        return Places(measured, beyond, n_known, distance, self._relatives(cells, n), _foreign(cells, n))

    def _relatives(self, cells: Cells, n: int) -> FloatArray:
        """Share of a deployment's columns that agree with the nearest learned deployment, shape (rows of X,)."""
        table = cells.deployments
        codes = np.array([pd.factorize(table[name], use_na_sentinel=False)[0] for name in table]).T
        share = np.zeros(len(table))
        if codes.size and n:
            learned = codes[np.unique(cells.deployment[:n])]
            for code in np.unique(cells.deployment[n:]):
                share[code] = (learned == codes[code]).mean(axis=1).max()
        return share[cells.deployment[n:]]


@dataclass(frozen=True)
class Places:
    """Where cells lie beside the learned ones; of shape (n,) unless told otherwise.

    Attributes
    ----------
    measured : bool
        The very cell was learned from.
    beyond : (n, 3) float
        How far outside the box that the deployment's learned cells span, in doublings of input, output and load;
        inf where the deployment is not known.
    n_known : int
        Learned cells of the same deployment and kind of load.
    distance : float
        To the nearest of these, in doublings (L1 over log2 coordinates); inf where there is none.
    relatives : float
        Share of the deployment's columns that agree with the nearest learned deployment.
    foreign : bool
        Of no deployment on the same accelerator more than a few cells were learned.
    """

    measured: NDArray[np.bool_]
    beyond: FloatArray
    n_known: IntArray
    distance: FloatArray
    relatives: FloatArray
    foreign: NDArray[np.bool_]

    @property
    def provenance(self) -> NDArray[np.str_]:
        """By these places; transferred where fewer than two cells of the deployment are known."""
        out = np.where((self.beyond <= 0).all(axis=1), "interpolated", "extrapolated")
        out = np.where(self.n_known < 2, "transferred", out)
        return np.where(self.measured, "measured", out).astype(np.str_)

    @property
    def similarity(self) -> FloatArray:
        """1 / (1 + distance) within a deployment; at most a half, by agreement of the columns, across deployments."""
        return np.where(np.isfinite(self.distance), 1 / (1 + self.distance), 0.5 * self.relatives)


def accelerators(cells: Cells) -> IntArray:
    """Codes of the deployments' accelerators, the unknown one among them; shape (deployments,)."""
    if "accelerator" not in cells.deployments:
        return np.zeros(len(cells.deployments), np.intp)
    return pd.factorize(cells.deployments["accelerator"], use_na_sentinel=False)[0].astype(np.intp)


def _foreign(cells: Cells, n: int) -> NDArray[np.bool_]:
    known = np.bincount(cells.deployment[:n], minlength=len(cells.deployments))
    accelerator = accelerators(cells)
    most = np.zeros(accelerator.max(initial=0) + 1, np.intp)
    np.maximum.at(most, accelerator, known)
    return np.asarray((most <= FEW)[accelerator][cells.deployment[n:]])


def anchors(X: pd.DataFrame, n_cells: int) -> IntArray:
    """Positions of `n_cells` rows of X for each deployment in it, to be measured first; spread, cheap ones before dear.

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
