"""The log of an annealing: every subset tried, its error, and what became of it.

Notation (the ALA paper's symbols: arXiv 2505.09319, Algorithms 6 and 7): L the log, S' a candidate, E' its error, S*
and E* the state and its error, tau the temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.errors import InputError
from fewmark.tables.arrays import FloatArray


@dataclass(frozen=True)
class AnnealingLog:
    """The iterations of one chain, or of several one after the other.

    Attributes
    ----------
    values : (ii values, oo values, bb values)
        Everything that subsets choose from, rising.
    subsets : bool array (n, number of values)
        The candidates, as vectors over all values in the order ii, oo, bb.
    error : array (n,)
        Their errors in the scorer's unit (percent by default); infinite where there is none.
    state_error : array (n,)
        The error of the state after the iteration.
    temperature : array (n,)
    accepted : bool array (n,)
    outcome : str array (n,)
        "ok", or why there is no error (`annealing_space.OUTCOMES`).
    n_train, n_left_out : int array (n,)
        Rows that the candidate trains on and leaves out.
    chain : int array (n,)
    """

    values: tuple[FloatArray, FloatArray, FloatArray]
    subsets: NDArray[np.bool_]
    error: FloatArray
    state_error: FloatArray
    temperature: FloatArray
    accepted: NDArray[np.bool_]
    outcome: NDArray[np.str_]
    n_train: NDArray[np.intp]
    n_left_out: NDArray[np.intp]
    chain: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.error)

    @property
    def best(self) -> int:
        """The first iteration with the least error."""
        return int(self.error.argmin())

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where the candidate has an error to learn from."""
        return np.isfinite(self.error)

    def sets(self, iteration: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The values of ii, oo and bb in an iteration's candidate."""
        ends = np.cumsum([len(values) for values in self.values])
        ii, oo, bb = np.split(self.subsets[iteration], ends[:-1])
        return self.values[0][ii], self.values[1][oo], self.values[2][bb]

    def encode(self, subsets: NDArray[np.bool_] | None = None) -> FloatArray:
        """Subsets (default: the log's) as 0 and 1 over all ii, then all bb, then all oo. Source: ALA, Algorithm 7."""
        chosen = self.subsets if subsets is None else subsets
        n_ii, n_oo, _ = (len(values) for values in self.values)
        ii, oo, bb = chosen[:, :n_ii], chosen[:, n_ii : n_ii + n_oo], chosen[:, n_ii + n_oo :]
        return np.hstack([ii, bb, oo]).astype(np.float64)

    def to_frame(self) -> pd.DataFrame:
        """One row an iteration; the sets as text, values separated by spaces."""
        sets = [self.sets(i) for i in range(len(self))]
        columns: dict[str, object] = {
            "chain": self.chain,
            "iteration": np.concatenate([np.arange(1, n + 1) for n in np.bincount(self.chain)]),
            "temperature": self.temperature,
        }
        for position, name in enumerate(("input_tokens", "output_tokens", "batch_size")):
            columns[name] = [" ".join(f"{value:g}" for value in row[position]) for row in sets]
        for name in ("error", "accepted", "state_error", "outcome", "n_train", "n_left_out"):
            columns[name] = getattr(self, name)
        return pd.DataFrame(columns)


def join(logs: Sequence[AnnealingLog]) -> AnnealingLog:
    """Logs over the same values as one, the chains numbered in order. Raises `InputError` if the values differ."""
    if not logs:
        raise InputError("at least one log is needed", got=0)
    first = logs[0]
    for log in logs[1:]:
        if not all(np.array_equal(mine, theirs) for mine, theirs in zip(first.values, log.values, strict=True)):
            raise InputError("logs of different datasets cannot be joined", got=[len(values) for values in log.values])
    arrays = {
        name: np.concatenate([getattr(log, name) for log in logs])
        for name in ("subsets", "error", "state_error", "temperature", "accepted", "outcome", "n_train", "n_left_out")
    }
    chain = np.concatenate([np.full(len(log), number) for number, log in enumerate(logs)])
    return AnnealingLog(values=first.values, chain=chain, **arrays)
