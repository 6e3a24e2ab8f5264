"""Log-log interpolation within a deployment: the baseline that looks at neighbours and nothing else.

Notation: z = log2(input + output tokens), l = log2(load), t = log(y).

A cell at a load that was measured is interpolated in z between the lengths measured at that load, linearly in t, and
extrapolated along the nearest two. At a load that was not measured, the same is done along l between the two nearest
loads. One point gives a constant.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.models.state import Arrays, State, floats, table, text, whole
from fewmark.tables.arrays import FloatArray
from fewmark.tables.cells import read_cells
from fewmark.tables.columns import tidy


class LogLogInterpolation:
    """Log-log interpolation over length at the same load, within one deployment.

    Parameters
    ----------
    target : str, default "throughput_tok_s"
        The metric, in the unit of its name; rates become latencies by their definitions.
    random_state : int, default 0
        Unused; every model has it.

    Attributes
    ----------
    table_ : DataFrame (n, c)
        The learned cells.
    log_y_ : (n,) array
        The logarithms of their values.

    Examples
    --------
    >>> from fewmark import datasets
    >>> from fewmark.models.registry import make_model
    >>> table = datasets.example()
    >>> model = make_model("loglog").fit(table, table["throughput_tok_s"])
    >>> value = model.predict(table)
    >>> value.shape, model.predict_interval(table, 0.9).shape
    ((24,), (24, 2))
    """

    pools_deployments: ClassVar[bool] = False

    def __init__(self, *, target: str = "throughput_tok_s", random_state: int = 0) -> None:
        self.target = target
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Keep the cells."""
        self.table_ = X.reset_index(drop=True)
        self.log_y_ = np.log(np.asarray(y, float))
        return self

    def predict(self, X: pd.DataFrame) -> FloatArray:
        """Values of shape (n,); NaN for deployments without a learned cell of the same kind of load."""
        names = list(dict.fromkeys([*self.table_.columns, *X.columns]))
        both = pd.concat([self.table_.reindex(columns=names), X.reindex(columns=names)], ignore_index=True)
        cells, n = read_cells(both), len(self.table_)
        kind = cells.curve
        length, load = np.log2(cells.input_tokens + cells.output_tokens), np.log2(cells.load)
        out = np.full(len(X), np.nan)
        for code in np.unique(kind[n:]):
            own, asked = np.flatnonzero(kind[:n] == code), n + np.flatnonzero(kind[n:] == code)
            if len(own):
                out[asked - n] = np.exp(_interpolate(length, load, self.log_y_, own, asked))
        return out

    def to_state(self) -> tuple[State, Arrays]:
        """The learned cells."""
        table = self.table_.astype(object).where(self.table_.notna(), None)
        state: State = {
            "target": self.target,
            "random_state": self.random_state,
            "table": {str(name): table[name].tolist() for name in table},
        }
        return state, {"log_y": self.log_y_}

    @classmethod
    def from_state(cls, state: State, arrays: Arrays) -> Self:
        """The model behind `to_state`."""
        model = cls(target=text(state, "target"), random_state=whole(state, "random_state"))
        model.table_ = tidy(table(state, "table"))
        model.log_y_ = floats(arrays, "log_y")
        return model


def _interpolate(
    length: FloatArray, load: FloatArray, t: FloatArray, own: NDArray[np.intp], asked: NDArray[np.intp]
) -> FloatArray:
    out = np.empty(len(asked))
    loads = np.unique(load[own])
    for position, row in enumerate(asked):
        near = loads if load[row] not in loads else np.array([load[row]])
        near = np.sort(near[np.argsort(np.abs(near - load[row]), kind="stable")[:2]])
        at = np.array([_along(length[own[load[own] == a]], t[own[load[own] == a]], length[row]) for a in near])
        out[position] = _along(near, at, load[row])
    return out


def _along(x: FloatArray, t: FloatArray, at: float) -> float:
    """Piecewise linear through the points (repeated x: their mean), linear beyond the ends."""
    knots, inverse = np.unique(x, return_inverse=True)
    means = np.bincount(inverse, weights=t) / np.bincount(inverse)
    if len(knots) == 1:
        return float(means[0])
    right = int(np.clip(np.searchsorted(knots, at), 1, len(knots) - 1))
    slope = (means[right] - means[right - 1]) / (knots[right] - knots[right - 1])
    return float(means[right] + slope * (at - knots[right]))
