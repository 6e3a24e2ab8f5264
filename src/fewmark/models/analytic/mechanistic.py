"""The mechanistic model: latency as a non-negative combination of what has to be done, for each deployment.

Notation: ii, oo input and output tokens, bb the load, L the end-to-end latency (s).

    L = k0 + k1·oo + k2·oo·bb + k3·bb·ii + k4·bb·oo·(ii + oo/2) + k5·bb·ii²,   k ≥ 0

that is: a fixed cost; reading the weights for each output token; the work of each token of each sequence; the
prefill; reading the growing KV cache; attention in the prefill. Throughput saturates with bb by itself. The relative
error is minimised: each row is divided by its latency. The first token takes k0 + k1 + k2·bb + k3·bb·ii + k5·bb·ii².

Fewer cells than terms leave k undetermined. There, and hardly elsewhere, a faint pull decides: towards the shares of
the latency that the terms usually have, reading the weights first among them.
"""

from __future__ import annotations

from typing import ClassVar, Final, Self

import numpy as np
import pandas as pd

from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.errors import ModelError
from fewmark.models.state import Arrays, State, columns, floats, text, whole
from fewmark.tables.arrays import FloatArray
from fewmark.tables.cells import Cells, read_cells
from fewmark.tables.columns import tidy
from fewmark.tables.identity import deployment_columns, group_codes

RATES: Final = {"throughput_tok_s", "total_throughput_tok_s"}
N_TERMS: Final = 6
TYPICAL_SHARES: Final = np.array([0.05, 0.60, 0.15, 0.10, 0.08, 0.02])
PRIOR_WEIGHT: Final = 0.01  # of a share's deviation beside a cell's relative error


class Mechanistic:
    """A non-negative latency model for each deployment, fitted to relative error.

    Parameters
    ----------
    target : str, default "throughput_tok_s"
        The metric, in the unit of its name; rates become latencies by their definitions.
    random_state : int, default 0
        Unused; every model has it.

    Attributes
    ----------
    coefficients_ : (m, 6) array
        k of each deployment and kind of load, seconds.
    deployments_ : DataFrame
        Their columns, and ``load_kind``.

    Examples
    --------
    >>> from fewmark import datasets
    >>> from fewmark.models.registry import make_model
    >>> table = datasets.example()
    >>> model = make_model("mechanistic").fit(table, table["throughput_tok_s"])
    >>> value = model.predict(table)
    >>> value.shape, model.predict_interval(table, 0.9).shape
    ((24,), (24, 2))
    """

    pools_deployments: ClassVar[bool] = False

    def __init__(self, *, target: str = "throughput_tok_s", random_state: int = 0) -> None:
        self.target = target
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn each deployment's coefficients."""
        cells = read_cells(X)
        seconds = convert(self.target, np.asarray(y, float), cells)
        done = work(self.target, cells.input_tokens, cells.output_tokens, cells.load)
        kind, first = group_codes(*_keys(X, cells))
        self.coefficients_ = np.array([solve(done[kind == c], seconds[kind == c]) for c in range(len(first))])
        keys, names = _keys(X, cells)
        self.deployments_ = keys[names].iloc[first].reset_index(drop=True)
        return self

    def predict(self, X: pd.DataFrame) -> FloatArray:
        """Values of shape (n,); NaN for deployments that were not learned."""
        cells = read_cells(X)
        keys, _ = _keys(X, cells)
        names = list(dict.fromkeys([*self.deployments_.columns, *_keys(X, cells)[1]]))
        both = pd.concat([self.deployments_.reindex(columns=names), keys.reindex(columns=names)], ignore_index=True)
        codes, _ = group_codes(both, names)
        m = len(self.deployments_)
        row = np.where(codes[m:] < m, codes[m:], 0)
        done = work(self.target, cells.input_tokens, cells.output_tokens, cells.load)
        seconds = (done * self.coefficients_[row]).sum(axis=1)
        seconds = np.where((codes[m:] < m) & (seconds > 0), seconds, np.nan)
        return convert(self.target, seconds, cells)

    def to_state(self) -> tuple[State, Arrays]:
        """The coefficients and whose they are."""
        table = self.deployments_.astype(object).where(self.deployments_.notna(), None)
        state: State = {
            "target": self.target,
            "random_state": self.random_state,
            "deployments": {str(name): table[name].tolist() for name in table},
        }
        return state, {"coefficients": self.coefficients_}

    @classmethod
    def from_state(cls, state: State, arrays: Arrays) -> Self:
        """The model behind `to_state`."""
        model = cls(target=text(state, "target"), random_state=whole(state, "random_state"))
        deployments = columns(state, "deployments")
        if "online" in deployments:  # models saved before there were open loops
            deployments["load_kind"] = [LOAD_COLUMNS[bool(online)] for online in deployments.pop("online")]
        model.deployments_ = tidy(pd.DataFrame(deployments))
        model.coefficients_ = floats(arrays, "coefficients")
        if model.coefficients_.shape != (len(model.deployments_), N_TERMS):
            raise ModelError("the coefficients do not fit the deployments", got=model.coefficients_.shape)
        return model


def _keys(X: pd.DataFrame, cells: Cells) -> tuple[pd.DataFrame, list[str]]:
    names = [*deployment_columns(X), "load_kind"]
    kind = np.array(LOAD_COLUMNS, dtype=object)[cells.kind]
    return X.assign(load_kind=kind)[names].reset_index(drop=True), names


def convert(target: str, values: FloatArray, cells: Cells) -> FloatArray:
    """Seconds from the target's values, and the other way round: rates and latencies invert alike."""
    if target == "throughput_tok_s":
        return np.asarray(cells.load * cells.output_tokens / values)
    if target == "total_throughput_tok_s":
        return np.asarray(cells.load * (cells.input_tokens + cells.output_tokens) / values)
    return values


def work(target: str, ii: FloatArray, oo: FloatArray, bb: FloatArray) -> FloatArray:
    """What has to be done for the target's seconds, (n, 6), of cells with ii and oo tokens under load bb, (n,) each."""
    one, none = np.ones_like(ii), np.zeros_like(ii)
    terms: FloatArray = np.c_[one, oo, oo * bb, bb * ii, bb * oo * (ii + oo / 2), bb * ii**2]
    if target == "ttft_s":
        terms = np.c_[one, none, bb, bb * ii, none, bb * ii**2]
    if target == "tpot_s":
        terms = np.c_[one, none, bb, none, bb * (ii + oo / 2), none]
    return terms


def solve(work: FloatArray, seconds: FloatArray) -> FloatArray:
    """k (6,), by least squares of the relative error; `work` (n, 6), `seconds` (n,)."""
    relative = work / seconds[:, None]
    scale = relative.mean(axis=0)
    active = scale > 0
    prior = TYPICAL_SHARES[active] / TYPICAL_SHARES[active].sum()
    design = np.vstack([relative[:, active] / scale[active], PRIOR_WEIGHT * np.eye(len(prior))])
    from scipy.optimize import nnls  # takes half a second to load, and only fitting needs it

    shares, _ = nnls(design, np.concatenate([np.ones(len(seconds)), PRIOR_WEIGHT * prior]))
    solution = np.zeros(N_TERMS)
    solution[active] = shares / scale[active]
    return solution
