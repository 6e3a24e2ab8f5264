"""Raise the load until a latency passes its limit, then no further. Source: FMwork's harness, which escalates so."""

from __future__ import annotations

import math

import numpy as np

from fewmark.core.errors import InputError
from fewmark.planning.strategies.base import State, Strategy, groups
from fewmark.tables.arrays import IntArray


class StopAtLimit(Strategy):
    """At each pair of lengths, loads in rising order; none above one that was seen to fail or to pass a limit.

    Parameters
    ----------
    itl_s : seconds an output token, prefill included where the time to first token is unknown; infinite: no limit
    ttft_s : seconds to the first token; infinite: no limit
    """

    name = "stop-at-limit"
    narrows = True

    def __init__(self, itl_s: float = 0.1, ttft_s: float = math.inf) -> None:
        if not (itl_s > 0 and ttft_s > 0):
            raise InputError("limits must be positive", got={"itl_s": itl_s, "ttft_s": ttft_s})
        self.itl_s, self.ttft_s = itl_s, ttft_s

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        space = state.space
        ttft = np.where(np.isfinite(state.ttft_s), state.ttft_s, 0.0)
        itl = (state.latency_s - ttft) / np.maximum(space.output_tokens - (ttft > 0), 1.0)
        with np.errstate(invalid="ignore"):
            over = (itl > self.itl_s) | (state.ttft_s > self.ttft_s) | state.failed
        curve = groups(space.deployment, space.octaves[:, 0], space.octaves[:, 1], space.kind)
        ceiling = np.full(int(curve.max()) + 1, np.inf)
        np.minimum.at(ceiling, curve[over], space.load[over])
        open_ = candidates[space.load[candidates] <= ceiling[curve[candidates]]]
        return np.asarray(open_[np.lexsort((state.cost_s[open_], space.load[open_]))])
