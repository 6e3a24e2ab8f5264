"""A budget is a limit: looked at before each cell, exceeded by one cell at the most, and an overrun is said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewmark.campaign import Campaign, run_campaign
from fewmark.campaign.budget import Budget, CellCost, portions
from fewmark.campaign.words import ended_text
from fewmark.cli.campaign import show_campaign, show_step
from fewmark.core import Case, Cost, Deployment, Measurement, Sample, Status, Workload
from fewmark.planning.planner import Proposal
from fewmark.store import open_store

START_S = 4.0


def cells(models: Iterable[str] = ("m-1b",)) -> list[Case]:
    return [
        Case(Deployment("e", model, accelerator="an unknown CPU"), Workload(ii, oo, batch_size=bb))
        for model in models for ii in (64, 256) for oo in (16, 64) for bb in (1, 4)
    ]  # fmt: skip


@dataclass
class SlowMachine:
    """Takes `times` what published facts say, keeps one engine loaded, and never looks at a clock."""

    store: Any
    times: float = 50.0
    noisy_from: float = float("inf")
    host: dict[str, Any] = field(default_factory=dict)
    costs: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    loaded: Deployment | None = None

    def run(self, cases: Iterable[Case]) -> Any:
        group = list(cases)
        self.calls.append(len(group))
        came = []
        for case in group:
            work = case.workload
            seconds = self.times * work.output_tokens * (0.002 + 1e-6 * work.load * work.input_tokens)
            start_s = 0.0 if case.deployment == self.loaded else START_S
            self.loaded = case.deployment
            fails = work.load >= self.noisy_from
            self.costs.append(2 * seconds + start_s)
            came.append(
                Measurement(
                    case,
                    status=Status.OUT_OF_MEMORY if fails else Status.OK,
                    samples=() if fails else (Sample(e2e_latency_s=seconds),),
                    cost=Cost(wall_s=2 * seconds, startup_s=start_s),
                    environment={"host": self.host},
                )
            )
        self.store.add(came)
        return SimpleNamespace(measurements=tuple(came))


def spend(budget_s: float, **how: Any) -> tuple[Campaign, SlowMachine]:
    with open_store(":memory:") as store:
        machine = SlowMachine(store, **how)
        return run_campaign(cells(), store, machine, model=None, budget_s=budget_s), machine


@pytest.mark.parametrize("budget_s", [15.0, 30.0, 60.0, 120.0])
@pytest.mark.parametrize("times", [1.0, 50.0, 400.0])
def test_a_budget_is_exceeded_by_one_cell_at_the_most(budget_s: float, times: float) -> None:
    campaign, machine = spend(budget_s, times=times)
    assert machine.costs  # a probe fits, by what is known before it
    assert sum(machine.costs[:-1]) <= budget_s
    assert set(machine.calls) == {1}
    assert campaign.spent_s == pytest.approx(sum(machine.costs))
    codes = [advice.code for advice in campaign.advice]
    assert ("over-budget" in codes) == (campaign.spent_s > budget_s)


def test_the_first_cell_of_an_unknown_machine_is_the_cheapest_and_teaches_the_costs() -> None:
    campaign, machine = spend(200.0, times=100.0)
    first = campaign.ledger[0].case.workload
    assert (first.input_tokens, first.output_tokens, first.batch_size) == (64, 16, 1)
    assert campaign.steps[0].n_measured == 0
    assert campaign.steps[1].n_measured == 1
    # the guess before the probe was far off; after it none is off by so much
    ratios = [entry.cost_s / entry.predicted_cost_s for entry in campaign.ledger if entry.cost_s]
    assert max(ratios[1:]) < 8
    assert sum(machine.costs[:-1]) <= 200.0


def test_an_overrun_is_said_with_what_took_so_long() -> None:
    campaign, _ = spend(15.0, times=400.0)
    (advice,) = [one for one in campaign.advice if one.code == "over-budget"]
    assert "beyond the budget of 15 s" in advice.message
    assert "64 in, 16 out, batch 1" in advice.message
    assert "were predicted" in advice.message


def test_what_is_said_at_the_end_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    every, _ = spend(1e6, times=1.0)
    assert (every.ended, ended_text(every)) == ("exhausted", "every cell is measured")
    some, _ = spend(1e6, times=1.0, noisy_from=4)
    assert some.ended == "exhausted"
    assert "every cell that could be measured is; " in ended_text(some)
    assert f"{some.n_failed} failed" in ended_text(some)
    assert some.n_failed + some.n_not_tried == 4
    few, _ = spend(40.0, times=50.0)
    assert few.ended == "budget"
    assert "every cell" not in ended_text(few)
    show_campaign(few)
    show_step(few.steps[0])
    told = capsys.readouterr().err
    assert "ended: the budget is spent" in told
    assert "nothing is measured yet" in told


def test_a_campaign_looks_at_the_machine_as_a_run_does() -> None:
    finding = {"name": "governor", "verdict": "bad", "seen": "the governor saves power", "advice": "set performance"}
    campaign, _ = spend(100.0, times=1.0, host={"doctor": [finding]})
    assert [(one.code, one.hint) for one in campaign.advice if one.code == "governor"] == [
        ("governor", "set performance")
    ]


def test_what_was_spent_before_counts() -> None:
    with open_store(":memory:") as store:
        first = run_campaign(cells(), store, SlowMachine(store), model=None, budget_s=40)
        machine = SlowMachine(store)
        again = run_campaign(cells(), store, machine, model=None, budget_s=40)
        assert first.spent_s + sum(machine.costs[:-1]) <= 40
        assert again.spent_s == pytest.approx(first.spent_s + sum(machine.costs))
        assert again.ended == "budget"


def test_portions_keep_an_engine_loaded_and_lanes_apart() -> None:
    batch = [Proposal(position, 0.0, 1.0, 1.0, 1.0) for position in range(5)]
    deployments = [0, 1, 0, 2, 1]
    alone = [[p.position for p in one] for one in portions(batch, deployments, 1)]
    assert alone == [[0], [2], [1], [4], [3]]
    lanes = [[p.position for p in one] for one in portions(batch, deployments, 2)]
    assert lanes == [[0, 1], [2, 4], [3]]


def test_costs_beyond_their_predictions_count_for_the_next_cells() -> None:
    case = cells()[0]
    budget = Budget(100.0)
    assert budget.dearer == 1.0
    budget.taken += [CellCost(case, 1.0, 4.0), CellCost(case, 2.0, 2.0), CellCost(case, 1.0, 16.0)]
    assert budget.dearer == pytest.approx(4.0)
    assert Budget(100.0, [CellCost(case, 4.0, 1.0)]).dearer == 1.0
    assert Budget(None).left_s(1e9) == np.inf
    assert Budget(10.0).advice(9.0) is None
