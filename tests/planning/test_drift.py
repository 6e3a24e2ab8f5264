"""Drift: quiet versions pass at the stated rate, a change is found where it is, and only there do old cells expire."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fewmark.core import InputError
from fewmark.planning.sentinels import detect_drift, sentinels

NOISE = 0.01


def again(grid: Any, change: np.ndarray, at: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    old = grid.throughput * np.exp(NOISE * rng.standard_normal(20))
    new = np.full(20, np.nan)
    new[at] = (grid.throughput * change)[at] * np.exp(NOISE * rng.standard_normal(len(at)))
    return old, new


def test_sentinels_are_cheap_and_spread(grid: Any) -> None:
    chosen = sentinels(grid.space, grid.latency_s, 4)
    assert len(set(chosen)) == 4
    assert grid.latency_s[chosen].sum() < 0.2 * grid.latency_s.sum()
    assert len(np.unique(grid.space.load[chosen])) >= 2
    assert len(np.unique(grid.space.input_tokens[chosen])) >= 2


def test_no_change_is_called_a_change_as_rarely_as_stated(grid: Any) -> None:
    at = sentinels(grid.space, grid.latency_s, 4)
    alarms = [detect_drift(grid.space, *again(grid, np.ones(20), at, seed)).changed for seed in range(200)]
    assert np.mean(alarms) <= 0.09


def test_a_slower_version_is_found_and_its_cells_expire(grid: Any) -> None:
    at = sentinels(grid.space, grid.latency_s, 4)
    found = detect_drift(grid.space, *again(grid, np.full(20, 0.85), at, 0))
    assert found.changed
    assert found.expired.all()
    assert found.ratio.mean() == pytest.approx(0.85, abs=0.03)
    assert ((found.low < 0.85) & (found.high > 0.85)).mean() > 0.8


def test_a_change_at_large_loads_leaves_small_ones_valid(grid: Any) -> None:
    change = np.where(grid.space.load >= 16, 1.3, 1.0)
    found = detect_drift(grid.space, *again(grid, change, np.arange(20)[::2], 1))
    assert found.changed
    assert found.expired[grid.space.load >= 16].mean() > 0.8
    assert found.expired[grid.space.load == 1].mean() < 0.3


def test_nonsense_is_refused(grid: Any) -> None:
    with pytest.raises(InputError):
        sentinels(grid.space, grid.latency_s, 0)
    with pytest.raises(InputError):
        sentinels(grid.space, -grid.latency_s, 2)
    with pytest.raises(InputError, match="no sentinel"):
        detect_drift(grid.space, grid.throughput, np.full(20, np.nan))
    with pytest.raises(InputError, match="positive"):
        detect_drift(grid.space, grid.throughput, -grid.throughput)
    with pytest.raises(InputError, match="noise"):
        detect_drift(grid.space, grid.throughput, grid.throughput, noise_sd=0)
