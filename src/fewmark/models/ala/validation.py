"""What ALA's estimators take in: X (n, 3) with the columns ii, oo, bb, and a throughput above 0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from fewmark.core.errors import InputError
from fewmark.tables.arrays import AnyArray, FloatArray


class AlaInputError(InputError, ValueError):
    """What was given to one of ALA's estimators is wrong; also a `ValueError`, as scikit-learn's callers expect."""


def check_positive(y: FloatArray) -> None:
    """Raise `AlaInputError` unless every throughput is finite and above 0."""
    bad = np.flatnonzero(~(np.isfinite(y) & (y > 0)))
    if bad.size:
        raise AlaInputError(
            "throughput must be finite and above 0",
            got=f"{y[bad[0]]!r} in row {bad[0]}" + (f" and {bad.size - 1} more" if bad.size > 1 else ""),
            hint="leave failed measurements out; the screen finds faulty rows",
        )


def learned_from(estimator: BaseEstimator, X: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """X (n, p) and y (n,) as scikit-learn has them checked, none negative and y above 0, for `fit`."""
    with _as_ours():
        features, target = validate_data(estimator, X, y, dtype=np.float64, y_numeric=True)
    target = np.asarray(target, dtype=np.float64)
    check_positive(target)
    return _not_negative(features), target


def asked_about(estimator: BaseEstimator, X: ArrayLike) -> FloatArray:
    """X (n, p) checked against what `estimator` was fitted on, for `predict`."""
    with _as_ours():
        features: FloatArray = validate_data(estimator, X, reset=False, dtype=np.float64)
    return _not_negative(features)


def unique_rows(rows: AnyArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first position of each distinct row, in order of appearance, and which of them each row is; by hashing, which
    is faster than NumPy's sorting."""
    code = np.zeros(len(rows), dtype=np.intp)
    for column in rows.T:
        values, distinct = pd.factorize(column)
        code = pd.factorize(code * len(distinct) + values)[0]
    first = np.empty(code.max(initial=-1) + 1, dtype=np.intp)
    first[code[::-1]] = np.arange(len(code))[::-1]
    return first, code


@contextmanager
def _as_ours() -> Iterator[None]:
    """What scikit-learn finds wrong, as one of our errors."""
    try:
        yield
    except ValueError as error:
        raise AlaInputError(str(error)) from None


def _not_negative(X: FloatArray) -> FloatArray:
    bad = np.flatnonzero((X < 0).any(axis=1))
    if bad.size:
        raise AlaInputError(
            "Negative values in data: lengths and batch sizes are 0 or more",
            got=f"{X[bad[0]].tolist()} in row {bad[0]}",
        )
    return X
