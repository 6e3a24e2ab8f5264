"""How like two tables of (ii, oo, bb, thpt) are: cosine similarity of their histograms.

Notation (the ALA paper's symbols: arXiv 2505.09319, Algorithm 8 and the text around it)
    D_new   an unseen table, rows (m, 4);  D the known one, rows (n, 4)
    S       a logged subset: here the rows of D that it trains on
    d       for each column, 1 - the cosine of the two tables' histograms over the same bins; averaged over the columns
    d_min   the distance to the nearest logged subset
    c       1 / (1 + d_min): what the paper calls confidence, published here as ``similarity``

Counts are not negative, so d lies in [0, 1] and c in [1/2, 1] by construction: a similarity, no probability that a
prediction is right. The paper does not say how values are binned: here into 10 bins over the range of both tables, of
equal width (``scale="linear"``) or of equal ratio (``scale="log"``), which tells powers of two apart.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewmark.core.errors import InputError
from fewmark.models.ala.validation import AlaInputError
from fewmark.tables.arrays import FloatArray

SCALES: Final = ("linear", "log")


def subset_distances(
    known: ArrayLike,
    subsets: NDArray[np.bool_],
    new: ArrayLike,
    *,
    n_bins: int = 10,
    scale: str = "linear",
) -> FloatArray:
    """d between D_new (m, q) and each subset (s, n) of the rows of D (n, q), shape (s,); infinite for an empty subset.

    The bins span all of D and D_new, so that every subset is seen through the same ones.

    Raises
    ------
    AlaInputError
        If a table is empty, their columns differ, a value is not finite, or not positive where `scale` is "log".
    InputError
        If `scale` or `n_bins` is wrong.
    """
    if scale not in SCALES:
        raise InputError(f"scale must be one of {', '.join(SCALES)}", got=scale)
    if n_bins < 1:
        raise InputError("n_bins must be at least 1", got=n_bins)
    known, new = np.asarray(known, dtype=float), np.asarray(new, dtype=float)
    if known.ndim != 2 or new.ndim != 2 or known.shape[1:] != new.shape[1:] or not len(known) or not len(new):
        raise AlaInputError("two tables with rows and the same columns are needed", got=f"{known.shape}, {new.shape}")
    both = np.vstack([known, new])
    if not np.isfinite(both).all() or (scale == "log" and (both <= 0).any()):
        raise AlaInputError("values must be finite" + (" and above 0" if scale == "log" else ""), got=both.min())
    values = np.log(both) if scale == "log" else both
    weights = subsets.astype(np.float64)
    total = np.zeros(len(subsets))
    for column in values.T:
        edges = np.histogram_bin_edges(column, bins=n_bins)
        bins = np.clip(np.searchsorted(edges, column, side="right") - 1, 0, n_bins - 1)
        counts = weights @ np.eye(n_bins)[bins[: len(known)]]
        other = np.bincount(bins[len(known) :], minlength=n_bins)
        lengths = np.linalg.norm(counts, axis=1) * np.linalg.norm(other)
        total += 1 - counts @ other / np.maximum(lengths, 1e-300)
    distances = np.clip(total / values.shape[1], 0.0, 1.0)
    return np.where(subsets.any(axis=1), distances, np.inf)


def histogram_distance(one: ArrayLike, other: ArrayLike, *, n_bins: int = 10, scale: str = "linear") -> float:
    """d between two tables (n, q) and (m, q), in [0, 1]; raises as `subset_distances`."""
    every = np.ones((1, len(np.atleast_2d(np.asarray(one)))), dtype=bool)
    return float(subset_distances(one, every, other, n_bins=n_bins, scale=scale)[0])


def similarity(distance: float) -> float:
    """c = 1 / (1 + d): 1 for tables alike, 1/2 for tables without a common bin. Source: ALA, Algorithm 8, line 6."""
    return 1.0 / (1.0 + distance)
