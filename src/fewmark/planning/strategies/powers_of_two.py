"""Only loads (batch sizes, concurrencies) that are powers of two. Source: FMwork (arXiv 2508.10251), abstract."""

from __future__ import annotations

import numpy as np

from fewmark.planning.strategies.base import State, Strategy
from fewmark.tables.arrays import IntArray


class PowersOfTwo(Strategy):
    """Narrows to cells whose load is a power of two."""

    name = "powers-of-two"
    narrows = True

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        octaves = state.space.octaves[candidates, 2]
        return np.asarray(candidates[np.abs(octaves - np.round(octaves)) < 1e-9])
