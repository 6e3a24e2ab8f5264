"""Deployments of which nothing is measured: how far trees over the table are believed beside the process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewmark.facts.facts import load_facts
from fewmark.models.auto import monotone
from fewmark.models.auto.conformity_scores import LeftOut, Scores
from fewmark.models.auto.features import WAIT, Encoder, featurise
from fewmark.models.auto.latency_gp import LatencyGP
from fewmark.models.auto.model import AutoModel
from fewmark.models.auto.monotone import Grid, correction, in_order
from fewmark.models.auto.unmeasured import Trees, averaged, has_say, learn, left_out_trees
from fewmark.models.persistence import load_model, save_model

World = Callable[..., pd.DataFrame]


def left_out(truth: np.ndarray, said: np.ndarray, deployment: np.ndarray) -> LeftOut:
    n = len(truth)
    return LeftOut(
        np.zeros((n, 3)), deployment, np.zeros(n), truth, said, said, np.full(n, 0.1), 0.0, 0.0, np.zeros((n, 2)),
        np.ones(n), unmeasured=True,
    )  # fmt: skip


def test_shares_go_by_errors_that_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    deployment = np.repeat(np.arange(12), 5)
    truth = rng.normal(0, 0.3, len(deployment))
    near, off, like = truth + 0.02, truth + rng.normal(0, 0.3, len(truth)), truth + rng.normal(0, 0.3, len(truth))
    trees_right = learn(left_out(truth, off, deployment), near)
    process_right = learn(left_out(truth, near, deployment), off)
    assert process_right.shrinkage < 0.05
    assert trees_right.shrinkage > 0.95
    assert learn(left_out(truth, off, deployment), like).shrinkage == pytest.approx(0.5, abs=0.2)
    # two deployments that do not agree tell nothing
    mixed = np.where(deployment % 2 == 0, near, off)
    said = np.where(deployment % 2 == 0, off, near)
    assert learn(left_out(truth, said, deployment), mixed).shrinkage == pytest.approx(0.5, abs=0.2)
    # scores are those of what is answered
    said = averaged(off, near, trees_right.shrinkage)
    np.testing.assert_allclose(trees_right.error, np.abs(truth - said))


def test_where_trees_say_nothing_the_process_answers() -> None:
    assert averaged(np.array([1.0, 2.0]), np.array([np.nan, 4.0]), 0.5).tolist() == [1.0, 3.0]
    nothing = left_out(np.ones(8), np.zeros(8), np.repeat([0, 1], 4))
    assert learn(nothing, np.full(8, np.nan)) is nothing
    kept = np.full((8, WAIT + 2), np.nan)
    assert [has_say(n, kept) for n in (2, 8, 91)] == [False, True, False]
    kept[3, WAIT] = 0.2  # the mean function knows of a queue
    assert not has_say(8, kept)


@pytest.mark.slow
def test_left_out_trees_have_not_seen_the_deployment(make_world: World) -> None:
    cells = make_world(engines=1)
    table = featurise(cells, "throughput_tok_s", load_facts(), Encoder())
    residual = 0.01 * table.axes[:, 2]
    residual[table.deployment == 0] += 3.0  # of which no other tells
    known = table.inputs, table.axes, table.log_roofline, residual
    said = left_out_trees(*known, table.deployment, 0)
    assert np.abs(said[table.deployment == 0] - residual[table.deployment == 0]).min() > 1.5
    seen = Trees(*known, 0).residuals(table.inputs, table.axes, table.log_roofline)
    assert np.median(np.abs(seen - residual)) < 0.1
    absurd = table.inputs.take(np.arange(2))
    absurd.values[:, 3] = np.inf
    assert np.isfinite(Trees(*known, 0).residuals(absurd, table.axes[:2], np.array([0.0, 1.0]))).all()
    assert np.isnan(Trees(*known, 0).residuals(absurd, table.axes[:2], np.array([np.inf, np.inf]))).all()
    old = Trees(table.inputs, table.axes, np.full(len(cells), np.nan), residual, 0)
    assert np.isnan(old.residuals(table.inputs, table.axes, table.log_roofline)).all()


def test_few_deployments_widen_what_is_said_of_a_new_one() -> None:
    z, deployment = np.tile(np.linspace(0, 2, 50), 5), np.repeat(np.arange(5), 50)
    of = [
        Scores(z, np.zeros(250), np.zeros((250, 2)), np.ones(250), deployment, unmeasured=new) for new in (False, True)
    ]
    known, new = (scores.factor(np.zeros(1), np.zeros((1, 2)), 0.9)[0] for scores in of)
    assert new / known == pytest.approx(2.132 / 1.645, rel=1e-3)  # Student's t of 4 degrees over the normal


@pytest.mark.slow
def test_a_saved_model_says_the_same_of_a_new_deployment(make_world: World, tmp_path: Path) -> None:
    cells = make_world()
    hidden = (cells.model == "llama-3-70b") & (cells.accelerator == "H100")
    model = LatencyGP().fit(cells[~hidden], cells.y[~hidden].to_numpy())
    save_model(model, tmp_path / "model.npz")
    again = load_model(tmp_path / "model.npz")
    np.testing.assert_allclose(again.predict(cells[hidden]), model.predict(cells[hidden]), rtol=1e-9)
    assert np.median(np.abs(model.predict(cells[hidden]) / cells.y[hidden] - 1)) < 0.3


def test_a_curve_in_order_stays_as_it_is_and_one_that_falls_is_levelled() -> None:
    at = np.arange(5.0)
    rises, falls = np.array([0.0, 1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 1.0, 3.0, 4.0])
    assert in_order(rises, at, (0.0, 4.0)).tolist() == rises.tolist()
    assert in_order(falls, at, (0.0, 4.0)).tolist() == [0.0, 1.5, 1.5, 3.0, 4.0]
    # what was measured is not lowered by what is said beyond it, nor raised by what lies beneath
    assert in_order(np.array([9.0, 1.0, 2.0, 3.0, 0.0]), at, (1.0, 3.0)).tolist() == [1.0, 1.0, 2.0, 3.0, 3.0]


def test_two_directions_are_in_order_at_once() -> None:
    grid = Grid.of(np.array([[7.0, 7.0, 0.0], [9.0, 7.0, 5.0]]))
    curves = np.random.default_rng(0).normal(size=(3, len(grid.lengths), len(grid.loads)))
    kept = curves + grid.correction(curves)
    assert all((np.diff(kept, axis=axis) >= -1e-12).all() for axis in (1, 2))


def test_many_deployments_are_put_in_order_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid.of(np.array([[7.0, 7.0, 0.0], [9.0, 7.0, 5.0]]))
    cells = pd.DataFrame({"input_tokens": [128.0, 300.0, 500.0], "concurrency": [2.0, 9.0, 4.0]})
    cells["batch_size"] = np.nan
    axes = np.log2(cells[["input_tokens", "input_tokens", "concurrency"]].to_numpy())
    asked = []

    def say(X: pd.DataFrame) -> np.ndarray:
        asked.append(len(X))
        return np.sin(X["input_tokens"].to_numpy() + X["concurrency"].to_numpy())[None]

    whole = correction(cells, axes, np.arange(3), grid, say)
    monkeypatch.setattr(monotone, "AT_ONCE", asked[0] // 3)
    assert np.array_equal(correction(cells, axes, np.arange(3), grid, say), whole)
    assert asked == [asked[0]] + [asked[0] // 3] * 3


@pytest.mark.slow
def test_latencies_of_a_deployment_that_nobody_measured_rise_with_work() -> None:
    cells = pd.DataFrame(
        [(model, n, ii, users) for model in "abcdef" for n in (1, 2) for ii in (128, 1024) for users in (1, 8, 64)],
        columns=["model", "accelerator_count", "input_tokens", "concurrency"],
    ).assign(output_tokens=128, accelerator="x", precision="fp16")
    rng = np.random.default_rng(1)
    ttft = 1e-4 * cells["input_tokens"] * rng.lognormal(0, 0.5, len(cells))
    tpot = 0.02 * cells["concurrency"] ** 0.1 * rng.lognormal(0, 0.5, len(cells))  # scattered, so that curves bend
    model = AutoModel(target="tpot_s").fit(cells.assign(ttft_s=ttft), tpot.to_numpy())
    users = np.exp2(np.arange(9))
    asked = pd.DataFrame({"concurrency": np.tile(users, 2), "input_tokens": np.repeat([256.0, 2048.0], len(users))})
    new = asked.assign(output_tokens=128, accelerator="x", precision="fp16", model="new", accelerator_count=1)
    for target in ("tpot_s", "ttft_s"):
        of = model.for_target(target)
        assert of is not None
        said = of.predict(new).reshape(2, -1)
        assert not (np.diff(said, axis=1) < -1e-9).any()
        assert not (np.diff(said, axis=0) < -1e-9).any()
        assert np.isfinite(said).sum() > 12
