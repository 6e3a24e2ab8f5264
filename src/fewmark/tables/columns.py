"""Columns of a canonical table as arrays of numbers. Notation: n rows; unknown is NaN."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fewmark.core.columns import NUMERIC_COLUMNS
from fewmark.core.errors import ModelError
from fewmark.tables.arrays import FloatArray


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


def strict_numbers_of(X: pd.DataFrame, name: str) -> FloatArray:
    """A column as numbers, (n,); NaN where it is empty or not there. Raises `ModelError` if it holds anything else."""
    if name not in X:
        return np.full(len(X), np.nan)
    try:
        return X[name].to_numpy(float, na_value=np.nan)
    except (TypeError, ValueError):
        raise ModelError(f"{name} must hold numbers", got=str(X[name].iloc[0])) from None


def load_of(X: pd.DataFrame) -> FloatArray:
    """The batch size or the concurrency, whichever a row has, (n,)."""
    batch = numbers_of(X, "batch_size")
    return np.where(np.isnan(batch), numbers_of(X, "concurrency"), batch)


def accelerator_counts(X: pd.DataFrame) -> FloatArray:
    """Accelerators of each row's deployment, (n,): the count, else the tensor-parallel size, else NaN."""
    counts = numbers_of(X, "accelerator_count")
    return np.where(np.isnan(counts), numbers_of(X, "tensor_parallel_size"), counts)
