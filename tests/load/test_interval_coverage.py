"""Nominal 90% intervals hold the truth about as often as they say, on a server whose load hangs together."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["closed, 4 streams, 120 requests", "five runs, servers 5% apart"])
def test_intervals_hold_the_truth(name, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "load_intervals", raising=False)
    from load_intervals import SCENARIOS, measure

    scenario = next(s for s in SCENARIOS if s.name == name)
    found = measure(scenario, 40, say=lambda text: None)
    for metric, values in found.items():
        assert values["coverage"] >= 0.75, metric  # 40 runs: a standard error of 5%
