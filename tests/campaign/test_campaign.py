"""The closed loop: it stops by its own estimate or its budget, goes on where it was, and says what it does not know."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewmark.campaign import SideBySide, run_campaign
from fewmark.cli import main
from fewmark.core import Case, Cost, Deployment, InputError, Measurement, Sample, Status, Workload
from fewmark.engines.measuring.policy import Policy
from fewmark.interop import from_measurements, write_table
from fewmark.models.registry import make_model
from fewmark.runner import Runner, RunSettings
from fewmark.store import open_store
from fewmark.verbs.campaign import seconds

LOAD_S = 5.0


def latency(case: Case) -> float:
    work = case.workload
    slow = 2.0 if case.deployment.model == "large-7b" else 1.0
    return slow * (
        2e-5 * work.input_tokens * work.load
        + work.output_tokens * (0.01 + 2e-4 * work.load + 1e-7 * work.load * work.input_tokens)
    )


def grid(model: str = "small-1b") -> list[Case]:
    deployment = Deployment(engine="made-up", model=model, accelerator="A100", accelerator_count=1)
    return [
        Case(deployment, Workload(ii, oo, batch_size=bb))
        for ii in (128, 512, 2048) for oo in (64, 256) for bb in (1, 4, 16, 64)
    ]  # fmt: skip


@dataclass
class Machine:
    """A runner without an engine: measures by formula, fails from a batch size on, and dies after some cells."""

    store: Any
    out_of_memory_from: float = float("inf")
    dies_after: int = 10**9
    noise: float = 0.0
    asked: list[Case] = field(default_factory=list)

    def run(self, cases: Iterable[Case]) -> Any:
        came = []
        group = list(cases)
        for case in group:
            if len(self.asked) == self.dies_after:
                raise KeyboardInterrupt
            self.asked.append(case)
            fails = case.workload.load >= self.out_of_memory_from
            scatter = np.random.default_rng(len(self.asked)).standard_normal()
            seconds = latency(case) * float(np.exp(self.noise * scatter))
            measurement = Measurement(
                case,
                status=Status.OUT_OF_MEMORY if fails else Status.OK,
                samples=() if fails else (Sample(e2e_latency_s=seconds),) * 3,
                cost=Cost(wall_s=4 * seconds, startup_s=LOAD_S / len(group)),
            )
            self.store.add([measurement])
            came.append(measurement)
        return SimpleNamespace(measurements=tuple(came))


def errors(campaign: Any, cases: list[Case]) -> np.ndarray:
    truth = np.array([case.workload.load * case.workload.output_tokens / latency(case) for case in cases])
    return np.abs(campaign.table["value"].to_numpy() / truth - 1)


def test_it_reaches_the_error_for_little_and_the_claim_is_true() -> None:
    cases = grid()
    with open_store(":memory:") as store:
        shown = []
        campaign = run_campaign(cases, store, Machine(store), model=None, target_error=0.04, on_step=shown.append)
        assert campaign.ended == "reached"
        assert campaign.ok
        assert np.median(errors(campaign, cases)) <= 0.04
        assert campaign.account.speed_up is not None
        assert campaign.account.speed_up > 2.5
        assert campaign.account.plan.n_loads == 1
        assert campaign.account.plan.loading_s == pytest.approx(LOAD_S * (len(shown) - 1))
        assert [step.n_measured for step in shown] == sorted(step.n_measured for step in shown)
        assert shown[-1].forecast.median_ape_bound <= 0.04 < shown[0].forecast.median_ape_bound
        assert shown[0].next_cost_s is not None
        # every forecast was on record before its cell was measured
        assert len(campaign.ledger) == sum(1 for _ in store.outcomes("throughput_tok_s")) == shown[-1].n_measured
        json.dumps(campaign.to_dict(), allow_nan=False)


@pytest.mark.slow
def test_a_claim_about_a_large_grid_is_not_made_from_one_moment_of_the_machine() -> None:
    deployment = grid()[0].deployment
    cases = [
        Case(deployment, Workload(ii, oo, batch_size=bb))
        for ii in (32, 128, 512, 2048) for oo in (64, 256, 1024, 4096) for bb in (1, 4, 16, 64)
    ]  # fmt: skip
    whole_s = sum(4 * latency(case) for case in cases)
    with open_store(":memory:") as store:
        campaign = run_campaign(cases, store, Machine(store), model=None, target_error=0.25)
        assert campaign.ended == "reached"
        early = [step for step in campaign.steps if step.forecast.median_ape_bound <= 0.25]
        assert len(early) > 1
        assert early[0].spent_s < 0.02 * whole_s
        assert campaign.account.plan.n_cells >= 24 or campaign.account.plan.time_s >= 0.015 * whole_s


def test_a_budget_is_kept_and_what_was_measured_stays() -> None:
    cases = grid()
    with open_store(":memory:") as store:
        campaign = run_campaign(cases, store, Machine(store), model=None, budget_s=60, target_error=0.001, step_cells=2)
        assert campaign.ended == "budget"
        assert campaign.account.plan.time_s <= 60 * 1.3  # costs are predicted, and may come out dearer
        assert {advice.code for advice in campaign.advice} == {"not-reached"}
        assert not campaign.ok
        assert campaign.account.plan.n_cells == len(store.case_ids()) > 1


def test_a_budget_too_small_for_anything_says_that_nothing_is_known() -> None:
    with open_store(":memory:") as store:
        machine = Machine(store)
        campaign = run_campaign(grid(), store, machine, model=None, budget_s=2)
        assert campaign.ended == "budget"
        assert machine.asked == []
        assert [advice.code for advice in campaign.advice] == ["nothing-known"]
        assert "raise the budget" in campaign.advice[0].hint
        assert not campaign.ok


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped() -> None:
    cases = grid()
    with open_store(":memory:") as store:
        with pytest.raises(KeyboardInterrupt):
            run_campaign(cases, store, Machine(store, dies_after=3), model=None, target_error=0.04, step_cells=2)
        before = store.case_ids()
        assert len(before) == 3
        machine = Machine(store)
        campaign = run_campaign(cases, store, machine, model=None, target_error=0.04, step_cells=2)
        assert campaign.ended == "reached"
        assert not before & {case.case_id for case in machine.asked}
        assert campaign.steps[0].n_measured == 3
        assert campaign.steps[0].spent_s > 0


@pytest.mark.slow
def test_a_noisy_machine_is_not_asked_for_more_than_it_repeats_to() -> None:
    with open_store(":memory:") as store:
        machine = Machine(store, noise=0.25)
        campaign = run_campaign(grid(), store, machine, model=None, target_error=0.02, step_cells=2)
    assert campaign.ended in ("settled", "exhausted")
    (advice,) = campaign.advice
    assert advice.code == "not-reached"
    assert campaign.steps[-1].forecast.median_ape_bound > 0.05


def test_failures_close_what_asks_for_more() -> None:
    cases = grid()
    with open_store(":memory:") as store:
        machine = Machine(store, out_of_memory_from=16)
        campaign = run_campaign(cases, store, machine, model=None, target_error=0.03, step_cells=1)
        failed = [case for case in machine.asked if case.workload.load >= 16]
        assert len(failed) < 12
        assert (campaign.table["kind"] == "").sum() == len(failed)
        assert campaign.table.loc[campaign.table["kind"] == "", "value"].isna().all()


@pytest.mark.slow
def test_relatives_in_the_store_spare_measurements() -> None:
    with open_store(":memory:") as store:
        Machine(store).run(grid("large-7b"))
        machine = Machine(store)
        model = make_model("auto", target="throughput_tok_s")
        informed = run_campaign(grid(), store, machine, model=model, target_error=0.04, step_cells=1)
        assert np.median(errors(informed, grid())) <= 0.04
    with open_store(":memory:") as store:
        alone = run_campaign(grid(), store, Machine(store), model=None, target_error=0.04, step_cells=1)
    assert len(machine.asked) <= alone.account.plan.n_cells


@pytest.mark.slow
def test_the_real_runner_replays_a_recorded_table(tmp_path: Any) -> None:
    recorded = [
        Measurement(case, samples=(Sample(e2e_latency_s=latency(case)),), provenance="imported") for case in grid()
    ]
    write_table(from_measurements(recorded), tmp_path / "table.csv")
    options = {"table": str(tmp_path / "table.csv"), "engine": "made-up"}
    deployment = Deployment("replay", "small-1b", accelerator="A100", accelerator_count=1, engine_options=options)
    cases = [Case(deployment, case.workload) for case in grid()]
    with open_store(tmp_path / "store.db") as store:
        runner = Runner(store, RunSettings(policy=Policy(min_repeats=1, max_repeats=1)), quiet=True)
        campaign = run_campaign(cases, store, runner, model=None, target_error=0.05, step_cells=6)
        assert campaign.ended == "reached"
        assert np.median(errors(campaign, cases)) <= 0.05
        assert len(store.case_ids()) < len(cases)


@pytest.mark.parametrize(
    "change", [{"budget_s": -1}, {"budget_s": float("nan")}, {}, {"budget_s": 9, "step_cells": 0}, {"target_error": 7}]
)
def test_a_wrong_request_is_refused(change: dict[str, Any]) -> None:
    with open_store(":memory:") as store, pytest.raises(InputError):
        run_campaign(grid(), store, Machine(store), model=None, **change)
    with open_store(":memory:") as store, pytest.raises(InputError):
        run_campaign([], store, Machine(store), model=None, budget_s=9)


def test_the_command_runs_a_suite_until_the_error_is_reached(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = [Measurement(case, samples=(Sample(e2e_latency_s=latency(case)),)) for case in grid()]
    write_table(from_measurements(recorded), tmp_path / "table.csv")
    suite = tmp_path / "s.yaml"
    suite.write_text(
        "deployments:\n"
        f"  - {{engine: replay, model: small-1b, accelerator: A100, accelerator_count: 1,\n"
        f"     engine_options: {{table: '{tmp_path / 'table.csv'}', engine: made-up}}}}\n"
        "cells:\n  - grid: {input_tokens: [128, 512, 2048], output_tokens: [64, 256], batch_size: [1, 4, 16, 64]}\n",
        encoding="utf-8",
    )
    request = ["run", str(suite), "--store", f"sqlite:///{tmp_path / 'f.db'}", "--quiet", "--model", "none"]
    assert main([*request, "--target-error", "0.05", "--json"]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert told["ended"] == "reached"
    assert told["account"]["plan"]["n_cells"] < 24
    assert "times less" in captured.err
    assert main([*request, "--budget", "1s", "--target-error", "0.0001"]) == 1
    assert "ended: the budget is spent" in capsys.readouterr().err
    for wrong in ("--budget soon", "--budget -3m", "--target-error 5", "--budget 9m --limit 3"):
        assert main([*request, *wrong.split()]) == 2


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("0.5h", 1800)])
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value
    for wrong in ("", "0", "5x", "m", "1h-3m", "1e3"):
        with pytest.raises(InputError):
            seconds(wrong)


@pytest.mark.slow
def test_deployments_run_side_by_side_and_all_results_arrive(tmp_path: Any) -> None:
    names = ("small-1b", "large-7b", "other-3b")
    recorded = [
        Measurement(case, samples=(Sample(e2e_latency_s=latency(case)),)) for name in names for case in grid(name)
    ]
    write_table(from_measurements(recorded), tmp_path / "table.csv")
    options = {"table": str(tmp_path / "table.csv"), "engine": "made-up"}
    cases = [
        Case(Deployment("replay", name, accelerator="A100", accelerator_count=1, engine_options=options), case.workload)
        for name in names for case in grid(name)
    ]  # fmt: skip
    missing = Case(Deployment("no-such-engine", "m"), cases[0].workload)
    with open_store(tmp_path / "store.db") as store:
        settings = RunSettings(policy=Policy(min_repeats=1, max_repeats=1))
        report = Runner(store, settings, quiet=True, executor=SideBySide(2)).run([*cases, missing])
        assert {m.case.case_id for m in report.measurements} == {case.case_id for case in cases}
        assert [engine for engine, _, _ in report.unavailable] == ["no-such-engine"]
        assert len(store.case_ids()) == len(cases)
    with pytest.raises(InputError):
        SideBySide(0)


def test_truncated_generations_stand_in_for_long_ones() -> None:
    long = [replace(case, workload=replace(case.workload, output_tokens=1024)) for case in grid()[::2]]
    with open_store(":memory:") as store:
        machine = Machine(store)
        campaign = run_campaign(long, store, machine, model=None, target_error=0.05, truncate=64)
        assert 64 in {case.workload.output_tokens for case in machine.asked}
        assert set(campaign.table["output_tokens"]) == {1024}
        assert len(campaign.table) == len({case.case_id for case in long})
        assert campaign.account.reference.n_cells == len(campaign.table)
        truth = [c.workload.load * 1024 / latency(c) for c in {c.case_id: c for c in long}.values()]
        assert np.median(np.abs(campaign.table["value"].to_numpy() / truth - 1)) <= 0.05
    with open_store(":memory:") as store, pytest.raises(InputError):
        run_campaign(long, store, Machine(store), model=None, target_error=0.05, truncate=0)
