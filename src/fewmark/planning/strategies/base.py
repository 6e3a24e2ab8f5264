"""What every strategy can do: narrow the cells that may be measured, or put them in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from fewmark.planning.belief import Belief
from fewmark.planning.space import Space
from fewmark.tables.arrays import AnyArray, BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class State:
    """All that a strategy may look at. Arrays (n,) over the space.

    Parameters
    ----------
    belief : what is believed of the log target
    cost_s : seconds that measuring each cell is predicted to take, loading not included
    load_s : seconds that loading a deployment takes
    observed : cells that were measured; `failed`: cells whose measurement failed
    latency_s, ttft_s : what was seen at observed cells, NaN elsewhere
    weights : how much each cell's error matters, at least 0
    target_error : the error to reach, a fraction, or None; `mean_error`: whether it is the mean APE, not the median
    """

    space: Space
    belief: Belief
    cost_s: FloatArray
    load_s: float
    observed: BoolArray
    failed: BoolArray
    latency_s: FloatArray
    ttft_s: FloatArray
    weights: FloatArray
    target_error: float | None = None
    mean_error: bool = False
    random_state: int = 0
    loaded: frozenset[int] = field(default_factory=frozenset)


class Strategy(ABC):
    """One way to choose cells. Compose several: each gets the candidates that the one before it left, in its order.

    `narrows` tells a strategy that leaves cells out from one that orders or picks.
    """

    name: ClassVar[str]
    narrows: ClassVar[bool] = False
    projects: ClassVar[bool] = False  # whether the cells left out differ from measured ones in output length alone

    @abstractmethod
    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        """Those of the candidates that are worth measuring, best first; at least the first n are in order."""


class Pipeline(Strategy):
    """Strategies one after another: the narrowing ones first, whatever order they are given in."""

    def __init__(self, parts: Sequence[Strategy]) -> None:
        self.parts = sorted(parts, key=lambda part: not part.narrows)
        self.projects = any(part.projects for part in parts)  # type: ignore[misc]

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        for part in self.parts:
            candidates = part.propose(state, candidates, n)
        return candidates


def groups(*columns: AnyArray) -> IntArray:
    """One integer for each distinct combination of the columns' values, (n,)."""
    table = np.column_stack([np.round(column.astype(float), 6) for column in columns])
    return np.asarray(np.unique(table, axis=0, return_inverse=True)[1]).ravel()
