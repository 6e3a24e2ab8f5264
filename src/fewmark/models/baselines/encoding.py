"""Cells as numbers for learners that want a matrix: logarithms of the workload, counts, one-hot names.

Notation: n rows, p columns: log2 of input tokens, output tokens, load; the load's kind; log2 of the device counts (−1
where unknown); and one column for each name that a deployment's column held when it was fitted. Names never seen are
zeros.
"""

from __future__ import annotations

from typing import Final, Self

import numpy as np
import pandas as pd

from fewmark.core.json_types import Json
from fewmark.models.state import State, columns
from fewmark.tables.arrays import FloatArray
from fewmark.tables.cells import read_cells
from fewmark.tables.identity import deployment_columns

COUNTS: Final = ("accelerator_count", "tensor_parallel_size")


class CellEncoder:
    """Turns tables of cells into matrices of a fixed shape.

    Attributes
    ----------
    vocabulary_ : dict from column to list of str
        The names seen in each column of a deployment's identity.
    """

    def fit(self, X: pd.DataFrame) -> Self:
        """Learn the names."""
        columns = [name for name in deployment_columns(X) if name not in COUNTS]
        self.vocabulary_ = {
            str(name): sorted({str(value) for value in X[name].dropna()}) for name in columns if X[name].notna().any()
        }
        return self

    def transform(self, X: pd.DataFrame) -> FloatArray:
        """The matrix, shape (n, p)."""
        cells = read_cells(X)
        parts = [cells.log_workload, cells.kind[:, None].astype(float)]
        for name in COUNTS:
            count = X[name].to_numpy(float, na_value=np.nan) if name in X else np.full(len(X), np.nan)
            parts.append(np.where(np.isfinite(count), np.log2(np.maximum(count, 1)), -1.0)[:, None])
        for name, known in self.vocabulary_.items():
            values = X[name].astype(object).to_numpy() if name in X else np.full(len(X), None)
            parts.append(np.array([[value == other for other in known] for value in map(str, values)], float))
        return np.hstack([part.reshape(len(X), -1) for part in parts])

    @property
    def n_features(self) -> int:
        """Columns of the matrix, p."""
        return 4 + len(COUNTS) + sum(map(len, self.vocabulary_.values()))

    def to_state(self) -> dict[str, Json]:
        """The names, as JSON values."""
        return {"vocabulary": self.vocabulary_}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The encoder behind `to_state`."""
        encoder = cls()
        encoder.vocabulary_ = {name: list(map(str, names)) for name, names in columns(state, "vocabulary").items()}
        return encoder
