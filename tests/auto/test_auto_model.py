"""What the default model promises: accuracy, intervals that hold, honest silence, one answer after a round trip."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import joblib
import numpy as np
import pandas as pd
import pytest

from fewmark.core.errors import ModelError
from fewmark.models.auto import latency_gp
from fewmark.models.auto.by_load import AutoByLoad
from fewmark.models.auto.conformity_scores import Scores
from fewmark.models.auto.estimate import CalibratedEstimate
from fewmark.models.auto.latency_gp import LatencyGP
from fewmark.models.registry import make_model

World = Callable[..., pd.DataFrame]


def _deployment(cells: pd.DataFrame) -> pd.Series:
    return cells.engine + cells.accelerator + cells.model


@pytest.fixture(scope="module")
def fitted(cells: pd.DataFrame) -> tuple[LatencyGP, pd.DataFrame]:
    """A model that has not seen the largest batch of a third of the deployments, and nothing of two of them."""
    name = _deployment(cells)
    order = sorted(set(name))
    hidden = (name.isin(order[::3]) & (cells.batch_size == 64)) | name.isin(order[1:3])
    return LatencyGP().fit(cells[~hidden], cells.y[~hidden].to_numpy()), cells[hidden]


def test_hidden_cells_are_predicted_and_covered(fitted: tuple[LatencyGP, pd.DataFrame]) -> None:
    model, hidden = fitted
    y = hidden.y.to_numpy()
    ape = np.abs(model.predict(hidden) / y - 1)
    assert np.median(ape) < 0.05
    low, high = model.predict_interval(hidden, 0.9).T
    # the cells of a deployment err together: one draw may lie well below; the mean over worlds is tested below
    assert 0.7 <= np.mean((low <= y) & (y <= high)) <= 1.0
    wide = model.predict_interval(hidden, 0.99)
    assert ((wide[:, 0] <= low) & (wide[:, 1] >= high)).all()
    assert model.forecast_error(hidden) == pytest.approx(np.median(ape), abs=0.03)


@pytest.mark.slow
def test_intervals_hold_on_average_over_worlds(make_world: World) -> None:
    covered, sizes = [], []
    for seed in range(4):
        cells = make_world(seed)
        hidden = np.random.default_rng(seed).random(len(cells)) < 0.3
        model = LatencyGP(random_state=seed).fit(cells[~hidden], cells.y[~hidden].to_numpy())
        low, high = model.predict_interval(cells[hidden]).T
        y = cells.y[hidden].to_numpy()
        covered += ((low <= y) & (y <= high)).tolist()
        sizes += ((high - low) / y).tolist()
    assert 0.86 <= np.mean(covered) <= 0.95
    assert np.median(sizes) < 0.06  # the noise alone is 0.033 wide


def test_provenance_tells_what_a_prediction_rests_on(
    fitted: tuple[LatencyGP, pd.DataFrame], cells: pd.DataFrame
) -> None:
    model, hidden = fitted
    name = _deployment(hidden)
    unseen = name.isin(sorted(set(_deployment(cells)))[1:3]).to_numpy()
    provenance = model.provenance(hidden)
    assert set(provenance[unseen]) == {"transferred"} and set(provenance[~unseen]) == {"extrapolated"}
    learned = cells.drop(hidden.index)
    assert set(model.provenance(learned.head(20))) == {"measured"}
    between = learned.head(3).assign(input_tokens=300.0, output_tokens=200.0)
    assert set(model.provenance(between)) == {"interpolated"}
    assert (model.similarity(learned) > model.similarity(hidden).max()).mean() > 0.9


def test_nothing_relates_and_nothing_fits_is_said(fitted: tuple[LatencyGP, pd.DataFrame]) -> None:
    model, hidden = fitted
    cases = hidden.head(3).copy()
    cases.loc[cases.index[0], "batch_size"] = np.nan
    cases.loc[cases.index[1], ["input_tokens", "output_tokens", "batch_size"]] = 1e9
    reasons = model.abstentions(cases)
    assert "must be known" in reasons[0] and "out of domain" in reasons[1] and reasons[2] == ""
    assert np.isnan(model.predict(cases)).tolist() == [True, True, False]
    assert np.isnan(model.predict_interval(cases)).all(axis=1).tolist() == [True, True, False]
    assert model.provenance(cases)[:2].tolist() == ["abstained", "abstained"]


def test_an_interval_too_wide_to_be_of_use_is_no_answer(
    fitted: tuple[LatencyGP, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, hidden = fitted
    cases = hidden.head(8)
    low, high = model.predict_interval(cases, 0.9).T
    limit = float(np.median(high / low))
    monkeypatch.setattr(latency_gp, "MAX_SPAN", limit)
    silent = high / low > limit
    assert 0 < silent.sum() < len(cases)
    for level in (0.5, 0.9, 0.99):
        answers = model.answer(cases, level)
        assert (np.isnan(answers.value) == silent).all() and (np.isnan(answers.low) == silent).all()
        assert (np.isnan(model.predict_interval(cases, level)).all(1) == silent).all()
    assert (np.isnan(model.predict(cases)) == silent).all()
    assert ((model.provenance(cases) == "abstained") == silent).all()
    assert ["span" in reason for reason in model.abstentions(cases)] == silent.tolist()


def test_a_limit_on_the_standard_deviation_holds_however_small(fitted: tuple[LatencyGP, pd.DataFrame]) -> None:
    model, hidden = fitted
    cases = hidden.head(8)
    sd = model.estimate_in_order(cases).sd
    strict = copy.copy(model)
    strict.max_log_sd = float(np.median(sd))
    assert np.isnan(strict.predict(cases)).tolist() == (sd > strict.max_log_sd).tolist()


def test_a_small_standard_deviation_with_far_scores_spans_as_much_as_a_large_one() -> None:
    table, n = np.zeros((1, 2)), 12
    scores = Scores(np.repeat([1.0, 15.0], n), np.full(2 * n, np.log(0.15)), np.zeros((2 * n, 2)), np.ones(2 * n),
                    np.repeat([0, 1], n))  # fmt: skip
    assert scores.factor(np.log([0.15]), table, 0.9) == pytest.approx(15.0)
    one = CalibratedEstimate(None, np.zeros(1), np.array([0.15]), np.zeros(1, dtype=bool), np.full(1, -np.inf))  # type: ignore[arg-type]
    scored = [(np.arange(1), scores, table)]
    assert one.spans_more(20.0, scored).tolist() == [True]
    assert one.spans_more(100.0, scored).tolist() == [False]


def test_a_saved_model_answers_the_same_and_alien_state_is_refused(fitted: tuple[LatencyGP, pd.DataFrame]) -> None:
    model, hidden = fitted
    hidden = hidden[model.provenance(hidden) != "transferred"]  # of these `test_unmeasured.py` sees to
    state, arrays = model.to_state()
    again = LatencyGP.from_state(json.loads(json.dumps(state)), arrays)
    assert np.allclose(again.predict(hidden), model.predict(hidden), rtol=1e-9)
    assert np.allclose(again.predict_interval(hidden), model.predict_interval(hidden), rtol=1e-6)
    for wrong in ({**state, "version": 99}, {**state, "components": []}, {**state, "names": None}):
        with pytest.raises(ModelError, match="fit it again"):
            LatencyGP.from_state(wrong, arrays)
    with pytest.raises(ModelError, match="incomplete"):
        LatencyGP.from_state(state, {key: value for key, value in arrays.items() if key != "noise"})


def test_targets_are_one_latency_seen_three_ways(cells: pd.DataFrame) -> None:
    few = cells[cells.accelerator == "A100"]
    ii, oo, bb = few.input_tokens.to_numpy(), few.output_tokens.to_numpy(), few.batch_size.to_numpy()
    latency = bb * oo / few.y.to_numpy()
    throughput = LatencyGP().fit(few, few.y.to_numpy()).predict(few)
    total = LatencyGP(target="total_throughput_tok_s").fit(few, bb * (ii + oo) / latency).predict(few)
    seconds = LatencyGP(target="e2e_latency_s").fit(few, latency).predict(few)
    assert np.allclose(throughput * seconds, bb * oo)
    assert np.allclose(total, 2 * throughput)


@pytest.mark.parametrize("target", ["ttft_s", "tpot_s"])
def test_latencies_under_concurrency(make_world: World, target: str) -> None:
    cells = make_world(1, engines=1, concurrency=True)
    users = cells.concurrency.to_numpy()
    y = (0.02 + 0.001 * users) * (cells.input_tokens.to_numpy() / 500 if target == "ttft_s" else 1.0)
    hidden = (np.arange(len(cells)) % 4) == 1
    model = LatencyGP(target=target).fit(cells[~hidden], y[~hidden])
    assert np.median(np.abs(model.predict(cells[hidden]) / y[hidden] - 1)) < 0.05


def test_one_deployment_of_unknown_names_is_enough(make_world: World) -> None:
    cells = make_world(2, engines=1, accelerators=("Wonder X1",), models=("marvel-33b",))
    hidden = cells.batch_size == 32
    model = LatencyGP().fit(cells[~hidden], cells.y[~hidden].to_numpy())
    ape = np.abs(model.predict(cells[hidden]) / cells.y[hidden] - 1)
    assert np.median(ape) < 0.06
    nameless = cells[["input_tokens", "output_tokens", "batch_size"]]
    alone = LatencyGP().fit(nameless[~hidden], cells.y[~hidden].to_numpy())
    assert np.median(np.abs(alone.predict(nameless[hidden]) / cells.y[hidden] - 1)) < 0.06
    single = LatencyGP().fit(cells.head(1), cells.y.head(1).to_numpy())
    assert single.predict(cells.head(1))[0] == pytest.approx(cells.y.iloc[0], rel=0.1)


@pytest.mark.slow
def test_outliers_and_a_mislabelled_accelerator_do_little_harm(cells: pd.DataFrame) -> None:
    rng = np.random.default_rng(3)
    hidden = rng.random(len(cells)) < 0.3
    wrong = cells.copy()
    planted = rng.permutation(np.flatnonzero(~hidden))[:8]
    wrong.loc[wrong.index[planted], "y"] *= np.where(np.arange(8) % 2, 20.0, 0.05)
    name = _deployment(cells)
    mislabelled = (name == sorted(set(name))[0]).to_numpy()
    wrong.loc[mislabelled, "accelerator"] = "MI250X"
    clean = LatencyGP().fit(cells[~hidden], cells.y[~hidden].to_numpy()).predict(cells[hidden])
    dirty = LatencyGP().fit(wrong[~hidden], wrong.y[~hidden].to_numpy()).predict(wrong[hidden])
    y = cells.y[hidden].to_numpy()
    # where one of twenty known cells is off by twenty times, so may be what is asked about: then there is no answer
    assert np.isfinite(clean).all() and np.isfinite(dirty).mean() > 0.7
    assert np.nanmedian(np.abs(dirty / y - 1)) < 1.6 * np.median(np.abs(clean / y - 1)) + 0.002


def test_a_design_spreads_and_takes_no_value_of_the_deployment(fitted: tuple[LatencyGP, pd.DataFrame]) -> None:
    model, hidden = fitted
    name = _deployment(hidden)
    fresh = hidden[name.isin(name.value_counts().index[name.value_counts() == 20])]
    chosen = model.design(fresh, 3)
    assert len(chosen) == len(set(chosen.tolist())) == 3 * _deployment(fresh).nunique()
    picked = fresh.iloc[chosen]
    assert (picked.groupby(_deployment(picked)).size() == 3).all()
    first = model.design(fresh, 1)
    after = model.from_state(*model.to_state()).add(fresh.iloc[first], fresh.y.iloc[first].to_numpy())
    assert after.forecast_error(fresh) < model.forecast_error(fresh)


@pytest.mark.slow
def test_pools_of_relatives_answer_like_the_whole(cells: pd.DataFrame) -> None:
    hidden = np.arange(len(cells)) % 5 == 2
    X, y = cells[~hidden], cells.y[~hidden].to_numpy()
    whole, parted = LatencyGP().fit(X, y), LatencyGP(max_expert_cells=240).fit(X, y)
    assert len(parted.experts_.members) == 3
    error = [np.median(np.abs(m.predict(cells[hidden]) / cells.y[hidden] - 1)) for m in (whole, parted)]
    assert error[1] < 1.5 * error[0] + 0.002
    stranger = cells.head(4).assign(engine="engine-9")
    assert np.isfinite(parted.predict(stranger)).all()
    with joblib.parallel_config(backend="loky", n_jobs=2):  # the experts on two workers
        np.testing.assert_allclose(
            LatencyGP(max_expert_cells=240).fit(X, y).predict(cells[hidden]), parted.predict(cells[hidden]), rtol=1e-9
        )


@pytest.mark.parametrize("values", [[1.0, -2.0], [1.0, float("nan")], [1.0], []])
def test_values_that_cannot_be_learned_are_refused(cells: pd.DataFrame, values: list[float]) -> None:
    with pytest.raises(ModelError):
        LatencyGP().fit(cells.head(2), np.array(values))


def test_asking_before_fitting_is_refused(cells: pd.DataFrame) -> None:
    with pytest.raises(ModelError, match="fitted first"):
        LatencyGP().predict(cells)


@pytest.mark.slow
def test_one_fit_answers_for_the_other_latencies() -> None:
    rng = np.random.default_rng(0)
    loads = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    table = pd.DataFrame(
        {"engine": "e", "model": "m-8b", "accelerator": "H100", "accelerator_count": 1.0, "concurrency": loads,
         "input_tokens": 512.0, "output_tokens": 128.0}
    )  # fmt: skip
    table["ttft_s"] = 0.03 * loads**0.7 * np.exp(0.02 * rng.standard_normal(5))
    table["tpot_s"] = (0.008 + 3e-4 * loads) * np.exp(0.02 * rng.standard_normal(5))
    table["throughput_tok_s"] = loads * 128 / (table["ttft_s"] + 127 * table["tpot_s"])
    asked = table.assign(concurrency=[1.0, 3.0, 6.0, 12.0, 32.0]).drop(columns=["ttft_s", "tpot_s", "throughput_tok_s"])
    fitted = make_model("auto", target="throughput_tok_s").fit(table, table["throughput_tok_s"].to_numpy())
    for target in ("ttft_s", "tpot_s"):
        shared = fitted.for_target(target)
        alone = make_model("auto", target=target).fit(table, table[target].to_numpy())
        assert shared is not None
        closed = [model.closed_ for model in (fitted, shared) if isinstance(model, AutoByLoad)]
        assert closed[0] is not None
        assert closed[1] is not None
        assert closed[0].order_ is closed[1].order_  # what cannot be is not answered by it, either
        assert shared.predict(asked) == pytest.approx(alone.predict(asked), rel=0.02)
        assert shared.predict_interval(asked) == pytest.approx(alone.predict_interval(asked), rel=0.05)
    first = make_model("auto", target="ttft_s").fit(table, table["ttft_s"].to_numpy())
    of = {target: first.for_target(target) for target in ("tpot_s", "e2e_latency_s", "throughput_tok_s")}
    tpot, e2e, rate = (model.predict(asked) for model in of.values() if model is not None)
    assert rate == pytest.approx(asked["concurrency"] * 128 / e2e, rel=1e-9)
    requests = first.for_target("request_throughput_req_s")
    assert requests is not None
    assert requests.predict(asked) == pytest.approx(rate / 128, rel=1e-9)
    assert e2e == pytest.approx(first.predict(asked) + 127 * tpot, rel=1e-9)
    assert fitted.for_target("throughput_tok_s") is fitted
    assert fitted.for_target("ttft_p99_s") is None
    only = make_model("auto").fit(table.drop(columns=["ttft_s", "tpot_s"]), table["throughput_tok_s"].to_numpy())
    assert only.for_target("ttft_s") is None
    # a throughput that is not what latencies imply is not answered by them
    other = table.assign(throughput_tok_s=0.9 * table["throughput_tok_s"])
    first = make_model("auto", target="ttft_s").fit(other, other["ttft_s"].to_numpy())
    assert first.for_target("throughput_tok_s") is None
    assert first.for_target("tpot_s") is not None
