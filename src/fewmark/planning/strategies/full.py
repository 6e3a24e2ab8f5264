"""The full space, every cell, short runs first in each deployment: the reference that the others are held against."""

from __future__ import annotations

import numpy as np

from fewmark.planning.space import IntArray
from fewmark.planning.strategies.base import State, Strategy


class Full(Strategy):
    """Every candidate, deployment by deployment."""

    name = "full"

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        order = np.lexsort((state.cost_s[candidates], state.space.deployment[candidates]))
        return np.asarray(candidates[order])
