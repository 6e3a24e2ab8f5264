"""The verbs: file-based ask and tell, and strategies side by side on a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fewmark.core import FewmarkError, InputError
from fewmark.evaluation.meta_metrics import Charges
from fewmark.interop import read_table, write_table
from fewmark.tables.metrics import derive
from fewmark.tables.repeats import measured_cells
from fewmark.verbs.assess import assess_plan, assess_strategies, describe, split_names, write_report
from fewmark.verbs.plan import plan

CHARGED = ("expected_gain", "predicted_cost_s", "forecast_error_before", "forecast_error_after")
CELL = ["model", "input_tokens", "output_tokens", "batch_size"]


def files(tmp_path: Path, table: pd.DataFrame, known: list[int]) -> dict[str, Any]:
    metrics = ["e2e_latency_s", "ttft_s", "throughput_tok_s", "status"]
    write_table(table.drop(columns=metrics), tmp_path / "space.csv")
    write_table(table.iloc[known], tmp_path / "known.csv")
    return {"space": tmp_path / "space.csv", "data": tmp_path / "known.csv", "model": "none"}


def test_ask_and_tell_by_files_until_it_is_accurate_enough(tmp_path: Path, grid: Any) -> None:
    known = [8]
    for _ in range(20):
        chosen, planner = plan(**files(tmp_path, grid.table, known), ask=2, target_error=0.05, out=tmp_path / "n.csv")
        if chosen.empty:
            break
        read = read_table(tmp_path / "n.csv")
        assert list(read[list(CHARGED)].notna().all()) == [True] * 4
        assert (read["forecast_error_after"] <= read["forecast_error_before"]).all()
        told = planner.space.locate(read)
        assert not set(told) & set(known)
        known += [int(position) for position in told]
    assert planner.reached()
    value, _ = planner.estimate()
    assert np.median(np.abs(value / grid.throughput - 1)) <= 0.05
    assert len(known) <= 14


def test_what_is_forbidden_failed_or_unimportant_is_not_asked(tmp_path: Path, grid: Any) -> None:
    table = grid.table.assign(priority=np.where(grid.table["input_tokens"] >= 1024, 1.0, 0.0))
    failed = (table["batch_size"] == 16) & (table["input_tokens"] == 1024)
    table.loc[failed, ["status", "throughput_tok_s", "e2e_latency_s"]] = ["out_of_memory", np.nan, np.nan]
    request = files(tmp_path, table, [0, int(np.flatnonzero(failed)[0])])
    chosen, _ = plan(**request, ask=50, forbid=["batch_size>16", "input_tokens=512"])
    assert len(chosen)
    assert (chosen["batch_size"] <= 16).all()
    assert not (chosen["input_tokens"] == 512).any()
    assert not ((chosen["batch_size"] == 16) & (chosen["input_tokens"] >= 1024)).any()
    assert chosen["input_tokens"].iloc[:2].max() >= 1024  # a cheap one before it may tell of it


@pytest.mark.parametrize(
    "change",
    [
        {"forbid": ["batch_size"]}, {"forbid": ["nonsense>3"]}, {"forbid": ["model<x"]}, {"ask": 0},
        {"target": "power"}, {"strategy": "nonsense"}, {"model": "nonsense"}, {"target_error": 3.0},
        {"space": "no-such-file.csv"},
    ],
)  # fmt: skip
def test_a_wrong_request_is_one_clear_error(change: dict[str, Any], tmp_path: Path, grid: Any) -> None:
    with pytest.raises(FewmarkError):
        plan(**{**files(tmp_path, grid.table, [0, 1]), **change})


def test_a_target_that_implies_no_latency_still_has_a_predicted_cost(tmp_path: Path, grid: Any) -> None:
    chosen, _ = plan(**files(tmp_path, grid.table, [0, 7, 13]), ask=1, target="ttft_s")
    position = int(np.flatnonzero((grid.table[CELL] == chosen[CELL].iloc[0]).all(axis=1))[0])
    assert chosen["predicted_cost_s"].iloc[0] == pytest.approx(10 + 4 * grid.latency_s[position], rel=0.5)


def test_cells_are_known_once_and_what_follows_is_derived(grid: Any) -> None:
    table = pd.concat([grid.table, grid.table.assign(throughput_tok_s=grid.table["throughput_tok_s"] * 1.2)])
    cells = measured_cells(table, "throughput_tok_s")
    assert len(cells) == 20
    np.testing.assert_allclose(cells["throughput_tok_s"], grid.throughput * 1.1)
    bare = grid.table.drop(columns=["e2e_latency_s", "ttft_s"])
    np.testing.assert_allclose(derive(bare)["e2e_latency_s"], grid.latency_s)
    np.testing.assert_allclose(measured_cells(bare, "e2e_latency_s")["e2e_latency_s"], grid.latency_s)
    assert measured_cells(grid.table.assign(status="timeout"), "throughput_tok_s").empty


@pytest.mark.slow
def test_assess_tells_the_strategies_apart(tmp_path: Path, make_grid: Any) -> None:
    recorded = make_grid(("a", "b", "c"), noise=0.005)
    write_table(recorded.table, tmp_path / "t.csv")
    found = assess_strategies(
        tmp_path / "t.csv", strategies=("full,random,adaptive",), model="none", relatives=False, accuracies=(0.95,)
    )
    assert list(found.replays) == ["full", "random", "adaptive", "adaptive to 95%"]
    full, stopped = found.summary("full"), found.summary("adaptive to 95%")
    assert (full["speed_up"], full["relative_accuracy"]) == pytest.approx((1.0, 1.0))
    assert stopped["speed_up"] > 3
    assert stopped["right"] == 1.0
    assert stopped["ended"] == {"reached": 3}
    better, worse = found.frontier("adaptive"), found.frontier("random")
    known = [(a["median_ape"], b["median_ape"]) for a, b in zip(better, worse, strict=True) if b["median_ape"]]
    assert np.mean([a <= b for a, b in known]) > 0.7
    points = found.pareto()
    assert "adaptive" in {point["strategy"].split()[0] for point in points}
    assert [point["share_of_time"] for point in points] == sorted(point["share_of_time"] for point in points)
    assert [point["median_ape"] for point in points] == sorted((p["median_ape"] for p in points), reverse=True)
    out = json.loads(json.dumps(describe(found, Charges(), "full"), allow_nan=False))
    assert out["n_deployments"] == 3
    write_report(found, tmp_path / "r.html")
    assert "stopped by its own estimate" in (tmp_path / "r.html").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="report"):
        write_report(found, tmp_path / "r.pdf")
    account = out["strategies"]["adaptive to 95%"]["deployments"][0]
    assert account["accuracy"]["throughput_tok_s"]["measured"]["worst_ape"] < 1e-9
    assert account["speed_up"] == pytest.approx(account["reference"]["time_s"] / account["plan"]["time_s"])


def test_the_reference_may_be_a_part_of_the_table(tmp_path: Path, make_grid: Any) -> None:
    recorded = make_grid(loads=(1, 2, 3, 4, 6, 8))
    write_table(recorded.table, tmp_path / "t.csv")
    found = assess_strategies(
        tmp_path / "t.csv", strategies=("full",), reference="powers-of-two", model="none", relatives=False
    )
    assert len(found.subjects[0].space) == 5 * 4


@pytest.mark.slow
def test_relatives_help_where_a_model_pools(tmp_path: Path, make_grid: Any) -> None:
    recorded = make_grid(tuple("abcdef"), lengths=(128, 512, 2048), loads=(1, 8, 64))
    write_table(recorded.table, tmp_path / "t.csv")
    request = {"strategies": ("adaptive",), "accuracies": (0.9,), "model": "linear"}
    informed = assess_strategies(tmp_path / "t.csv", **request)
    alone = assess_strategies(tmp_path / "t.csv", **request, relatives=False)
    assert informed.subjects[0].belief.sd.mean() < alone.subjects[0].belief.sd.mean()


def test_nothing_to_assess_is_said(tmp_path: Path, grid: Any) -> None:
    write_table(grid.table.iloc[:3], tmp_path / "few.csv")
    with pytest.raises(InputError, match="no deployment"):
        assess_strategies(tmp_path / "few.csv", model="none")
    write_table(grid.table.assign(status="crashed"), tmp_path / "failed.csv")
    with pytest.raises(InputError, match="nothing to assess"):
        assess_strategies(tmp_path / "failed.csv", model="none")
    with pytest.raises(InputError, match="fraction"):
        assess_strategies(tmp_path / "few.csv", model="none", accuracies=(96.6,))


def test_names_may_have_parameters() -> None:
    assert split_names("full, stop-at-limit(itl_s=1,ttft_s=2)+adaptive") == [
        "full", "stop-at-limit(itl_s=1,ttft_s=2)+adaptive",
    ]  # fmt: skip


def test_a_plan_is_forecast_before_it_runs_and_reported_after(tmp_path: Path, grid: Any) -> None:
    request = files(tmp_path, grid.table, [0])
    (tmp_path / "prices.yaml").write_text("accelerators: [{name: T1000, per_hour: 3.6, power_w: 100}]")
    table = grid.table.assign(accelerator="T1000")
    write_table(table, tmp_path / "space.csv")
    write_table(table.iloc[[0]], tmp_path / "known.csv")
    write_table(table.iloc[[3, 11, 16]], tmp_path / "plan.csv")
    ahead = assess_plan(**request, plan=tmp_path / "plan.csv", prices=tmp_path / "prices.yaml")
    assert ahead.account.forecast
    assert (ahead.n_measured, ahead.account.plan.n_cells, ahead.account.reference.n_cells) == (1, 4, 20)
    assert ahead.after.mean_ape < ahead.before.mean_ape
    assert ahead.account.plan.money == pytest.approx(ahead.account.plan.time_s / 1000)
    assert ahead.account.plan.energy_j == pytest.approx(ahead.account.plan.time_s * 100)
    write_table(table.iloc[[0, 3, 11, 16]], tmp_path / "known.csv")
    ran = assess_plan(**request)
    assert not ran.account.forecast
    assert ran.n_measured == 4
    assert ran.account.plan.time_s == pytest.approx(10 + 4 * grid.latency_s[[0, 3, 11, 16]].sum())
    errors = ran.account.accuracy["throughput_tok_s"]
    assert (errors["measured"].n, errors["predicted"].n) == (4, 16)
    assert errors["predicted"].median_ape < 3 * ran.before.median_ape + 0.05
    json.dumps(ran.to_dict(), allow_nan=False)
    write_table(table.assign(input_tokens=77.0).iloc[:1], tmp_path / "plan.csv")
    with pytest.raises(InputError, match="row 1 of the plan"):
        assess_plan(**request, plan=tmp_path / "plan.csv")


def test_a_forecast_is_called_a_guess_only_where_nothing_was_measured(make_grid: Any) -> None:
    table = make_grid().table
    rows = table.iloc[:6]
    space = table.iloc[6:10]
    own = plan(space, data=rows, model="none", prior=False, screened=False)
    assert own.planner.is_guess  # without a model, other cells say nothing of these
    learned = plan(space, data=rows, model="mechanistic", prior=False, screened=False)
    assert not learned.planner.is_guess
