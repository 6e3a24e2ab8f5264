"""The cells that teach the most per second: expected drop of the error over the space, by predicted cost.

Notation: c_j seconds of measuring cell j, a load included where its deployment is not loaded yet; g_j its gain
(`Belief.gains`); a the weight of cost.

    next cell      argmax_j g_j / c_j^a

How much the error drops does not depend on the value that a measurement will give, so a whole sequence can be played
out beforehand. With an error to reach, the sequences for several a are played until their forecast reaches it and the
cheapest is begun: a = 0 buys the most telling cell at any price, a = 1 many cheap ones, a infinite just the cheapest.

Source: greedy gain per cost as in Krause and Guestrin (UAI 2005); playing out by a is fewmark's own.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from fewmark.core.errors import InputError
from fewmark.planning.belief import Belief
from fewmark.planning.strategies.base import State, Strategy
from fewmark.tables.arrays import FloatArray, IntArray

EXPONENTS: Final = (np.inf, 1.0, 0.75, 0.5, 0.25)
MAX_PLAYED: Final = 12  # cells; a plan that needs more is begun with the first of them anyway
MAX_CANDIDATES: Final = 2000


class Adaptive(Strategy):
    """Gain of information per cost.

    Parameters
    ----------
    cost_exponent : the weight of cost, 0 to 1, where there is no error to reach
    """

    name = "adaptive"

    def __init__(self, cost_exponent: float = 1.0) -> None:
        if not 0 <= cost_exponent <= 1:
            raise InputError("the weight of cost lies between 0 and 1", got=cost_exponent)
        self.cost_exponent = cost_exponent

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        if not len(candidates):
            return candidates
        if len(candidates) > MAX_CANDIDATES:
            cheap = np.argsort(state.cost_s[candidates], kind="stable")
            candidates = candidates[cheap[np.linspace(0, len(cheap) - 1, MAX_CANDIDATES).astype(int)]]
        if state.target_error is None:
            return self._play(state, candidates, n, self.cost_exponent)[0]
        # where no sequence reaches the error, the plain rule
        best, lowest = candidates[:0], np.inf
        for exponent in EXPONENTS:
            picks, cost_s = self._play(state, candidates, max(n, MAX_PLAYED), exponent, until=state.target_error)
            if cost_s < lowest:
                best, lowest = picks, cost_s
        if len(best) < n:  # the target is met before n: fill up by the plain rule
            more = self._play(state, candidates, n, self.cost_exponent)[0]
            best = np.concatenate([best, more[~np.isin(more, best)]])
        return best[:n]

    def _play(
        self, state: State, candidates: IntArray, n: int, exponent: float, until: float | None = None
    ) -> tuple[IntArray, float]:
        """Greedy picks, at most n, and their cost; infinite if they do not reach the error `until`."""
        belief, loaded, spent = state.belief, set(state.loaded), 0.0
        left = candidates
        picks: list[int] = []
        reached = until is None or _error(belief, state) <= until
        while len(left) and len(picks) < n and not (until is not None and reached):
            cost = state.cost_s[left] + self._loading(state, left, loaded)
            best = int(
                np.argmin(cost)
                if exponent == np.inf
                else np.argmax(belief.sd_reduction(left, state.weights) / cost**exponent)
            )
            pick = int(left[best])
            spent += float(cost[best])
            loaded.add(int(state.space.deployment[pick]))
            belief = belief.fantasize(pick)
            picks.append(pick)
            left = np.delete(left, best)
            if until is not None:
                reached = _error(belief, state) <= until
        return np.asarray(picks, dtype=np.intp), spent if reached else np.inf

    def _loading(self, state: State, cells: IntArray, loaded: set[int]) -> FloatArray:
        new = ~np.isin(state.space.deployment[cells], list(loaded))
        return np.asarray(state.load_s * new)


def _error(belief: Belief, state: State) -> float:
    forecast = belief.forecast(random_state=state.random_state, weights=state.weights)
    return forecast.mean_ape_bound if state.mean_error else forecast.median_ape_bound
