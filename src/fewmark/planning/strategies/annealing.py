"""The training subset that ALA's annealing would choose. Source: ALA (arXiv 2505.09319), Algorithm 6.

ALA anneals over subsets of measured data; before anything is measured, the believed values stand in for it: the walk
looks for the sets of lengths and loads from which the rest of a world like the believed one is best predicted by ALA.
Restricting the walk to subsets that cost a share of the whole is fewmark's own.
"""

from __future__ import annotations

import numpy as np

from fewmark.core.errors import InputError, ModelError
from fewmark.models.ala.annealing.search import Schedule, anneal
from fewmark.planning.strategies.base import State, Strategy
from fewmark.tables.arrays import BoolArray, IntArray


class Annealing(Strategy):
    """Narrows each deployment to one subset, its cheapest cells first; chosen once, before anything is measured.

    Parameters
    ----------
    iterations : of the walk, for each deployment
    share : of the deployment's time that the subset may cost
    """

    name = "annealing"

    def __init__(self, iterations: float = 60, share: float = 0.25) -> None:
        if not (iterations >= 1 and float(iterations).is_integer()):
            raise InputError("annealing needs a whole number of iterations", got=iterations)
        if not 0 < share <= 1:
            raise InputError("the share of time is a fraction above 0, at most 1", got=share)
        self.iterations, self.share = int(iterations), share
        self._chosen: BoolArray | None = None

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        if self._chosen is None or len(self._chosen) != len(state.space):
            self._chosen = self._walk(state)
        left = candidates[self._chosen[candidates]]
        return np.asarray(left[np.argsort(state.cost_s[left], kind="stable")])

    def _walk(self, state: State) -> BoolArray:
        space = state.space
        chosen = np.zeros(len(space), dtype=bool)
        workload = np.round(np.column_stack([space.input_tokens, space.output_tokens, space.load]), 6)
        rate = space.load * space.output_tokens / state.cost_s
        for code in np.unique(space.deployment):
            mine = np.flatnonzero(space.deployment == code)
            cost = state.cost_s[mine]
            try:
                log = anneal(
                    workload[mine], rate[mine], schedule=Schedule(n_iterations=self.iterations),
                    random_state=state.random_state,
                )  # fmt: skip
            except ModelError:  # too few lengths or loads to leave any out
                chosen[mine] = True
                continue
            best, least = np.ones(len(mine), dtype=bool), np.inf
            for step in np.flatnonzero(log.known):
                sets = log.sets(int(step))
                inside = np.all([np.isin(workload[mine, axis], sets[axis]) for axis in range(3)], axis=0)
                if cost[inside].sum() <= self.share * cost.sum() and log.error[step] < least:
                    best, least = inside, float(log.error[step])
            chosen[mine[best]] = True
        return chosen
