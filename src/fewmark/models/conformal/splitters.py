"""What conformal calibration hides, so that each kind of prediction is judged by errors of the same kind.

Ways of hiding, the first two leaving every deployment's every cell a chance to be predicted:

    cells       a random fifth of the cells of every deployment, each fifth in turn (cross-validation)
    patterns    the largest load; the shortest pair of lengths; the longest; all but a random share of the cells; all
                but a few anchors; the whole deployment. In a round, deployments dealt into as many groups undergo one
                pattern each; after all rounds each deployment has undergone each. So a model that pools always has
                other deployments to learn from.
    unseen      every deployment on one half of the accelerators, then those on the other: whole, and but for a few
                anchors each
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fewmark.models.conformal.support import accelerator_codes
from fewmark.models.design import spread
from fewmark.tables.cells import Cells

PATTERNS: Final = ("largest-load", "shortest", "longest", "sparse", "anchors", "whole")
SHARES: Final = (4, 3, 2)  # the pattern "sparse" leaves one cell in so many
ANCHORS: Final = (1, 2, 4)  # the pattern "anchors" leaves so many


def folds(cells: Cells, n_folds: int, rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """The cells hidden in each turn of the cross-validation, (n,); no fold holds a deployment whole if it can."""
    fold = np.zeros(len(cells), np.intp)
    for code in np.unique(cells.deployment):
        rows = rng.permutation(np.flatnonzero(cells.deployment == code))
        fold[rows] = (np.arange(len(rows)) + rng.integers(n_folds)) % n_folds
    for code in np.unique(fold):
        yield fold == code


def rounds(cells: Cells, rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """The cells hidden in each round of patterns, (n,)."""
    members = [np.flatnonzero(cells.deployment == code) for code in range(len(cells.deployments))]
    pair = cells.pair
    group = rng.permutation(len(members)) % len(PATTERNS)
    left = rng.permutation(len(members)) % len(ANCHORS)
    for turn in range(len(PATTERNS)):
        hidden = np.zeros(len(cells), bool)
        for code, rows in enumerate(members):
            pattern = PATTERNS[(group[code] + turn) % len(PATTERNS)]
            if pattern == "largest-load":
                rows = rows[cells.load[rows] == cells.load[rows].max()]
            elif pattern == "shortest":
                rows = rows[pair[rows] == pair[rows].min()]
            elif pattern == "longest":
                rows = rows[pair[rows] == pair[rows].max()]
            elif pattern == "sparse":
                rows = rng.permutation(rows)[-(-len(rows) // SHARES[left[code]]) :]
            elif pattern == "anchors":
                rows = np.delete(rows, spread(cells.log_workload[rows], ANCHORS[left[code]]))
            hidden[rows] = True
        yield hidden


def unseen_accelerators(cells: Cells, rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """The cells hidden as those of accelerators that nobody knows, (n,); none if all are on the same."""
    accelerator = accelerator_codes(cells)
    half = (rng.permutation(accelerator.max() + 1) % 2)[accelerator]
    left = rng.permutation(len(half)) % len(ANCHORS)
    for part in np.unique(half) if half.any() else ():
        hidden = (half == part)[cells.deployment]
        yield hidden.copy()
        for code in np.flatnonzero(half == part):
            rows = np.flatnonzero(cells.deployment == code)
            hidden[rows[spread(cells.log_workload[rows], ANCHORS[left[code]])]] = False
        yield hidden
