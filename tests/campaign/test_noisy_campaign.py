"""A campaign on a machine that is noisier than the error asked for: little is spent, and the answer is as good as a
second pass over everything."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewmark.campaign import run_campaign
from fewmark.core import Case, Cost, Deployment, Measurement, Sample, Workload
from fewmark.evaluation.meta_metrics import Charges
from fewmark.store import open_store

TARGET = "throughput_tok_s"
CASES = [
    Case(Deployment(engine="made-up", model="small-1b"), Workload(ii, oo, batch_size=bb))
    for ii in (16, 64, 128, 256, 512) for oo in (32, 64, 128, 256, 512, 1024) for bb in (1, 2, 4, 8, 12)
]  # fmt: skip


class Noisy:
    """A machine whose every run is off by 6% and whose every second by 4%; it tells the moment of each token."""

    def __init__(self, store: Any, seed: int, repeats: int = 3) -> None:
        self.store, self.rng, self.start_s = store, np.random.default_rng(seed), 4.0
        self.repeats, self.mood = repeats, 1.0

    def measure(self, case: Case) -> Measurement:
        samples = []
        for _ in range(self.repeats):
            ii, oo, bb = case.workload.input_tokens, int(case.workload.output_tokens), case.workload.load
            steps = 4e-3 + 2e-4 * bb + 5e-7 * bb * (ii + np.arange(oo))
            steps[0] = 3e-3 + 5e-5 * ii * bb
            seconds = np.exp(0.04 * self.rng.standard_normal(int(steps.sum()) + 1))
            steps = steps * seconds[np.minimum(np.cumsum(steps).astype(int), len(seconds) - 1)]
            times = self.mood * np.cumsum(steps) * np.exp(0.06 * self.rng.standard_normal())
            moments = tuple(float(t) for t in times)
            samples.append(
                Sample(e2e_latency_s=moments[-1], ttft_s=moments[0], output_tokens=oo, token_times_s=moments)
            )
        wall_s = sum(s.e2e_latency_s or 0.0 for s in samples) * (1 + 1 / self.repeats)  # and a warm-up
        start_s, self.start_s = self.start_s, 0.0
        return Measurement(case, samples=tuple(samples), cost=Cost(wall_s=wall_s, startup_s=start_s or None))

    def run(self, cases: Iterable[Case]) -> Any:
        came = [self.measure(case) for case in cases]
        self.store.add(came)
        return SimpleNamespace(measurements=tuple(came))


@pytest.mark.slow
def test_thirty_times_less_than_the_whole_grid_and_as_right_as_measuring_it_again() -> None:
    times_less, shortfall = [], []
    for seed in (0, 1, 2):
        with open_store(":memory:") as store:
            machine = Noisy(store, seed)
            first, second = ([machine.measure(case) for case in CASES] for _ in range(2))
            one, two = (np.array([m.median(TARGET) for m in measured], dtype=float) for measured in (first, second))
            machine.start_s = 4.0
            campaign = run_campaign(CASES, store, machine, model=None, target_error=0.02, random_state=seed)
            spent_s = sum((m.cost.wall_s or 0) + (m.cost.startup_s or 0) for m in store.measurements())
        assert campaign.ended == "settled"
        again = np.median(np.abs(two / one - 1))
        error = np.median(np.abs(campaign.table["value"].to_numpy(dtype=float) / one - 1))
        times_less.append(sum(m.cost.wall_s or 0 for m in first) / spent_s)
        shortfall.append(error - again)
    assert np.median(times_less) > 30
    assert np.median(shortfall) < 0.01


@pytest.mark.slow
def test_intervals_hold_against_another_hour_of_the_machine() -> None:
    """Of a campaign of single runs, whose minute is off from the hour of the reference by 6%."""
    inside, forecast, error = [], [], []
    for seed in range(6):
        with open_store(":memory:") as store:
            machine = Noisy(store, seed, repeats=1)
            reference = [machine.measure(case) for case in CASES]
            truth = np.array([m.median(TARGET) for m in reference], dtype=float)
            machine.start_s, machine.mood = 4.0, float(np.exp(0.06 * machine.rng.standard_normal()))
            campaign = run_campaign(
                CASES, store, machine, model=None, target_error=0.02, random_state=seed,
                charges=Charges(warmup=1, repeats=1),
            )  # fmt: skip
        table = campaign.table
        inside.append(float(((table["low"] <= truth) & (truth <= table["high"])).mean()))
        forecast.append(campaign.steps[-1].forecast.median_ape)
        error.append(float(np.median(np.abs(table["value"].to_numpy(dtype=float) / truth - 1))))
    assert 0.8 < np.mean(inside) < 0.98
    assert np.mean(error) / 1.4 < np.mean(forecast) < 1.4 * np.mean(error)
