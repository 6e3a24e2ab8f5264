"""Small tables whose curves are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@pytest.fixture
def grid() -> Callable[..., FloatArray]:
    """Every combination of ii, oo and bb values, as rows."""
    return lambda ii, oo, bb: np.array([(i, o, b) for i in ii for o in oo for b in bb], dtype=float)


@pytest.fixture
def curve() -> Callable[[FloatArray], FloatArray]:
    """A saturating throughput whose parameters depend on the lengths."""

    def throughput(X: FloatArray) -> FloatArray:
        c = 4000 / (1 + X[:, 0] / 2000) / (1 + X[:, 1] / 4000)
        return np.asarray(c - 0.97 * c * np.exp(-0.03 * X[:, 2]))

    return throughput


@pytest.fixture
def table(grid: Callable[..., FloatArray], curve: Callable[[FloatArray], FloatArray]) -> tuple[FloatArray, FloatArray]:
    """A 3 x 3 x 5 grid with 5% noise."""
    X = grid([128, 512, 2048], [128, 512, 2048], [1, 8, 16, 32, 64])
    return X, curve(X) * np.random.default_rng(7).lognormal(0, 0.05, len(X))
