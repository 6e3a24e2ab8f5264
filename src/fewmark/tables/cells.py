"""Tables of cells as arrays: which deployment each row belongs to, and what was asked of it.

Notation: n rows, m deployments, X the table of cells, y (n,) the target's values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from fewmark.core.columns import DEPLOYMENT_COLUMNS, NUMERIC_COLUMNS, OPTION_PREFIX, WORKLOAD_COLUMNS, WORKLOAD_PREFIX
from fewmark.core.errors import ModelError
from fewmark.core.metrics import TARGETS

if TYPE_CHECKING:
    from fewmark.models.base import Model

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
INTERVAL: Final = ("e2e_latency_s_low", "e2e_latency_s_high", "projection_confidence_level")
DEFAULT_LEVEL: Final = 0.9  # of an interval that does not say
LEAST_ROUNDED: Final = 8  # values: fewer may be multiples of anything by chance
LEAST_STEPS: Final = 4.0  # that the smallest value has
ROUNDED_DIGITS: Final = 4
MOSTLY: Final = 0.9


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


def deployment_columns(X: pd.DataFrame) -> list[str]:
    """The columns of X that make a row's deployment."""
    return [name for name in map(str, X) if name in DEPLOYMENT_COLUMNS or name.startswith(OPTION_PREFIX)]


def cell_columns(X: pd.DataFrame) -> list[str]:
    """The columns of X that make a row's cell."""
    workload = [name for name in map(str, X) if name in WORKLOAD_COLUMNS or name.startswith(WORKLOAD_PREFIX)]
    return [*deployment_columns(X), *workload]


def learned_columns(X: pd.DataFrame, model: Model) -> list[str]:
    """The columns of X that a model is given to learn from: those of the cells, and metrics where it uses them, with
    what is known of their error."""
    metrics = [name for name in map(str, X) if name in (*TARGETS, *INTERVAL)] if model.uses_metrics else []
    return [*cell_columns(X), *metrics]


def log_sd(X: pd.DataFrame) -> FloatArray:
    """The standard deviation of the log of each row's end-to-end latency, as its interval tells; 0 without one, (n,).

    A row that was projected from a generation cut short has an interval (`fewmark.core.Projection`).
    """
    low, high, level = (numbers_of(X, name) for name in INTERVAL)
    level = np.where((level > 0) & (level < 1), level, DEFAULT_LEVEL)
    with np.errstate(invalid="ignore", divide="ignore"):
        sd = np.log(high / low) / (2 * norm.ppf((1 + level) / 2))
    return np.where(np.isfinite(sd) & (low > 0) & (sd > 0), sd, 0.0)


def rounding_step(y: FloatArray) -> float:
    """The power of ten to whose multiples positive values (n,) were rounded; 0 where they do not look rounded.

    One in ten may lie off it, as medians of rounded repeats do. Steps that leave few values apart are not looked for:
    whole multiples of them are no sign of rounding.
    """
    if len(y) < LEAST_ROUNDED:
        return 0.0
    coarsest = int(np.floor(np.log10(y.min() / LEAST_STEPS)))
    for step in 10.0 ** np.arange(coarsest, coarsest - ROUNDED_DIGITS, -1):
        count = y / step
        if np.mean(np.abs(count - np.round(count)) < 1e-6) >= MOSTLY:
            return float(step)
    return 0.0


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
    batch, users = _column(X, "batch_size"), _column(X, "concurrency")
    both = np.isfinite(batch) == np.isfinite(users)
    if both.any():
        raise ModelError(
            "each cell needs exactly one of batch_size and concurrency",
            got=f"row {int(np.flatnonzero(both)[0]) + 1}",
        )
    online = np.isfinite(users)
    numbers = {
        "input_tokens": _column(X, "input_tokens"),
        "output_tokens": _column(X, "output_tokens"),
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


def group_codes(X: pd.DataFrame, columns: Sequence[str]) -> tuple[IntArray, IntArray]:
    """Codes (n,) of the rows' groups by the columns, unknown equal to unknown, and each group's first row."""
    if not columns or not len(X):
        return np.zeros(len(X), np.intp), np.zeros(min(len(X), 1), np.intp)
    codes = np.asarray(X.groupby(list(columns), dropna=False, sort=False).ngroup(), np.intp)
    return codes, np.unique(codes, return_index=True)[1].astype(np.intp)


def numbered(group: IntArray) -> tuple[IntArray, IntArray]:
    """The numbers of the groups in ascending order (k,), and which of them each row has (n,); one pass, no sorting."""
    position, numbers = pd.factorize(np.ascontiguousarray(group), sort=True)
    return np.asarray(numbers, np.int64), np.asarray(position, np.int64)


def rows_by_group(group: IntArray) -> dict[int, NDArray[np.intp]]:
    """The rows of each group's number, in their order."""
    numbers, position = numbered(group)
    order = np.argsort(position.astype(np.min_scalar_type(len(numbers))), kind="stable")
    ends = np.bincount(position, minlength=len(numbers)).cumsum()[:-1]
    return dict(zip(numbers.tolist(), np.split(order, ends) if len(numbers) else [], strict=True))


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


def median_of_repeats(X: pd.DataFrame, y: ArrayLike) -> tuple[pd.DataFrame, FloatArray]:
    """One row a cell, in the order of first appearance, with the median of its repeats' values.

    A cell of which a row has no interval was measured: then none of its rows' intervals counts.
    """
    values = check_target(y, len(X))
    cell, first = group_codes(X, cell_columns(X))
    medians = np.asarray(pd.Series(values).groupby(cell).median(), float)
    told = [name for name in INTERVAL if name in X]
    if not told or len(first) == len(X):
        return X.iloc[first], medians
    sd = log_sd(X)
    alone = np.asarray(pd.Series(sd).groupby(cell).min(), float) == 0
    kept = X.iloc[first].copy()
    for name in told:
        kept[name] = np.where(alone, np.nan, numbers_of(kept, name))
    return kept, medians


def tidy(X: pd.DataFrame) -> pd.DataFrame:
    """The table with numbers as floats and everything else as plain objects, unknown as None."""
    out = {
        name: pd.to_numeric(X[name]).astype(float)
        if name in NUMERIC_COLUMNS
        else X[name].astype(object).where(X[name].notna(), None)
        for name in X
    }
    return pd.DataFrame(out, index=X.index)


def numbers_of(X: pd.DataFrame, name: str) -> FloatArray:
    """A column as numbers, (n,); NaN where it holds none, or is not there."""
    if name not in X:
        return np.full(len(X), np.nan)
    return np.asarray(pd.to_numeric(X[name], errors="coerce"), float)


def _column(X: pd.DataFrame, name: str) -> FloatArray:
    if name not in X:
        return np.full(len(X), np.nan)
    try:
        return X[name].to_numpy(float, na_value=np.nan)
    except (TypeError, ValueError):
        raise ModelError(f"{name} must hold numbers", got=str(X[name].iloc[0])) from None
