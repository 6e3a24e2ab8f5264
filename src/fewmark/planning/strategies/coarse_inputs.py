"""Every other input length, both ends kept. Source: FMwork's parameter selection; the spacing is fewmark's own."""

from __future__ import annotations

import numpy as np

from fewmark.core.errors import InputError
from fewmark.planning.strategies.base import State, Strategy
from fewmark.tables.arrays import IntArray


class CoarseInputs(Strategy):
    """Narrows each deployment's distinct input lengths to every `step`-th one and the longest."""

    name = "coarse-inputs"
    narrows = True

    def __init__(self, step: float = 2) -> None:
        if not (step >= 1 and float(step).is_integer()):
            raise InputError("coarse-inputs needs a whole step of at least 1", got=step)
        self.step = int(step)

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        space = state.space
        keep = np.zeros(len(space), dtype=bool)
        for code in np.unique(space.deployment):
            mine = space.deployment == code
            lengths = np.unique(np.round(space.octaves[mine, 0], 9))
            kept = np.union1d(lengths[:: self.step], lengths[-1:])
            keep |= mine & np.isin(np.round(space.octaves[:, 0], 9), kept)
        return np.asarray(candidates[keep[candidates]])
