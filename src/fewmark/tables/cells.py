"""Tables of cells as arrays: which deployment each row belongs to, and what was asked of it.

Notation: n rows, m deployments, X the table of cells, y (n,) the target's values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fewmark.core.errors import ModelError
from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.columns import strict_numbers_of
from fewmark.tables.identity import cell_columns, deployment_columns, group_codes


@dataclass(frozen=True)
class Cells:
    """The rows of a table as arrays.

    Attributes
    ----------
    input_tokens, output_tokens, load : (n,) float
        Tokens a sequence, and the batch size or the concurrency.
    online : (n,) bool
        Whether the load is a concurrency.
    deployment, cell : (n,) int
        Codes of the row's deployment (a row of `deployments`) and cell.
    deployments : DataFrame
        The columns that make a deployment, one row a code.
    """

    input_tokens: FloatArray
    output_tokens: FloatArray
    load: FloatArray
    online: NDArray[np.bool_]
    deployment: IntArray
    cell: IntArray
    deployments: pd.DataFrame

    def __len__(self) -> int:
        return len(self.load)

    @property
    def pair(self) -> IntArray:
        """Codes of each row's (input, output) pair, ordered by input + output, then by input; shape (n,)."""
        pairs = np.c_[self.input_tokens + self.output_tokens, self.input_tokens]
        return np.unique(pairs, axis=0, return_inverse=True)[1].ravel()

    @property
    def log_workload(self) -> FloatArray:
        """log2 of input tokens, output tokens and load, shape (n, 3)."""
        return np.asarray(np.log2(np.c_[self.input_tokens, self.output_tokens, self.load]), float)


def read_cells(X: pd.DataFrame) -> Cells:
    """The arrays behind a table of cells.

    Raises
    ------
    ModelError
        If a column is missing, a number is not positive and finite, or a row has not exactly one of batch size and
        concurrency.
    """
    if not isinstance(X, pd.DataFrame):
        raise ModelError("cells must be a table with the canonical columns", got=type(X).__name__)
    for name in ("input_tokens", "output_tokens"):
        if name not in X:
            raise ModelError(f"the table of cells has no column {name}", got=list(map(str, X.columns)))
    batch, users = strict_numbers_of(X, "batch_size"), strict_numbers_of(X, "concurrency")
    both = np.isfinite(batch) == np.isfinite(users)
    if both.any():
        raise ModelError(
            "each cell needs exactly one of batch_size and concurrency",
            got=f"row {int(np.flatnonzero(both)[0]) + 1}",
        )
    online = np.isfinite(users)
    numbers = {
        "input_tokens": strict_numbers_of(X, "input_tokens"),
        "output_tokens": strict_numbers_of(X, "output_tokens"),
        "load": np.where(online, users, batch),
    }
    for name, values in numbers.items():
        bad = ~(np.isfinite(values) & (values > 0))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ModelError(f"{name} must be positive and finite", got=f"{values[row]} in row {row + 1}")
    columns = deployment_columns(X)
    deployment, first = group_codes(X, columns)
    cell, _ = group_codes(X, cell_columns(X))
    return Cells(
        **numbers,
        online=online,
        deployment=deployment,
        cell=cell,
        deployments=X[columns].iloc[first].reset_index(drop=True),
    )


def check_target(y: ArrayLike, n: int) -> FloatArray:
    """The target's values as floats (n,).

    Raises
    ------
    ModelError
        If there are none, not as many as cells, or one is not positive and finite.
    """
    values = np.asarray(y, dtype=float).ravel()
    if len(values) != n:
        raise ModelError("as many values as cells are needed", got=f"{len(values)} values, {n} cells")
    if n == 0:
        raise ModelError("a model needs at least one measured cell", got="an empty table")
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ModelError("measured values must be positive and finite", got=f"{values[row]} in row {row + 1}")
    return values
