"""Loads beyond those known: what the deployment's own cells say of them, and how far that is trusted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewmark.models.analytic.mechanistic import work
from fewmark.models.auto import extrapolation
from fewmark.models.auto.conformity_scores import LeftOut
from fewmark.models.auto.extrapolation import DEFAULT_SHARE, DEFAULT_WEIGHT, learn, parametric, shrunk
from fewmark.models.auto.latency_gp import LatencyGP
from fewmark.models.persistence import load_model, save_model

TRUE_K = np.array([0.02, 0.012, 4e-4, 3e-5, 2e-9, 0.0])
World = Callable[..., pd.DataFrame]


def grid(lengths: tuple[int, ...], loads: tuple[int, ...]) -> np.ndarray:
    return np.log2([[n, n, b] for n in lengths for b in loads]).astype(float)


def seconds(axes: np.ndarray, k: np.ndarray = TRUE_K) -> np.ndarray:
    return np.asarray(work("e2e_latency_s", *np.exp2(axes[:, :3]).T) @ k)


def test_a_law_of_the_terms_is_found_again_beyond_the_known_loads() -> None:
    known, asked = grid((128, 512, 2048), (1, 4, 16)), grid((128, 1024), (32, 64))
    said = parametric(known, np.log(seconds(known)), asked)
    np.testing.assert_allclose(said, np.log(seconds(asked)), atol=0.03)


def test_nothing_is_said_from_too_little() -> None:
    known, asked = grid((128, 512), (1, 4, 16)), grid((512,), (64,))
    assert np.isfinite(parametric(known, np.log(seconds(known)), asked)).all()
    assert np.isnan(parametric(known[:5], np.log(seconds(known))[:5], asked)).all()  # fewer cells than terms
    assert np.isnan(parametric(known[:0], np.zeros(0), asked)).all()
    assert np.isnan(parametric(known, np.full(len(known), np.nan), asked)).all()
    further = np.column_stack([asked, np.ones(len(asked))])  # another share of a shared prefix, say
    assert np.isnan(parametric(np.column_stack([known, np.zeros(len(known))]), np.log(seconds(known)), further)).all()


def left_out(truth: np.ndarray, said: np.ndarray, deployment: np.ndarray) -> LeftOut:
    n = len(truth)
    return LeftOut(
        grid((128,), (64,)).repeat(n, 0), deployment, np.zeros(n), truth, said, said, np.full(n, 0.1), 0.5, 0.5,
        np.tile([0.0, 1.0], (n, 1)), np.ones(n),
    )  # fmt: skip


@pytest.mark.parametrize("n_deployments", [2, 30])
def test_trust_is_earned_on_other_deployments(n_deployments: int) -> None:
    rng = np.random.default_rng(0)
    deployment = np.repeat(np.arange(n_deployments), 5)
    truth = rng.normal(0, 0.1, len(deployment))
    near, off = truth + rng.normal(0, 0.01, len(truth)), truth + rng.normal(0, 0.1, len(truth))
    good, bad = learn(left_out(truth, off, deployment), near), learn(left_out(truth, near, deployment), off)
    worth = n_deployments / (n_deployments + DEFAULT_WEIGHT)
    assert good.shrinkage > DEFAULT_SHARE + 0.4 * worth
    assert bad.shrinkage < DEFAULT_SHARE - 0.35 * worth
    assert np.median(good.error) < np.median(left_out(truth, off, deployment).error)


def test_a_parametric_model_far_off_moves_a_prediction_by_a_few_deviations_at_most() -> None:
    moved = shrunk(np.zeros(3), np.array([5.0, 0.01, np.nan]), np.full(3, 0.1), np.full(3, 2.0), 1.0)
    assert moved[0] == pytest.approx(extrapolation.MAX_SHIFT_SD * 0.1, rel=0.01)
    assert moved[1] == pytest.approx(0.01, rel=0.02)
    assert moved[2] == 0.0


def test_it_sets_in_where_the_known_loads_end_and_is_whole_a_doubling_beyond() -> None:
    octaves = np.array([0.0, 0.01, 0.5, 1.0, 3.0])
    moved = shrunk(np.zeros(5), np.full(5, 0.05), np.full(5, 0.1), octaves, 1.0)
    assert moved[0] == 0.0
    np.testing.assert_allclose(moved / moved[-1], np.minimum(1.0, octaves))


@pytest.fixture(scope="module")
def saturating() -> pd.DataFrame:
    """Deployments alike but for the work of a sequence, of which no published fact tells."""
    rng = np.random.default_rng(1)
    rows = []
    for n in range(12):
        k = TRUE_K * np.array([1, 1, np.exp(rng.normal(0, 0.8)), np.exp(rng.normal(0, 0.8)), 1, 1])
        axes = grid((128, 512, 2048), (1, 4, 16, 64))
        taken = seconds(axes, k) * np.exp(rng.normal(0, 0.01, len(axes)))
        ii, oo, bb = np.exp2(axes).T
        rows.append(
            pd.DataFrame({"engine": "e", "model": f"m-{n}-7b", "accelerator": "A100", "accelerator_count": 1.0,
                          "input_tokens": ii, "output_tokens": oo, "batch_size": bb, "y": taken})
        )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def test_the_largest_load_of_a_deployment_is_told_by_its_own_cells(
    saturating: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hidden = ((saturating["batch_size"] == 64) & (saturating.index < 48)).to_numpy()  # of four deployments
    X, y = saturating.drop(columns="y"), saturating["y"].to_numpy()
    model = LatencyGP(target="e2e_latency_s").fit(X[~hidden], y[~hidden])
    asked = X[hidden]
    drawn, interval = model.predict(asked), model.predict_interval(asked)
    assert ((interval[:, 0] < drawn) & (drawn < interval[:, 1])).all()
    path = tmp_path / "model"
    save_model(model, path)
    np.testing.assert_allclose(load_model(path).predict(asked), drawn, rtol=1e-9)
    monkeypatch.setattr(extrapolation, "parametric", lambda known, _, asked: np.full(len(asked), np.nan))
    plain = LatencyGP(target="e2e_latency_s").fit(X[~hidden], y[~hidden]).predict(asked)
    errors = [np.median(np.abs(np.log(each / y[hidden]))) for each in (drawn, plain)]
    assert errors[0] < 0.7 * errors[1]


def test_users_in_a_closed_loop_may_queue_and_are_no_batch(make_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_world(3, engines=1, concurrency=True)
    far = (table["concurrency"] == 64).to_numpy()
    X, y = table.drop(columns="y"), table["y"].to_numpy()
    model = LatencyGP().fit(X[~far], y[~far])
    said = model.predict(X[far])
    monkeypatch.setattr(extrapolation, "parametric", lambda known, _, asked: np.zeros(len(asked)))
    np.testing.assert_array_equal(model.predict(X[far]), said)
