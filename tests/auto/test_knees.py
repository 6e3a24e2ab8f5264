"""Closed loops beyond a knee: waiting as queues have it, doubt near the knee, and nothing that cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from fewmark.facts.facts import load_facts
from fewmark.models.analytic.batch_limits import SEQUENCES, STEP
from fewmark.models.analytic.queueing import expected_waiting
from fewmark.models.auto.features import Encoder, featurise
from fewmark.models.auto.limits import RATE, Order
from fewmark.models.auto.model import AutoModel
from fewmark.models.auto.order_of_rates import keep_rate

MODELS = ("llama-2-7b", "mistral-7b")
USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def planted(most: dict[str, float], seed: int = 0) -> pd.DataFrame:
    """Closed loops in which so many users are served at once and the others wait, by accelerator."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = [
        {"engine": "e", "model": m, "accelerator": a, "accelerator_count": 1.0, "precision": "fp16",
         "input_tokens": 500.0, "output_tokens": 200.0, "concurrency": float(u)}
        for m in MODELS for a in most for u in USERS
    ]  # fmt: skip
    X = pd.DataFrame(rows)
    busy = np.minimum(X.concurrency, X.accelerator.map(most))
    tpot, first = 0.01 * (1 + 0.02 * busy), 0.03 + 0.002 * busy
    ttft = first + (X.concurrency / busy - 1) * (first + 199 * tpot)
    X["tpot_s"], X["ttft_s"] = (v * np.exp(0.02 * rng.standard_normal(len(X))) for v in (tpot, ttft))
    return X


CELL = list(planted({"A100-80GB": 8.0}).columns[:8])


@pytest.fixture(scope="module")
def beyond() -> tuple[pd.DataFrame, dict[str, AutoModel]]:
    """Cells of two deployments, most beyond what was measured, where one has a knee, and models of the rest."""
    X = planted({"A100-80GB": 40.0, "H100-80GB": 512.0, "L40S-48GB": 24.0})
    hidden = (X.concurrency.gt(32) | X.concurrency.eq(8)) & X.model.eq("mistral-7b") & X.accelerator.ne("L40S-48GB")
    known = X[~hidden]
    assert {"A100-80GB", "H100-80GB"} == set(X[hidden].accelerator)
    models = {}
    for target in ("ttft_s", "tpot_s", "e2e_latency_s", "throughput_tok_s"):
        e2e = known.ttft_s + 199 * known.tpot_s
        y = {"e2e_latency_s": e2e, "throughput_tok_s": known.concurrency * 200 / e2e}.get(target)
        models[target] = AutoModel(target=target).fit(known, (known[target] if y is None else y).to_numpy())
    return X[hidden].reset_index(drop=True), models


@pytest.mark.slow
def test_a_pace_that_is_off_is_not_made_up_for_by_the_first_token() -> None:
    X = planted({"A100-80GB": 512.0, "H100-80GB": 512.0})
    X["tpot_s"] *= np.exp(0.04 * np.random.default_rng(1).standard_normal(len(X)))  # 199 of them are 40 first tokens
    found = AutoModel(target="ttft_s").fit(X, X["ttft_s"].to_numpy()).predict(X)
    assert found == pytest.approx(X["ttft_s"].to_numpy(), rel=0.2)


@pytest.mark.slow
def test_beyond_a_possible_knee_nothing_is_said_narrowly_and_wrong(
    beyond: tuple[pd.DataFrame, dict[str, AutoModel]],
) -> None:
    asked, models = beyond
    for target in ("ttft_s", "tpot_s"):
        answers = models[target].answer(asked[CELL], 0.9)
        truth = asked[target].to_numpy()
        answered = np.isfinite(answers.value)
        off = np.abs(np.log(answers.value / truth)) > np.log(3.0)
        outside = (truth < answers.low) | (truth > answers.high)
        assert answered.all() or target == "ttft_s"
        assert not (answered & off & outside).any()


@pytest.mark.parametrize("prior", [False, True])
def test_a_plateau_is_pinned_between_its_measured_users(prior: bool) -> None:
    X = planted({"A100-80GB": 8.0}).query("model == 'llama-2-7b'").drop(columns="tpot_s")
    extra = X.iloc[[3]].assign(concurrency=12.0)
    step = 0.03 + 0.016 + 199 * 0.0116
    y = X.concurrency * 200 / (step * np.maximum(X.concurrency / 8, 1.0))
    model = AutoModel(prior=prior).fit(X[CELL], y.to_numpy(float))
    (value,), ((low, high),) = model.predict(extra[CELL]), model.predict_interval(extra[CELL])
    truth = 8 * 200 / step
    assert value == pytest.approx(truth, rel=0.1)
    assert low < truth < high


@pytest.mark.slow
def test_one_model_of_a_hard_knee_agrees_with_itself_on_every_target() -> None:
    """Four users are served at once: one deployment, five cells, joined by public ones that number it otherwise."""
    users = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    X = pd.DataFrame({"concurrency": users, "input_tokens": 512.0, "output_tokens": 512.0})
    X = X.assign(engine="vllm", model="Qwen/Qwen3-4B", precision="fp8", accelerator="RTX 4090", accelerator_count=1.0)
    rate, tpot = np.minimum(users * 130.0, 520.0), 0.0077
    X["ttft_s"], X["tpot_s"] = np.maximum(users * 512 / rate - 511 * tpot, 0.02), tpot
    rate = users * 512 / (X.ttft_s.to_numpy() + 511 * tpot)
    model = AutoModel(prior=True).fit(X, rate)
    asked = X.iloc[[0, 0]].assign(concurrency=[6.0, 12.0]).drop(columns=["ttft_s", "tpot_s"])
    of_first = model.for_target("ttft_s")
    assert of_first is not None and of_first.n_public_cells_ > 0
    served, first = model.answer(asked), of_first.answer(asked)
    waited = asked.concurrency.to_numpy() * 512 / 520 - 511 * tpot
    for found, truth in ((served, np.array([520.0, 520.0])), (first, waited)):
        assert found.value == pytest.approx(truth, rel=0.15)
        assert (found.low < truth).all() and (truth < found.high).all()
    e2e = first.value + 511 * tpot
    assert served.value * e2e == pytest.approx(asked.concurrency.to_numpy() * 512, rel=0.03)


def test_what_follows_from_answers_is_answered_and_agrees(
    beyond: tuple[pd.DataFrame, dict[str, AutoModel]],
) -> None:
    asked, models = beyond
    told = {target: model.answer(asked[CELL], 0.9).value for target, model in models.items()}
    both = np.isfinite(told["ttft_s"]) & np.isfinite(told["tpot_s"])
    for target in ("e2e_latency_s", "throughput_tok_s"):
        assert np.isfinite(told[target][both]).all()
    e2e = told["ttft_s"] + 199 * told["tpot_s"]
    assert both.any()
    assert told["e2e_latency_s"][both] == pytest.approx(e2e[both], rel=1e-3)
    product = told["throughput_tok_s"] * told["e2e_latency_s"] / asked.concurrency.to_numpy() / 200
    assert product[both] == pytest.approx(1.0, rel=1e-3)


def test_a_measured_wait_is_known(beyond: tuple[pd.DataFrame, dict[str, AutoModel]]) -> None:
    _, models = beyond
    X = planted({"A100-80GB": 40.0, "H100-80GB": 512.0, "L40S-48GB": 24.0}).query("accelerator == 'L40S-48GB'")
    answers = models["ttft_s"].answer(X[CELL], 0.9)
    assert answers.value == pytest.approx(X.ttft_s.to_numpy(), rel=0.15)
    assert (answers.high / answers.low < 1.5).all()


def test_far_beyond_the_measured_users_no_answer_follows_from_none(
    beyond: tuple[pd.DataFrame, dict[str, AutoModel]],
) -> None:
    asked, models = beyond
    far = pd.concat([asked[CELL].assign(concurrency=users) for users in (64.0, 512.0, 4096.0)], ignore_index=True)
    told = {target: model.answer(far, 0.9) for target, model in models.items()}
    silent = {target: np.isnan(answers.value) for target, answers in told.items()}
    assert silent["ttft_s"].any() and (silent["throughput_tok_s"] == silent["e2e_latency_s"]).all()
    assert not (silent["throughput_tok_s"] & ~silent["ttft_s"] & ~silent["tpot_s"]).any()
    for target, answers in told.items():
        span = np.nan_to_num(answers.high / answers.low)
        follows = target in ("throughput_tok_s", "e2e_latency_s")
        limit = np.where((silent["ttft_s"] | silent["tpot_s"]) & follows, 5.0, 20.0)
        assert (span <= limit).all()
        assert [bool(reason) for reason in answers.abstained] == silent[target].tolist()


def test_the_expected_wait_of_a_known_limit_is_that_of_the_queue() -> None:
    reach = (SEQUENCES <= 5.0).astype(float)[None, :].repeat(3, axis=0)  # 32 at once, for certain
    users, log_x = np.array([8.0, 64.0, 320.0]), np.log(np.full(3, 0.05))
    mean, variance = expected_waiting(reach, users, SEQUENCES, STEP, log_x)
    assert mean == pytest.approx(np.log1p(21.0 * np.array([0.0, 1.0, 9.0])), abs=0.1)
    assert (variance < 0.05).all()
    unsure = np.where(SEQUENCES <= 5.0, 1.0, np.where(SEQUENCES <= 7.0, 0.5, 0.0))[None, :]
    assert expected_waiting(unsure, np.array([64.0]), SEQUENCES, STEP, log_x[:1])[1] > 1.0


def test_a_cell_is_no_faster_than_two_that_ask_less() -> None:
    users = np.log2([1.0, 2.0, 4.0, 8.0])
    axes = np.column_stack([np.full(4, 9.0), np.full(4, 7.0), users])
    logs = {"tpot_s": np.log([0.01, 0.012, 0.015, 0.02])}
    order = Order.learn(axes, logs, np.zeros(4, dtype=np.int64))
    asked = np.column_stack([np.full(2, 9.0), np.full(2, 7.0), np.log2([32.0, 3.0])])
    said = {"tpot_s": np.log([0.005, 0.0135])}
    order.keep(asked, np.zeros(2, dtype=np.int64), said)
    assert np.exp(said["tpot_s"][0]) > 0.012
    assert np.exp(said["tpot_s"][1]) == pytest.approx(0.0135)
    stranger = {"tpot_s": np.log([0.005, 0.0135])}
    order.keep(asked, np.ones(2, dtype=np.int64), stranger)
    assert np.exp(stranger["tpot_s"][0]) == pytest.approx(0.005)
    again = Order.from_state(*order.to_state())
    assert again.tolerance == order.tolerance


def test_an_order_of_rates_moves_what_is_unsure() -> None:
    """A rate 3% higher than with more users is no first token four times as slow, unless nobody knows it."""
    lengths = {"input_tokens": 1000.0, "output_tokens": 1000.0}
    X = pd.DataFrame([{"engine": "e", "model": MODELS[0], "concurrency": 64.0, **lengths}] * 2)
    table = featurise(X, "e2e_latency_s", load_facts(()), Encoder())
    more = np.log2([[1000.0, 1000.0, 128.0], [1000.0, 1000.0, 256.0]])
    same = np.full(2, table.deployment[0])
    order = Order(more, {RATE: np.log([5.5, 5.5])}, same, {RATE: 0.02})
    first, pace = np.log(0.05), np.log(0.0112)  # 11.2 s: 5.7 requests a second
    logs = {"ttft_s": np.full(2, first), "tpot_s": np.full(2, pace), "e2e_latency_s": np.full(2, np.log(11.2388))}
    sds = {"ttft_s": np.array([0.01, 1.0]), "tpot_s": np.array([0.02, 1e-4]), "e2e_latency_s": np.full(2, 0.02)}
    keep_rate(
        order, table, logs, sds, {"ttft_s": np.full(2, -np.inf), "tpot_s": np.full(2, -np.inf)}, np.full(2, 1000.0)
    )
    assert np.exp(logs["e2e_latency_s"]) == pytest.approx(64 / 5.5 * np.exp(-0.02), rel=1e-3)
    assert logs["ttft_s"][0] == pytest.approx(first, abs=0.01) and logs["tpot_s"][0] > pace + 0.01
    assert logs["ttft_s"][1] > first + 1.0 and logs["tpot_s"][1] == pytest.approx(pace, abs=1e-3)


def test_an_order_of_rates_takes_no_pace_below_what_can_be() -> None:
    X = pd.DataFrame(
        [{"engine": "e", "model": MODELS[0], "concurrency": 16.0, "input_tokens": 128.0, "output_tokens": 128.0}]
    )
    table = featurise(X, "e2e_latency_s", load_facts(()), Encoder())
    fewer = np.log2([[128.0, 128.0, 8.0], [128.0, 128.0, 32.0], [128.0, 128.0, 32.0]])
    order = Order(fewer, {RATE: np.log([8.0, 8.0, 8.0])}, np.full(3, table.deployment[0]), {RATE: 0.02})
    logs = {"ttft_s": np.log([0.02]), "tpot_s": np.log([0.03]), "e2e_latency_s": np.log([3.83])}
    sds = {"ttft_s": np.array([0.02]), "tpot_s": np.array([0.1]), "e2e_latency_s": np.array([0.05])}
    keep_rate(order, table, logs, sds, {"ttft_s": np.log([0.01]), "tpot_s": np.log([0.029])}, np.array([128.0]))
    assert np.exp(logs["tpot_s"]) == pytest.approx(0.029)
    assert np.exp(logs["e2e_latency_s"]) == pytest.approx(np.exp(logs["ttft_s"]) + 127 * 0.029)


def test_what_was_measured_can_be() -> None:
    axes = np.column_stack([np.full(4, 9.0), np.full(4, 7.0), np.log2([1.0, 2.0, 4.0, 8.0])])
    logs = np.log([0.03, 0.031, 0.01, 0.04])
    order = Order(axes, {"tpot_s": logs}, np.zeros(4, dtype=np.int64), {"tpot_s": 0.02})
    said = {"tpot_s": logs.copy()}
    order.keep(axes, np.zeros(4, dtype=np.int64), said)
    assert said["tpot_s"] == pytest.approx(logs)


def test_a_first_token_is_no_faster_than_its_prompt_can_be_read() -> None:
    cell = {"model": "llama-2-7b", "accelerator": "A100-80GB", "accelerator_count": 1.0, "precision": "fp16",
            "input_tokens": 8000.0, "output_tokens": 100.0, "concurrency": 1.0}  # fmt: skip
    X = pd.DataFrame([cell, cell | {"accelerator": "nobody's"}, cell | {"precision": None}])
    floor = featurise(X, "ttft_s", load_facts(), Encoder()).floor
    assert np.exp(floor[0]) == pytest.approx(2 * 6.74e9 * 8000 / 312e12, rel=0.02)
    assert np.isneginf(floor[1:]).all()
    known = planted({"A100-80GB": 512.0})
    told = AutoModel(target="ttft_s").fit(known, known.ttft_s.to_numpy())
    long = known[CELL].iloc[:4].assign(input_tokens=8000.0)
    found = told.process_.calibrated(told.process_.estimate(long))
    assert (found.floor == featurise(long, "ttft_s", load_facts(), Encoder()).floor).all()
    assert (found.mean >= found.floor).all()
    cached = AutoModel(target="ttft_s").fit(known, known.ttft_s.to_numpy() / 100)  # a prefix that was not read
    process = cached.process_
    assert np.isneginf(process.floor(process.featuriser_.asked(long))).all()
