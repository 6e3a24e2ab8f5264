"""Open loops by themselves: between the request rates that a deployment was measured at, and nowhere else.

Latency over the request rate has a knee where requests come faster than they are served; beyond it, it grows for as
long as the test lasts. So nothing is said beyond the largest rate that was measured of a deployment, nor of deployments
that were not measured in an open loop. In between cells are interpolated log-log, with conformal intervals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Self

import numpy as np
import pandas as pd

from fewmark.models.base import Answers
from fewmark.models.baselines.loglog import LogLogInterpolation
from fewmark.models.conformal.cross_conformal import CrossConformal
from fewmark.models.state import Arrays, State, floats, part, table, under
from fewmark.tables.arrays import BoolArray, FloatArray
from fewmark.tables.columns import load_of, tidy
from fewmark.tables.identity import deployment_columns, group_codes

UNSEEN: Final = (
    "no open loop (request_rate) of this deployment was measured, and none follows from batches or closed loops"
)
UNTOLD: Final = "input_tokens, output_tokens and request_rate must be known and positive"
BEYOND: Final = "beyond the largest request rate measured of this deployment, where its queue may grow without end"
TOO_FEW: Final = "too few open loops (request_rate) were measured for an interval"
MIN_CELLS: Final = 4


class OpenLoops:
    """The open loops of a table; see the module."""

    def __init__(self, target: str, random_state: int) -> None:
        self.model = CrossConformal("loglog", LogLogInterpolation, target=target, random_state=random_state)
        self.n_cells = 0

    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from cells that all have a request rate."""
        self.table, self.n_cells = X.reset_index(drop=True), len(X)
        self.known_y = np.asarray(y, dtype=float)
        if self.n_cells >= MIN_CELLS:
            self.model.fit(X, self.known_y)
        return self

    def answer(self, X: pd.DataFrame, confidence_level: float) -> Answers:
        """What is said of the rows of X, all with a request rate."""
        n = len(X)
        if self.n_cells < MIN_CELLS:
            blank = np.full(n, np.nan)
            silent = np.full(n, "abstained", dtype=np.str_)
            return Answers(blank, blank.copy(), blank.copy(), silent, np.zeros(n), [TOO_FEW] * n)
        found = self.model.answer(X, confidence_level)
        reasons = np.array([""] * n, dtype=object)
        reasons[~np.isfinite(found.high)] = TOO_FEW
        unseen, beyond = self._beyond(X)
        reasons[beyond], reasons[unseen] = BEYOND, UNSEEN
        silent = reasons != ""
        return replace(
            found,
            value=np.where(silent, np.nan, found.value),
            low=np.where(silent, np.nan, found.low),
            high=np.where(silent, np.nan, found.high),
            provenance=np.where(silent, "abstained", found.provenance),
            abstained=[str(reason) for reason in reasons],
        )

    def to_state(self) -> tuple[State, Arrays]:
        """The learned cells and the scores, as JSON values and arrays."""
        table = self.table.astype(object).where(self.table.notna(), None)
        state: State = {"table": {str(name): table[name].tolist() for name in table}}
        arrays: Arrays = {"known_y": self.known_y}
        if self.n_cells >= MIN_CELLS:
            state["model"], own = self.model.to_state()
            arrays |= {f"model/{name}": values for name, values in own.items()}
        return state, arrays

    def restore(self, state: State, arrays: Arrays) -> Self:
        """Take over what `to_state` gave."""
        self.table, self.known_y = tidy(table(state, "table")), floats(arrays, "known_y")
        self.n_cells = len(self.table)
        if "model" in state:
            self.model.restore(part(state, "model"), under(arrays, "model/"))
        return self

    def _beyond(self, X: pd.DataFrame) -> tuple[BoolArray, BoolArray]:
        """Rows of deployments without an open loop, and rows beyond the largest rate of theirs."""
        names = list(dict.fromkeys([*deployment_columns(self.table), *deployment_columns(X)]))
        both = pd.concat([part.reindex(columns=names).astype(object) for part in (self.table, X)], ignore_index=True)
        code, _ = group_codes(both, names)
        n = len(self.table)
        most = pd.Series(load_of(self.table)).groupby(code[:n]).max()
        limit = pd.Series(code[n:]).map(most).to_numpy(dtype=float)
        return np.isnan(limit), load_of(X) > limit * (1 + 1e-9)
