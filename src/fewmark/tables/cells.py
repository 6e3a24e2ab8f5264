"""Tables of cells as arrays: which deployment each row belongs to, and what was asked of it.

Notation: n rows, m deployments, X the table of cells, y (n,) the target's values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.errors import ModelError
from fewmark.tables.arrays import BoolArray, FloatArray, IntArray
from fewmark.tables.columns import strict_numbers_of
from fewmark.tables.identity import cell_columns, deployment_columns, group_codes

OPEN: Final = LOAD_COLUMNS.index("request_rate")
FIRST_OPEN: Final = 2**40


@dataclass(frozen=True)
class Cells:
    """The rows of a table as arrays.

    Attributes
    ----------
    input_tokens, output_tokens, load : (n,) float
        Tokens a sequence, and the batch size, the concurrency or the request rate.
    kind : (n,) int
        Which of them, as a position in `fewmark.core.columns.LOAD_COLUMNS`.
    deployment, cell : (n,) int
        Codes of the row's deployment (a row of `deployments`) and cell.
    deployments : DataFrame
        The columns that make a deployment, one row a code.
    """

    input_tokens: FloatArray
    output_tokens: FloatArray
    load: FloatArray
    kind: IntArray
    deployment: IntArray
    cell: IntArray
    deployments: pd.DataFrame

    def __len__(self) -> int:
        return len(self.load)

    @property
    def online(self) -> BoolArray:
        """Whether the load is not a static batch, (n,)."""
        return np.asarray(self.kind > 0)

    @property
    def curve(self) -> IntArray:
        """Codes of the deployments with each kind of load by itself, (n,): kinds share no curve."""
        return curve_codes(self.deployment, self.kind)

    @property
    def pair(self) -> IntArray:
        """Codes of each row's (input, output) pair, ordered by input + output, then by input; shape (n,)."""
        pairs = np.c_[self.input_tokens + self.output_tokens, self.input_tokens]
        return np.unique(pairs, axis=0, return_inverse=True)[1].ravel()

    @property
    def log_workload(self) -> FloatArray:
        """log2 of input tokens, output tokens and load, shape (n, 3)."""
        return np.asarray(np.log2(np.c_[self.input_tokens, self.output_tokens, self.load]), float)


def curve_codes(deployment: IntArray, kind: IntArray) -> IntArray:
    """Numbers (n,) of deployments (n,) with each kind of load by itself; those without open loops are what they were
    in models saved before there were any.
    """
    return np.where(kind < OPEN, 2 * deployment + kind, FIRST_OPEN + deployment).astype(np.intp)


def read_cells(X: pd.DataFrame) -> Cells:
    """The arrays behind a table of cells.

    Raises
    ------
    ModelError
        If a column is missing, a number is not positive and finite, or a row has not exactly one of batch size,
        concurrency and request rate.
    """
    if not isinstance(X, pd.DataFrame):
        raise ModelError("cells must be a table with the canonical columns", got=type(X).__name__)
    for name in ("input_tokens", "output_tokens"):
        if name not in X:
            raise ModelError(f"the table of cells has no column {name}", got=list(map(str, X.columns)))
    loads = np.column_stack([strict_numbers_of(X, name) for name in LOAD_COLUMNS])
    given = np.isfinite(loads)
    wrong = given.sum(axis=1) != 1
    if wrong.any():
        raise ModelError(
            f"each cell needs exactly one of {', '.join(LOAD_COLUMNS)}", got=f"row {int(np.flatnonzero(wrong)[0]) + 1}"
        )
    kind = given.argmax(axis=1)
    numbers = {
        "input_tokens": strict_numbers_of(X, "input_tokens"),
        "output_tokens": strict_numbers_of(X, "output_tokens"),
        "load": loads[np.arange(len(X)), kind],
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
        kind=kind.astype(np.intp),
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
