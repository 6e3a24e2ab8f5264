"""The full space, every cell, in its own order: the reference that the others are held against."""

from __future__ import annotations

import numpy as np

from fewmark.planning.strategies.base import State, Strategy
from fewmark.tables.arrays import IntArray


class Full(Strategy):
    """Every candidate, deployment by deployment."""

    name = "full"

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        return np.asarray(candidates[np.argsort(state.space.deployment[candidates], kind="stable")])
