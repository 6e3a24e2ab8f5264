"""Short generations instead of long ones; the long ones are projected. Source: FMwork (arXiv 2508.10251), abstract."""

from __future__ import annotations

import numpy as np

from fewmark.core.errors import InputError
from fewmark.planning.strategies.base import State, Strategy, groups
from fewmark.tables.arrays import IntArray


class ReducedOutput(Strategy):
    """Of cells that differ in the output length alone, only the longest within a limit (or the shortest, if none is).

    Parameters
    ----------
    output_tokens : the limit; FMwork went from 1024 to 128
    """

    name = "reduced-output"
    narrows = True
    projects = True

    def __init__(self, output_tokens: float = 128) -> None:
        if not output_tokens >= 1:
            raise InputError("reduced-output needs at least one output token", got=output_tokens)
        self.output_tokens = output_tokens

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        space = state.space
        alike = groups(space.deployment, space.octaves[:, 0], space.octaves[:, 2], space.kind)
        output = space.output_tokens
        chosen = np.zeros(len(space), dtype=bool)
        for group in np.unique(alike):
            members = np.flatnonzero(alike == group)
            short = members[output[members] <= self.output_tokens * (1 + 1e-9)]
            chosen[short[np.argmax(output[short])] if len(short) else members[np.argmin(output[members])]] = True
        return np.asarray(candidates[chosen[candidates]])
