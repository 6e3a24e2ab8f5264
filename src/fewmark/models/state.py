"""What a fitted model is written down as: JSON-ready values and arrays, data without code; and how they are read again.

Reading raises `KeyError` where a value is missing and `TypeError` or `ValueError` where it is of another kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from fewmark.core.json_types import Json
from fewmark.tables.arrays import AnyArray, FloatArray

State: TypeAlias = dict[str, Json]
"""A model's values, as JSON knows them."""

Arrays: TypeAlias = dict[str, AnyArray]
"""A model's arrays by their names."""


def text(state: State, name: str) -> str:
    """A value that is text."""
    value = state[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def real(state: State, name: str) -> float:
    """A value that is a number."""
    value = state[name]
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} is no number")
    return float(value)


def whole(state: State, name: str) -> int:
    """A value that is a whole number."""
    return int(real(state, name))


def listed(state: State, name: str) -> Sequence[Json]:
    """A value that is a list."""
    value = state[name]
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name} is no list")
    return value


def part(state: State, name: str) -> State:
    """A value that is a state itself."""
    value = state[name]
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is no mapping")
    return dict(value)


def columns(state: State, name: str) -> dict[str, list[Json]]:
    """The columns of a table that is a value."""
    held = part(state, name)
    return {column: list(listed(held, column)) for column in held}


def table(state: State, name: str, n_rows: int | None = None) -> pd.DataFrame:
    """A table that is a value; `n_rows` where it may have no column."""
    return pd.DataFrame(columns(state, name), index=None if n_rows is None else range(n_rows))


def floats(arrays: Mapping[str, AnyArray], name: str) -> FloatArray:
    """An array of numbers."""
    return np.asarray(arrays[name], dtype=np.float64)


def under(arrays: Mapping[str, AnyArray], prefix: str) -> Arrays:
    """The arrays whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
