"""What a fitted model was given, and where new cells lie beside it: provenance, similarity, the design of anchors.

Notation: z = log2 of (input tokens, output tokens, load), the workload's coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.cells import Cells, read_cells
from fewmark.tables.identity import cell_columns

MAX_SPARSE_CELLS = 6  # cells of a deployment that tell little of its accelerator


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

    def locate(self, X: pd.DataFrame) -> Domain:
        """Where the rows of X lie beside the learned cells."""
        names = list(dict.fromkeys([*cell_columns(self.table), *cell_columns(X)]))
        both = pd.concat([self.table.reindex(columns=names), X.reindex(columns=names)], ignore_index=True)
        cells, n = read_cells(both), len(self.table)
        z = cells.log_workload
        measured = np.isin(cells.cell[n:], cells.cell[:n])
        beyond, n_known = np.full((len(X), 3), np.inf), np.zeros(len(X), np.intp)
        distance = np.full(len(X), np.inf)
        kind = cells.curve
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
        return Domain(measured, beyond, n_known, distance, self._relatives(cells, n), _foreign(cells, n))

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
class Domain:
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
    unknown_accelerator : bool
        Of no deployment on the same accelerator more than a few cells were learned.
    """

    measured: NDArray[np.bool_]
    beyond: FloatArray
    n_known: IntArray
    distance: FloatArray
    relatives: FloatArray
    unknown_accelerator: NDArray[np.bool_]

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


def accelerator_codes(cells: Cells) -> IntArray:
    """Codes of the deployments' accelerators, the unknown one among them; shape (deployments,)."""
    if "accelerator" not in cells.deployments:
        return np.zeros(len(cells.deployments), np.intp)
    return pd.factorize(cells.deployments["accelerator"], use_na_sentinel=False)[0].astype(np.intp)


def _foreign(cells: Cells, n: int) -> NDArray[np.bool_]:
    known = np.bincount(cells.deployment[:n], minlength=len(cells.deployments))
    accelerator = accelerator_codes(cells)
    most = np.zeros(accelerator.max(initial=0) + 1, np.intp)
    np.maximum.at(most, accelerator, known)
    return np.asarray((most <= MAX_SPARSE_CELLS)[accelerator][cells.deployment[n:]])
