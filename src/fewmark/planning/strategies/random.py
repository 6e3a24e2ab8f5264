"""Cells at random: what any design must beat."""

from __future__ import annotations

import numpy as np

from fewmark.planning.strategies.base import State, Strategy
from fewmark.tables.arrays import IntArray


class Random(Strategy):
    """One random order of the whole space, by the seed; the candidates in that order."""

    name = "random"

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        order = np.random.default_rng(state.random_state).permutation(len(state.space))
        rank = np.argsort(order)
        return np.asarray(candidates[np.argsort(rank[candidates], kind="stable")])
