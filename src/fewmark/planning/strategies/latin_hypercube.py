"""Latin hypercube sampling over deployments, lengths and load. Source: McKay, Beckman, Conover (1979); SciPy's qmc."""

from __future__ import annotations

import numpy as np

from fewmark.core.errors import InputError
from fewmark.planning.strategies.base import State, Strategy
from fewmark.planning.strategies.space_filling import snap
from fewmark.tables.arrays import IntArray


class LatinHypercube(Strategy):
    """Blocks of `block` points, each a Latin hypercube of its own; points already measured are passed over."""

    name = "latin-hypercube"

    def __init__(self, block: float = 8) -> None:
        if not (block >= 2 and float(block).is_integer()):
            raise InputError("latin-hypercube needs a whole block size of at least 2", got=block)
        self.block = int(block)

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        from scipy.stats import qmc

        done = int((state.observed | state.failed).sum())
        n_blocks = -(-(done + n) // self.block)
        blocks = [
            qmc.LatinHypercube(d=4, rng=np.random.default_rng([state.random_state, i])).random(self.block)
            for i in range(n_blocks)
        ]
        return snap(np.vstack(blocks)[done:], state, candidates, n)
