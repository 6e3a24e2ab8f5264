"""What each protocol hides. Definitions: docs/reference/protocols.md.

Notation: n cells (rows of the prepared table), a *turn* is one fit: what is hidden from it and what of that is scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fewmark.core.errors import InputError
from fewmark.core.near_names import did_you_mean
from fewmark.tables.arrays import BoolArray, IntArray
from fewmark.tables.cells import Cells

N_FOLDS: Final = 5
MIN_CELLS: Final = 16
MIN_PAIRS: Final = 4
MIN_LOADS: Final = 4
SMALL_CELLS: Final = 8  # of a small grid: where few deployments of a table are larger
SMALL_LOADS: Final = 3
SPARSE_HIDDEN: Final = 0.75
TRANSFER_CELLS: Final = (0, 1, 2, 4)


PROTOCOLS: Final[tuple[str, ...]] = (
    "interpolate-length",
    "extrapolate-length",
    "extrapolate-batch",
    "sparse-25",
    *(f"transfer-{k}" for k in TRANSFER_CELLS),
    *(f"new-accelerator-{k}" for k in TRANSFER_CELLS),
)


@dataclass(frozen=True)
class Turn:
    """One fit of a fold.

    Attributes
    ----------
    fold : int
    hidden : (n,) bool
        Cells that the model does not see, before it has chosen any.
    scored : (n,) bool
        The hidden cells that are predicted, and from which `n_chosen` may be chosen first in each deployment.
    n_chosen : int or None
        Cells of each scored deployment that the model's own design may measure; None where the protocol has no design.
    """

    fold: int
    hidden: BoolArray
    scored: BoolArray
    n_chosen: int | None = None


def eligible_deployments(cells: Cells) -> IntArray:
    """Codes of the deployments with enough cells, pairs and loads, in order.

    Where no more than half of the deployments with small grids have full ones, as in tables measured along the load
    alone, small grids are enough.
    """
    members = [cells.deployment == code for code in range(len(cells.deployments))]
    full = [code for code, rows in enumerate(members) if _has(cells, rows, MIN_CELLS, MIN_PAIRS, MIN_LOADS)]
    small = [code for code, rows in enumerate(members) if _has(cells, rows, SMALL_CELLS, 1, SMALL_LOADS)]
    return np.array(full if 2 * len(full) > len(small) else small, np.intp)


def turns(protocol: str, cells: Cells, accelerators: NDArray[np.object_], seed: int) -> Iterator[Turn]:
    """The turns of a protocol, the same for the same seed.

    Parameters
    ----------
    accelerators : (n,) object
        Each cell's accelerator; None is one of them.

    Raises
    ------
    InputError
        If there is no such protocol, or no deployment is eligible for it.
    """
    if protocol not in PROTOCOLS:
        raise InputError("no such protocol", got=protocol, hint=did_you_mean(protocol, PROTOCOLS))
    eligible = eligible_deployments(cells)
    if not len(eligible):
        raise InputError(
            "no deployment can be evaluated",
            got=f"{len(cells.deployments)} deployments with {len(cells)} cells",
            hint=f"one needs {SMALL_CELLS} cells and {SMALL_LOADS} batch sizes or concurrencies or more",
        )
    name, _, tail = protocol.rpartition("-")
    if name == "new-accelerator":
        for fold, accelerator in enumerate(sorted({*accelerators[np.isin(cells.deployment, eligible)]}, key=str)):
            hidden = accelerators == accelerator
            yield Turn(fold, hidden, hidden & np.isin(cells.deployment, eligible), int(tail))
        return
    rng = np.random.default_rng(seed)
    deal = rng.permutation(len(eligible)) % N_FOLDS
    folds = [eligible[deal == fold] for fold in range(N_FOLDS)]
    sparse = _sparse(cells, eligible, rng)
    for fold, members in enumerate(folds):
        if not len(members):
            continue
        inside = np.isin(cells.deployment, members)
        if name == "transfer":
            yield Turn(fold, inside, inside, int(tail))
        elif protocol == "sparse-25":
            yield Turn(fold, inside & sparse, inside & sparse)
        else:
            for hidden in _held_out(protocol, cells, members):
                yield Turn(fold, hidden, hidden)


def _has(cells: Cells, rows: BoolArray, n_cells: int, n_pairs: int, n_loads: int) -> bool:
    return (
        int(rows.sum()) >= n_cells
        and len(np.unique(cells.pair[rows])) >= n_pairs
        and len(np.unique(cells.load[rows])) >= n_loads
    )


def _sparse(cells: Cells, eligible: IntArray, rng: np.random.Generator) -> BoolArray:
    hidden = np.zeros(len(cells), bool)
    for code in eligible:
        rows = rng.permutation(np.flatnonzero(cells.deployment == code))
        hidden[rows[: round(SPARSE_HIDDEN * len(rows))]] = True
    return hidden


def _held_out(protocol: str, cells: Cells, members: IntArray) -> Iterator[BoolArray]:
    """The hidden cells of each turn of a fold."""
    if protocol == "extrapolate-batch":
        hidden = np.zeros(len(cells), bool)
        for curve in np.unique(cells.curve[np.isin(cells.deployment, members)]):  # of each kind of load
            own = cells.curve == curve
            hidden |= own & (cells.load == cells.load[own].max())
        yield hidden
        return
    pairs = {code: np.unique(cells.pair[cells.deployment == code]) for code in members}
    pairs = {code: own for code, own in pairs.items() if len(own) > 1}  # else nothing of the deployment would be left
    interior = range(1, max(map(len, pairs.values()), default=0) - 1)
    positions = [0, -1] if protocol == "extrapolate-length" else list(interior)
    for position in positions:
        hidden = np.zeros(len(cells), bool)
        for code, own in pairs.items():
            if protocol == "extrapolate-length" or position < len(own) - 1:
                hidden |= (cells.deployment == code) & (cells.pair == own[position])
        if hidden.any():
            yield hidden
