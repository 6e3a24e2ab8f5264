"""Predictive Kernel Herding: the point that brings the measured ones nearest to the target workload, per second.

Notation: P the target workload, the space's cells by their weights; S the measured cells, each with the same weight;
k(x, y) = exp(-|x - y|² / 2ℓ²) over deployment and octaves, ℓ the median distance; μ(x) = E_P k(x, y); c_x seconds of
measuring x, a load included.

    MMD²(S, P) = mean_SS k - 2 mean_S μ + mean_P μ;    next    argmax_x (MMD²(S) - MMD²(S + x)) / c_x

Where no cell lowers it, the one that raises it least is next.

Source: the abstract of "Sampling Where It Matters: Predictive Kernel Herding" (IBM); its kernel is not published.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from fewmark.planning.strategies.base import State, Strategy
from fewmark.planning.strategies.space_filling import unit_cube
from fewmark.tables.arrays import FloatArray, IntArray

CHUNK: Final = 512
SAMPLED: Final = 500  # cells for the median distance


class KernelHerding(Strategy):
    """Maximum mean discrepancy to the target workload, per unit of cost."""

    name = "kernel-herding"

    def propose(self, state: State, candidates: IntArray, n: int) -> IntArray:
        cube = unit_cube(state)
        scale = _scale(cube, state.random_state)
        weights = state.weights / state.weights.sum()
        mean = np.concatenate([_kernel(cube[i : i + CHUNK], cube, scale) @ weights for i in range(0, len(cube), CHUNK)])
        measured = np.flatnonzero(state.observed)
        near = _kernel(cube, cube[measured], scale).sum(axis=1)  # of each cell to all of S
        within, towards, m = float(near[measured].sum()), float(mean[measured].sum()), len(measured)
        loaded = set(state.loaded)
        left, out = list(map(int, candidates)), list[int]()
        while left and len(out) < n:
            cells = np.asarray(left)
            now = within / m**2 - 2 * towards / m if m else 0.0
            then = (within + 2 * near[cells] + 1) / (m + 1) ** 2 - 2 * (towards + mean[cells]) / (m + 1)
            gain = now - then
            cost = state.cost_s[cells] + state.load_s * ~np.isin(state.space.deployment[cells], list(loaded))
            best = int(np.argmax(gain / cost)) if gain.max() > 0 else int(np.argmax(gain))
            pick = left.pop(best)
            within, towards, m = within + 2 * float(near[pick]) + 1, towards + float(mean[pick]), m + 1
            near = near + _kernel(cube, cube[[pick]], scale)[:, 0]
            loaded.add(int(state.space.deployment[pick]))
            out.append(pick)
        return np.asarray(out, dtype=np.intp)


def _kernel(a: FloatArray, b: FloatArray, scale: float) -> FloatArray:
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.exp(-np.maximum(squared, 0.0) / (2 * scale**2)))


def _scale(cube: FloatArray, random_state: int) -> float:
    some = cube
    if len(cube) > SAMPLED:
        some = cube[np.random.default_rng(random_state).choice(len(cube), SAMPLED, replace=False)]
    squared = (some**2).sum(axis=1)[:, None] + (some**2).sum(axis=1) - 2 * some @ some.T
    apart = np.sqrt(np.maximum(squared[np.triu_indices(len(some), 1)], 0.0))
    return float(np.median(apart)) if len(apart) and np.median(apart) > 0 else 1.0
