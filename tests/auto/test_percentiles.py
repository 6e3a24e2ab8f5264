"""Percentiles and open loops: ordered, learned from means too, honest, silent where nothing can be known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from fewmark.core.metrics import PERCENTILE_METRICS
from fewmark.models.auto.by_load import AutoByLoad
from fewmark.models.auto.tails import Tail, known_of, percentiles_of
from fewmark.models.base import learned_columns
from fewmark.tables.identity import cell_columns
from fewmark.tables.repeats import target_cells

SIGMA = 0.5  # of the log of TTFT over requests: lognormal
Z = {50: 0.0, 90: 1.2816, 95: 1.6449, 99: 2.3263}


def serving(seed: int = 0, kind: str = "concurrency", noise: float = 0.02) -> pd.DataFrame:
    """Six deployments × two lengths × six loads; TTFT lognormal over requests, the tail heavier with the load."""
    rng = np.random.default_rng(seed)
    rows = []
    for engine, slow in (("vllm", 1.0), ("sglang", 0.9)):
        for accelerator, pace in (("H100", 1.0), ("A100-SXM4-80GB", 2.0), ("L40S", 3.0)):
            for ii, oo in ((256, 128), (1024, 128)):
                for load in (1, 2, 4, 8, 16, 32):
                    mean = slow * pace * (0.01 + ii * 3e-5 * (1 + 0.15 * load)) * np.exp(rng.normal(0, noise))
                    tpot = slow * pace * 0.005 * (1 + 0.02 * load) * np.exp(rng.normal(0, noise))
                    sigma = SIGMA * (1 + 0.1 * np.log2(load))
                    middle = mean * np.exp(-(sigma**2) / 2)
                    row = {
                        **{"engine": engine, "model": "meta-llama/Llama-3.1-8B", "precision": "bf16"},
                        **{"accelerator": accelerator, "accelerator_count": 1.0, "tensor_parallel_size": 1.0},
                        **{"input_tokens": float(ii), "output_tokens": float(oo), kind: float(load)},
                        **{"ttft_s": mean, "tpot_s": tpot, "e2e_latency_s": mean + (oo - 1) * tpot},
                    }
                    spread = np.exp(rng.normal(0, noise))
                    row |= {f"ttft_p{p}_s": middle * np.exp(z * sigma * spread) for p, z in Z.items()}
                    rows.append(row)
    return pd.DataFrame(rows)


def fitted(table: pd.DataFrame, target: str) -> AutoByLoad:
    X, y = target_cells(table, target, related=True)
    model = AutoByLoad(target=target)
    return model.fit(X[learned_columns(X, model)], y)


def is_of(table: pd.DataFrame, engine: str, accelerator: str) -> pd.Series:
    return (table["engine"] == engine) & (table["accelerator"] == accelerator)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return serving()


@pytest.fixture(scope="module")
def hidden(table: pd.DataFrame) -> np.ndarray:
    return np.random.default_rng(1).random(len(table)) < 0.4


@pytest.fixture(scope="module")
def models(table: pd.DataFrame, hidden: np.ndarray) -> dict[str, AutoByLoad]:
    return {name: fitted(table[~hidden], name) for name in ("ttft_p50_s", "ttft_p95_s", "ttft_p99_s")}


@pytest.mark.slow
def test_percentiles_are_right_ordered_and_inside(
    table: pd.DataFrame, hidden: np.ndarray, models: dict[str, AutoByLoad]
) -> None:
    asked = table[hidden]
    values = np.column_stack([model.predict(asked[cell_columns(asked)]) for model in models.values()])
    assert (np.diff(values, axis=1) >= 0).all()
    for place, (name, model) in enumerate(models.items()):
        truth = asked[name].to_numpy()
        assert np.median(np.abs(values[:, place] / truth - 1)) < 0.06
        low, high = model.predict_interval(asked[cell_columns(asked)]).T
        assert (low <= values[:, place]).all() and (values[:, place] <= high).all()
        assert np.mean((low <= truth) & (truth <= high)) >= 0.75
        assert np.median(np.log(high / low)) < 1.2


def test_deployments_with_means_alone_take_the_tail_of_the_others(table: pd.DataFrame) -> None:
    means = is_of(table, "sglang", "L40S")
    known = table.copy()
    known.loc[means, list(percentiles_of("ttft_s"))] = np.nan
    model = fitted(known, "ttft_p99_s")
    asked = table[means]
    found = model.answer(asked[cell_columns(asked)])
    assert np.median(np.abs(found.value / asked["ttft_p99_s"].to_numpy() - 1)) < 0.15
    assert set(found.provenance) == {"transferred"}
    inside = (found.low <= asked["ttft_p99_s"].to_numpy()) & (asked["ttft_p99_s"].to_numpy() <= found.high)
    assert inside.mean() >= 0.8


def test_a_table_of_means_alone_is_answered_widely(table: pd.DataFrame, models: dict[str, AutoByLoad]) -> None:
    means = table.drop(columns=list(percentiles_of("ttft_s")))
    asked = table[cell_columns(table)]
    narrow, wide = models["ttft_p99_s"].answer(asked), fitted(means, "ttft_p99_s").answer(asked)
    assert (wide.value > means["ttft_s"].to_numpy()).all()
    assert np.median(wide.high / wide.low) > 2 * np.median(narrow.high / narrow.low)
    # ends of intervals are in the order of the percentiles, too
    lower = fitted(means, "ttft_p50_s").answer(asked)
    assert (lower.low <= wide.low).all()
    assert (lower.high <= wide.high).all()
    assert set(wide.provenance) == {"transferred"}


def test_percentiles_without_means_tell_the_mean(table: pd.DataFrame) -> None:
    known = table.assign(ttft_s=np.nan, e2e_latency_s=np.nan, ttft_p90_s=np.nan, ttft_p95_s=np.nan)
    found = fitted(known, "ttft_p90_s").answer(table[cell_columns(table)])
    assert np.median(np.abs(found.value / table["ttft_p90_s"].to_numpy() - 1)) < 0.2


def test_a_saved_model_says_the_same(table: pd.DataFrame, models: dict[str, AutoByLoad]) -> None:
    model = models["ttft_p95_s"]
    state, arrays = model.to_state()
    again = AutoByLoad.from_state(json.loads(json.dumps(state)), arrays)
    asked = table[cell_columns(table)]
    assert again.predict_interval(asked) == pytest.approx(model.predict_interval(asked))


def test_a_tail_begins_with_what_serving_shows_and_is_ordered(table: pd.DataFrame) -> None:
    blank = {name: np.full(1, np.nan) for name in ("ttft_s", *percentiles_of("ttft_s"))}
    one = table.iloc[:1]
    prior = Tail.learn(one, "ttft_s", blank | {"ttft_s": np.ones(1)}).shares(one)[0]
    assert (np.diff(prior) > 0).all() and prior[0] < 0 < prior[3]
    odd = known_of(table, "ttft_s")
    odd["ttft_p90_s"], odd["ttft_p99_s"] = odd["ttft_p99_s"], odd["ttft_p50_s"]  # columns that were mixed up
    assert (np.diff(Tail.learn(table, "ttft_s", odd).shares(table), axis=1) >= 0).all()


@pytest.mark.slow
def test_open_loops_are_answered_between_measured_rates_alone() -> None:
    closed, rates = serving(), serving(kind="request_rate")
    known = pd.concat([closed, rates[~is_of(rates, "vllm", "L40S")]], ignore_index=True)
    for target in ("tpot_s", "ttft_p99_s"):
        model = fitted(known, target)
        inside = rates[is_of(rates, "vllm", "H100")].assign(
            request_rate=lambda t: np.minimum(t["request_rate"] * 1.4, 30)
        )
        found = model.answer(inside[cell_columns(inside)])
        assert np.isfinite(found.value).all() and set(found.abstained) == {""}
        above = inside.assign(request_rate=64.0)
        found = model.answer(above[cell_columns(above)])
        assert np.isnan(found.value).all() and all("largest request rate" in reason for reason in found.abstained)
        unseen = rates[is_of(rates, "vllm", "L40S")]
        found = model.answer(unseen[cell_columns(unseen)])
        assert np.isnan(found.value).all() and all("was measured" in reason for reason in found.abstained)
        assert set(found.provenance) == {"abstained"}
        state, arrays = model.to_state()
        again = AutoByLoad.from_state(json.loads(json.dumps(state)), arrays)
        asked = known[cell_columns(known)]
        assert again.predict(asked) == pytest.approx(model.predict(asked), nan_ok=True)


def test_open_loops_alone_make_a_model() -> None:
    rates = serving(kind="request_rate")
    model = fitted(rates, "ttft_s")
    assert np.isfinite(model.predict(rates[cell_columns(rates)])).all()
    users = serving()[cell_columns(serving())]
    assert set(model.abstentions(users)) == {"no batch and no closed loop was measured, only open loops"}
    assert np.isfinite(model.forecast_error(rates[cell_columns(rates)]))
    assert len(model.design(rates[cell_columns(rates)], 2)) == 12


def test_every_percentile_has_a_mean() -> None:
    assert {base for base, _ in PERCENTILE_METRICS.values()} == {"ttft_s", "tpot_s", "itl_s", "e2e_latency_s"}


def test_an_open_loop_of_unknown_lengths_is_silent_and_leaves_the_others_answered() -> None:
    table = serving(kind="request_rate").drop(columns=["tpot_s", "e2e_latency_s"]).head(12)
    model = AutoByLoad(target="ttft_s").fit(table, table["ttft_s"].to_numpy())
    asked = table[cell_columns(table)].head(3)
    asked.loc[1, "input_tokens"] = np.nan
    answers = model.answer(asked)
    assert np.isfinite(answers.value).tolist() == [True, False, True]
    assert "must be known" in answers.abstained[1]
