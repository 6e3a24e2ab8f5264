"""The space that a plan is about: its cells, once each, with what strategies need to know of them.

Notation: n cells; octaves (n, 3) are log2 of input tokens, output tokens and load (batch size, concurrency or
request rate).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.errors import InputError
from fewmark.tables.arrays import BoolArray, FloatArray, IntArray
from fewmark.tables.columns import load_kind_of, load_of
from fewmark.tables.identity import cell_codes, deployment_codes, is_identity

RATES: Final = ("throughput_tok_s", "total_throughput_tok_s")


@dataclass(frozen=True)
class Space:
    """Cells (n rows, index 0…n-1), the deployment of each as a code, lengths and load in octaves, the load's kind.

    `kind` is a position in `LOAD_COLUMNS`.
    """

    cells: pd.DataFrame
    deployment: IntArray
    octaves: FloatArray
    kind: IntArray

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> Space:
        """The distinct cells of a canonical table, in their first order.

        Raises
        ------
        InputError
            If the table is empty, or a cell lacks a length or has not exactly one load.
        """
        axes = table.reindex(columns=["input_tokens", "output_tokens", *LOAD_COLUMNS])
        numbers = axes.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
        if not len(numbers):
            raise InputError("a space needs at least one cell", got="none")
        load, kind = load_of(axes), load_kind_of(axes)
        wrong = kind < 0
        wrong |= ~(np.isfinite(load) & (load > 0) & (numbers[:, :2] > 0).all(axis=1))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"row {row + 1}: a cell needs positive input_tokens, output_tokens, and one of "
                f"{', '.join(LOAD_COLUMNS)}",
                got=axes.iloc[row].to_dict(),
            )
        first = np.sort(np.unique(cell_codes(table), return_index=True)[1])
        cells = table.iloc[first].reset_index(drop=True)
        numbers, load, kind = numbers[first], load[first], kind[first]
        return cls(
            cells=cells,
            deployment=deployment_codes(cells),
            octaves=np.log2(np.column_stack([numbers[:, 0], numbers[:, 1], load])),
            kind=kind,
        )

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def online(self) -> BoolArray:
        """Whether the load is not a static batch, (n,)."""
        return np.asarray(self.kind > 0)

    @property
    def input_tokens(self) -> FloatArray:
        """Tokens in, (n,)."""
        return np.asarray(2.0 ** self.octaves[:, 0])

    @property
    def output_tokens(self) -> FloatArray:
        """Tokens out, (n,)."""
        return np.asarray(2.0 ** self.octaves[:, 1])

    @property
    def load(self) -> FloatArray:
        """Batch size, concurrency or request rate, (n,)."""
        return np.asarray(2.0 ** self.octaves[:, 2])

    def find(self, table: pd.DataFrame) -> list[int]:
        """The position in this space of each row of a table that is one of its cells, in the rows' order."""
        positions = self.locate(table)
        return [int(position) for position in positions if position >= 0]

    def locate(self, table: pd.DataFrame) -> IntArray:
        """The position in this space of each row of a table, -1 where it is none of its cells, (rows,)."""
        if table.empty:
            return np.zeros(0, dtype=np.intp)
        names = sorted({name for part in (self.cells, table) for name in part.columns if is_identity(name)})
        # as objects: an all-empty column of one table would else decide the type of the other's
        both = pd.concat([part.reindex(columns=names).astype(object) for part in (self.cells, table)])
        codes = cell_codes(both)
        where = {int(code): position for position, code in enumerate(codes[: len(self)])}
        return np.array([where.get(int(code), -1) for code in codes[len(self) :]], dtype=np.intp)

    def latency_s(self, target: str, value: FloatArray) -> FloatArray:
        """Seconds that one run of each cell takes if its `target` has this value; NaN where that does not follow.

        In a closed loop, one run is taken to be one round of all users (Little's law): load × output / throughput. At a
        request rate, which does not say how many are in flight, nothing follows from a throughput.
        """
        held = np.where(self.kind == LOAD_COLUMNS.index("request_rate"), np.nan, self.load)
        rounds = {
            "e2e_latency_s": value,
            "tpot_s": value * self.output_tokens,
            "throughput_tok_s": held * self.output_tokens / value,
            "total_throughput_tok_s": held * (self.input_tokens + self.output_tokens) / value,
        }
        return np.asarray(rounds.get(target, np.full(len(self), np.nan)), dtype=float)

    def value(self, target: str, latency_s: FloatArray) -> FloatArray:
        """The `target` that follows from the seconds of one run; the inverse of `latency_s`."""
        if target in RATES:
            return self.latency_s(target, latency_s)
        return latency_s / self.output_tokens if target == "tpot_s" else np.asarray(latency_s, dtype=float)
