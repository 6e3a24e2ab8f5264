"""Targets that agree with one another, and a batch that users fill: what serving tables need of the default model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fewmark.models.auto.conformity_scores import LeftOut
from fewmark.models.auto.model import AutoModel
from fewmark.models.auto.reconciliation import project, select_trust
from fewmark.tables.metrics import LATENCIES

CELL = ["engine", "model", "accelerator", "accelerator_count", "input_tokens", "output_tokens", "concurrency"]
TARGETS = ("ttft_s", "tpot_s", "e2e_latency_s", "throughput_tok_s", "total_throughput_tok_s")


def served(most: dict[str, float], seed: int = 0, noise: float = 0.02) -> pd.DataFrame:
    """A closed loop by the book: at most so many users decode at once, the others queue."""
    rng = np.random.default_rng(seed)
    rows = [
        {"engine": "e", "model": m, "accelerator": a, "accelerator_count": 1.0, "input_tokens": 500.0,
         "output_tokens": 100.0, "concurrency": float(u)}
        for m in ("llama-2-7b", "mistral-7b") for a in most for u in (1, 2, 4, 8, 16, 32, 64, 128)
    ]  # fmt: skip
    X = pd.DataFrame(rows)
    users, limit = X.concurrency, X.accelerator.map(most)
    busy = np.minimum(users, limit)
    tpot = 0.01 * (1 + 0.03 * busy)
    ttft = 0.02 + 0.003 * busy + (users / busy - 1) * 99 * tpot
    X["tpot_s"] = tpot * np.exp(noise * rng.standard_normal(len(X)))
    X["ttft_s"] = ttft * np.exp(noise * rng.standard_normal(len(X)))
    X["e2e_latency_s"] = X.ttft_s + 99 * X.tpot_s
    X["throughput_tok_s"] = X.concurrency * 100 / X.e2e_latency_s
    X["total_throughput_tok_s"] = X.concurrency * 600 / X.e2e_latency_s
    return X


@pytest.fixture(scope="module")
def answers() -> tuple[pd.DataFrame, dict[str, AutoModel]]:
    X = served({"A100": 200.0, "H100": 20.0})
    models = {name: AutoModel(target=name).fit(X, X[name].to_numpy()) for name in TARGETS}
    return X[CELL].assign(concurrency=X.concurrency * 1.4), models


@pytest.mark.slow
def test_predictions_of_all_targets_obey_their_definitions(
    answers: tuple[pd.DataFrame, dict[str, AutoModel]],
) -> None:
    asked, models = answers
    got = {name: model.predict(asked) for name, model in models.items()}
    users, oo = asked.concurrency.to_numpy(), asked.output_tokens.to_numpy()
    first = np.isfinite(got["ttft_s"])  # but near a knee, a first token alone may be too uncertain
    assert first.mean() > 0.8
    assert np.allclose((got["ttft_s"] + (oo - 1) * got["tpot_s"])[first], got["e2e_latency_s"][first], rtol=1e-6)
    assert np.allclose(users * oo / got["e2e_latency_s"], got["throughput_tok_s"], rtol=1e-6)
    assert np.allclose(got["throughput_tok_s"] * 6, got["total_throughput_tok_s"], rtol=1e-6)
    for name, model in models.items():
        low, high = model.predict_interval(asked).T
        assert ((low < got[name]) & (got[name] < high))[first | (name != "ttft_s")].all()


def test_a_saved_model_still_agrees(answers: tuple[pd.DataFrame, dict[str, AutoModel]]) -> None:
    asked, models = answers
    state, arrays = models["ttft_s"].to_state()
    again = AutoModel.from_state(json.loads(json.dumps(state)), arrays)
    assert np.allclose(again.predict(asked), models["ttft_s"].predict(asked), rtol=1e-9, equal_nan=True)
    assert np.allclose(
        again.predict_interval(asked), models["ttft_s"].predict_interval(asked), rtol=1e-6, equal_nan=True
    )


def test_what_means_something_else_is_learned_by_itself() -> None:
    X = served({"A100": 200.0})
    X["throughput_tok_s"] *= 0.6  # failed requests left out, say
    got = AutoModel().fit(X, X.throughput_tok_s.to_numpy()).predict(X[CELL])
    assert np.median(np.abs(got / X.throughput_tok_s - 1)) < 0.05


def test_other_metrics_of_cells_that_are_asked_for_are_never_looked_at() -> None:
    X = served({"A100": 30.0})
    known, asked = X[X.concurrency != 32], X[X.concurrency == 32]
    model = AutoModel(target="ttft_s").fit(known, known.ttft_s.to_numpy())
    poisoned = asked.assign(ttft_s=1e9, tpot_s=1e-9, e2e_latency_s=7.0, throughput_tok_s=1.0)
    assert np.array_equal(model.predict(poisoned), model.predict(asked[CELL]))


def test_a_batch_of_which_part_waits_is_not_what_its_requests_see() -> None:
    """An engine that takes 32 at once needs twice as long for 64, of which no request's own latencies tell."""
    X = pd.DataFrame(
        [
            {"engine": "e", "model": m, "accelerator": a, "accelerator_count": 1.0, "input_tokens": ii,
             "output_tokens": 100.0, "batch_size": b}
            for m in ("llama-2-7b", "mistral-7b") for a in ("A100", "H100", "L40S")
            for ii in (200.0, 800.0) for b in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
        ]
    )  # fmt: skip
    once = np.minimum(X.batch_size, 32.0)
    noise = np.exp(0.01 * np.random.default_rng(0).standard_normal((2, len(X))))
    X["tpot_s"] = 0.01 * (1 + 0.01 * once) * noise[0]
    X["ttft_s"] = (0.02 + 1e-5 * X.input_tokens * once) * noise[1]
    X["throughput_tok_s"] = once * 100 / (X.ttft_s + 99 * X.tpot_s)
    hidden = (X.accelerator == "H100") & (X.model == "mistral-7b") & (X.batch_size > 32)
    model = AutoModel(target="throughput_tok_s").fit(X[~hidden], X.throughput_tok_s[~hidden])
    assert model.predict(X[hidden]) == pytest.approx(X.throughput_tok_s[hidden].to_numpy(), rel=0.2)


def test_the_projection_leaves_the_sure_alone_and_does_nothing_to_what_agrees() -> None:
    oo = np.array([101.0, 101.0, 1.0])
    logs = {
        "ttft_s": np.log([1.0, 1.0, 2.0]),
        "tpot_s": np.log([0.01, 0.01, 0.01]),
        "e2e_latency_s": np.log([2.0, 3.0, 2.0]),
    }
    sure = {"ttft_s": np.full(3, 0.04), "tpot_s": np.full(3, 1e-12), "e2e_latency_s": np.full(3, 1e-12)}
    log_t, log_p, left = project(logs, sure, oo)
    assert np.exp(log_t) == pytest.approx([1.0, 2.0, 2.0], rel=1e-4)
    assert np.exp(log_p) == pytest.approx([0.01] * 3, rel=1e-4)
    assert (left["ttft_s"] < 1e-3).all() and all((share <= 1).all() for share in left.values())


def left_out(error: dict[str, float], seed: int = 0) -> dict[str, LeftOut]:
    """Twelve deployments with six cells left out of each, foretold with these errors at a claimed one of 0.05."""
    rng = np.random.default_rng(seed)
    n = 72
    log_t, log_p = np.log(rng.uniform(0.2, 2.0, n)), np.log(rng.uniform(0.01, 0.05, n))
    truth = {"ttft_s": log_t, "tpot_s": log_p, "e2e_latency_s": np.logaddexp(log_t, np.log(99) + log_p)}
    out = {}
    for name, right in truth.items():
        said = right + error[name] * rng.standard_normal(n)
        out[name] = LeftOut(
            np.zeros((n, 3)), np.repeat(np.arange(12), 6), np.zeros(n), right, said, said, np.full(n, 0.05), 0.2, 0.2,
            np.zeros((n, 2)), np.ones(n),
        )  # fmt: skip
    return out


@pytest.mark.parametrize("wrong", LATENCIES)
def test_a_process_that_is_wrong_elsewhere_is_not_trusted(wrong: str) -> None:
    """Whatever deviation it claims; and the intervals are as wide as what is left of the errors."""
    left = left_out({name: 1.0 if name == wrong else 0.02 for name in LATENCIES})
    verdict = select_trust(left, np.full(72, 100.0))
    assert verdict is not None
    assert verdict.inflation[wrong] > 3 * max(verdict.inflation[name] for name in LATENCIES if name != wrong)
    for name in LATENCIES:
        scores = verdict.scores[name]
        assert np.median(scores.z * np.exp(scores.log_sd)) < (0.03 if name != wrong else 0.2)


def test_all_three_are_trusted_where_all_are_right_and_nobody_where_one_deployment_tells() -> None:
    left = left_out(dict.fromkeys(LATENCIES, 0.03))
    verdict = select_trust(left, np.full(72, 100.0))
    assert verdict is not None and max(verdict.inflation.values()) < 2
    assert (
        select_trust({name: replace(one, deployment=np.zeros(72, int)) for name, one in left.items()}, np.ones(72))
        is None
    )


def test_the_first_token_and_the_pace_decide_where_a_third_that_errs_alike_adds_nothing() -> None:
    left = left_out(dict.fromkeys(LATENCIES, 0.03))
    rng = np.random.default_rng(1)
    told = np.logaddexp(left["ttft_s"].in_sample, np.log(99) + left["tpot_s"].in_sample) + 0.01 * rng.standard_normal(
        72
    )
    left["e2e_latency_s"] = replace(left["e2e_latency_s"], out_of_fold=told, in_sample=told)
    verdict = select_trust(left, np.full(72, 100.0))
    assert verdict is not None
    assert verdict.inflation["e2e_latency_s"] > 100 * max(verdict.inflation["ttft_s"], verdict.inflation["tpot_s"])


def test_a_noisy_deployment_alone_is_covered() -> None:
    """Fifteen cells, no relatives, repeats that differ by 8%: honest intervals, if wide ones."""
    inside = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        grid = [
            (i, o, b)
            for i in (128.0, 512.0, 2048.0)
            for o in (128.0, 512.0)
            for b in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
        ]
        X = pd.DataFrame(grid, columns=["input_tokens", "output_tokens", "batch_size"]).assign(model="marvel-3b")
        ii, oo, bb = X.input_tokens, X.output_tokens, X.batch_size
        seconds = 0.05 + oo * (0.02 + 4e-4 * bb) + 2e-5 * bb * ii + 3e-8 * bb * oo * ii
        y = (bb * oo / seconds * np.exp(0.08 * rng.standard_normal(len(X)))).to_numpy()
        known = rng.permutation(len(X))[:15]
        asked = np.setdiff1d(np.arange(len(X)), known)
        low, high = AutoModel().fit(X.iloc[known], y[known]).predict_interval(X.iloc[asked]).T
        inside += ((low <= y[asked]) & (y[asked] <= high)).tolist()
        assert np.median(high / low) < 3.0
    assert np.mean(inside) >= 0.85


@pytest.mark.slow
def test_one_outlier_and_a_mislabelled_accelerator_do_little_harm() -> None:
    X = served({"A100": 200.0, "H100": 20.0, "L40S": 60.0}, seed=3)
    hidden = (np.arange(len(X)) % 3 == 1) & (X.accelerator == "A100").to_numpy()
    wrong = X.copy()
    wrong.loc[[3, 20], "ttft_s"] *= 5.0
    wrong.loc[(X.accelerator == "L40S") & (X.model == "llama-2-7b"), "accelerator"] = "H100-NVL"
    error = []
    for table in (X, wrong):
        model = AutoModel(target="ttft_s").fit(table[~hidden], table.ttft_s[~hidden].to_numpy())
        error.append(np.nanmedian(np.abs(model.predict(X[hidden][CELL]) / X.ttft_s[hidden] - 1)))
    assert error[1] < 2.0 * error[0] + 0.02
