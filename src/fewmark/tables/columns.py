"""Columns of a canonical table as arrays of numbers. Notation: n rows; unknown is NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd

from fewmark.core.columns import LOAD_COLUMNS, NUMERIC_COLUMNS
from fewmark.core.errors import ModelError
from fewmark.tables.arrays import FloatArray, IntArray

T = TypeVar("T")


def tidy(X: pd.DataFrame) -> pd.DataFrame:
    """The table with numbers as floats and everything else as plain objects, unknown as None."""
    out = {
        name: pd.to_numeric(X[name]).astype(float)
        if name in NUMERIC_COLUMNS
        else X[name].astype(object).where(X[name].notna(), None)
        for name in X
    }
    return pd.DataFrame(out, index=X.index)


class Attached(list[T]):
    """A list in a table's `attrs`: pandas copies these, deeply, at each access of a column; this one stays the same."""

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


def bare(X: pd.DataFrame) -> pd.DataFrame:
    """The table, its values shared, without its `attrs`: pandas copies these, deeply, at each access of a column."""
    out = X.copy(deep=False)
    out.attrs = {}
    return out


def numbers_of(X: pd.DataFrame, name: str) -> FloatArray:
    """A column as numbers, (n,); NaN where it holds none, or is not there."""
    if name not in X:
        return np.full(len(X), np.nan)
    column = X[name]
    if column.dtype == np.float64:  # nearly always
        return column.to_numpy()
    return np.asarray(pd.to_numeric(column, errors="coerce"), float)


def strict_numbers_of(X: pd.DataFrame, name: str) -> FloatArray:
    """A column as numbers, (n,); NaN where it is empty or not there. Raises `ModelError` if it holds anything else."""
    if name not in X:
        return np.full(len(X), np.nan)
    try:
        return X[name].to_numpy(float, na_value=np.nan)
    except (TypeError, ValueError):
        raise ModelError(f"{name} must hold numbers", got=str(X[name].iloc[0])) from None


def sequences_of(X: pd.DataFrame) -> FloatArray:
    """The sequences held at once: the batch size or the concurrency, (n,); NaN at a request rate."""
    batch = numbers_of(X, "batch_size")
    return np.where(np.isnan(batch), numbers_of(X, "concurrency"), batch)


def load_of(X: pd.DataFrame) -> FloatArray:
    """The batch size, the concurrency or the request rate, whichever a row has, (n,)."""
    held = sequences_of(X)
    return np.where(np.isnan(held), numbers_of(X, "request_rate"), held)


def load_kind_of(X: pd.DataFrame) -> IntArray:
    """Which load a row has, as a position in `LOAD_COLUMNS`; -1 where it has none or several, (n,)."""
    given = np.column_stack([np.isfinite(numbers_of(X, name)) for name in LOAD_COLUMNS])
    return np.where(given.sum(axis=1) == 1, given.argmax(axis=1), -1).astype(np.intp)


def load_label(row: Mapping[Any, Any]) -> str:
    """A row's load for people: ``batch 8``, ``8 users``, ``2.5 req/s``; empty where it is unknown."""
    for name, form in zip(LOAD_COLUMNS, ("batch {:g}", "{:g} users", "{:g} req/s"), strict=True):
        if name in row and not pd.isna(row[name]):
            return "1 user" if form.endswith("users") and row[name] == 1 else form.format(row[name])
    return ""


def accelerator_counts(X: pd.DataFrame) -> FloatArray:
    """Accelerators of each row's deployment, (n,): the count, else the tensor-parallel size, else NaN."""
    counts = numbers_of(X, "accelerator_count")
    return np.where(np.isnan(counts), numbers_of(X, "tensor_parallel_size"), counts)
