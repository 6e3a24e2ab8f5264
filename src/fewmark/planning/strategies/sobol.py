"""A scrambled Sobol sequence over deployments, lengths and load. Source: Sobol (1967), Owen (1998); SciPy's qmc."""

from __future__ import annotations

import math

import numpy as np

from fewmark.planning.strategies.base import State, Strategy
from fewmark.planning.strategies.space_filling import snap
from fewmark.tables.arrays import IntArray


class Sobol(Strategy):
    """The sequence by the seed, its points snapped to cells; those already measured are passed over."""

    name = "sobol"

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        from scipy.stats import qmc

        done = int((state.observed | state.failed).sum())
        exponent = max(1, math.ceil(math.log2(done + n)))
        points = qmc.Sobol(d=4, rng=np.random.default_rng(state.random_state)).random_base2(exponent)
        return snap(points[done:], state, candidates, n)
