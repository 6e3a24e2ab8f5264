"""Space-filling designs, snapped to the cells that there are: what the two of them share."""

from __future__ import annotations

import numpy as np

from fewmark.planning.strategies.base import State
from fewmark.tables.arrays import FloatArray, IntArray

FURTHER = 4.0  # how much farther a cell of another deployment is than one across the whole range of lengths


def unit_cube(state: State) -> FloatArray:
    """Each cell as a point of the unit cube: its deployment's rank, then its octaves, each over its range, (n, 4)."""
    space = state.space
    axes = np.column_stack([space.deployment.astype(float), space.octaves])
    low, high = axes.min(axis=0), axes.max(axis=0)
    return np.asarray((axes - low) / np.where(high > low, high - low, 1.0))


def snap(points: FloatArray, state: State, candidates: IntArray, n: int) -> IntArray:
    """For each design point in turn the nearest candidate that is still free, at most n."""
    cube = unit_cube(state)[candidates]
    free = np.ones(len(candidates), dtype=bool)
    out: list[int] = []
    weight = np.array([FURTHER, 1.0, 1.0, 1.0])
    for point in points:
        if len(out) == min(n, len(candidates)):
            break
        distance = (((cube - point) * weight) ** 2).sum(axis=1)
        nearest = int(np.argmin(np.where(free, distance, np.inf)))
        free[nearest] = False
        out.append(int(candidates[nearest]))
    return np.asarray(out, dtype=np.intp)
