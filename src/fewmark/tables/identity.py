"""What a row of a canonical table is about: its deployment, its workload, and both together, its cell.

A deployment is the deployment columns and every ``option.*``; a workload the tokens, the load and every
``workload.*``. Unknown equals unknown. Rows of one cell are repeats of one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.columns import DEPLOYMENT_COLUMNS, OPTION_PREFIX, WORKLOAD_COLUMNS, WORKLOAD_PREFIX
from fewmark.tables.arrays import IntArray

MAX_CODE: Final = 1 << 31  # so that the product of two fits
TEXTS: Final = frozenset({str, type(None)})


def is_of_deployment(name: str) -> bool:
    """Whether a column says which deployment a row is about."""
    return name in DEPLOYMENT_COLUMNS or name.startswith(OPTION_PREFIX)


def is_of_workload(name: str) -> bool:
    """Whether a column says which workload a row is about."""
    return name in WORKLOAD_COLUMNS or name.startswith(WORKLOAD_PREFIX)


def is_identity(name: str) -> bool:
    """Whether a column says what a row is about."""
    return is_of_deployment(name) or is_of_workload(name)


def deployment_columns(X: pd.DataFrame) -> list[str]:
    """The columns of X that make a row's deployment."""
    return [name for name in map(str, X) if is_of_deployment(name)]


def workload_columns(X: pd.DataFrame) -> list[str]:
    """The columns of X that make a row's workload."""
    return [name for name in map(str, X) if is_of_workload(name)]


def cell_columns(X: pd.DataFrame) -> list[str]:
    """The columns of X that make a row's cell: those of the deployment, then those of the workload."""
    return [*deployment_columns(X), *workload_columns(X)]


def group_codes(X: pd.DataFrame, columns: Sequence[str]) -> tuple[IntArray, IntArray]:
    """Codes (n,) of the rows' groups by the columns, numbered as they appear, and each group's first row.

    Unknown equals unknown; lists and mappings, as options may hold them, are equal if they are written alike.
    """
    n = len(X)
    if n < 2:
        return np.zeros(n, dtype=np.intp), np.zeros(n, dtype=np.intp)
    codes, told_apart = np.zeros(n, np.int64), False
    for name in columns:
        if name not in X:
            continue
        own, in_order = _own_codes(X[name].to_numpy())
        most = int(own.max(initial=0))
        if not most:  # the column says the same of every row
            continue
        codes = codes * (most + 1) + own if told_apart else own
        if told_apart or not in_order:
            codes, _ = pd.factorize(codes)
        told_apart = True
    codes = codes.astype(np.intp)
    return codes, np.unique(codes, return_index=True)[1].astype(np.intp)


def _own_codes(values: np.ndarray) -> tuple[IntArray, bool]:
    """Codes from 0 of a column, and whether they are numbered as they appear; small whole numbers are codes already."""
    if values.dtype.kind in "iu" and len(values):
        low = int(values.min())
        if int(values.max()) - low < MAX_CODE:
            return (values - low).astype(np.int64), False
    try:
        return pd.factorize(values, use_na_sentinel=False)[0], True
    except TypeError:
        return pd.factorize(np.array([repr(value) for value in values], dtype=object))[0], True


def deployment_codes(X: pd.DataFrame) -> IntArray:
    """The deployment of each row, (n,), numbered as they appear."""
    return group_codes(X, deployment_columns(X))[0]


def workload_codes(X: pd.DataFrame) -> IntArray:
    """The workload of each row, (n,), numbered as they appear."""
    return group_codes(X, workload_columns(X))[0]


def cell_codes(X: pd.DataFrame) -> IntArray:
    """The cell of each row, (n,), numbered as they appear; repeats share theirs."""
    return group_codes(X, cell_columns(X))[0]


def hashable(X: pd.DataFrame) -> pd.DataFrame:
    """The table with lists and mappings in the columns of its cells, as options may hold them, written as text."""
    mixed = {
        name: X[name].map(lambda value: repr(value) if isinstance(value, (list, dict, set, np.ndarray)) else value)
        for name in cell_columns(X)
        if X[name].dtype == object and not set(map(type, X[name].tolist())) <= TEXTS
    }
    return X.assign(**mixed)


def numbered(group: IntArray) -> tuple[IntArray, IntArray]:
    """The numbers of the groups in ascending order (k,), and which of them each row has (n,); one pass, no sorting."""
    position, numbers = pd.factorize(np.ascontiguousarray(group), sort=True)
    return np.asarray(numbers, np.int64), np.asarray(position, np.int64)


def rows_by_group(group: IntArray) -> dict[int, IntArray]:
    """The rows of each group's number, in their order."""
    numbers, position = numbered(group)
    order = np.argsort(position.astype(np.min_scalar_type(len(numbers))), kind="stable")
    ends = np.bincount(position, minlength=len(numbers)).cumsum().tolist()
    return {
        number: order[start:end] for number, (start, end) in zip(numbers.tolist(), pairwise([0, *ends]), strict=True)
    }
