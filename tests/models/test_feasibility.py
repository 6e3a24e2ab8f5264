"""Whether cells can run: by what memory holds, and by what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewmark import datasets
from fewmark.interop import write_table
from fewmark.models.feasibility import feasibility
from fewmark.verbs.assess import assess_plan
from fewmark.verbs.plan import plan
from fewmark.verbs.predict import predict
from fewmark.verbs.recommend import recommend

EIGHT_B = {
    "model": "meta-llama/Llama-3.1-8B",
    "precision": "bf16",
    "accelerator": "NVIDIA H100",
    "accelerator_count": 1,
}
NAMELESS = {
    "engine": "own-server",
    "model": "org/m-13b",
    "precision": "fp16",
    "accelerator": "some board",
    "accelerator_count": 1,
}


def cell(ii: float = 512, oo: float = 128, *, of: dict[str, object] = NAMELESS, **fields: object) -> dict[str, object]:
    return {**of, "input_tokens": ii, "output_tokens": oo, **fields}


def table(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(list(rows))


def serving(*, failed: str = "out_of_memory", fails_at: int = 64) -> pd.DataFrame:
    rows = [
        cell(concurrency=n, e2e_latency_s=e2e, ttft_s=ttft, throughput_tok_s=rate, status="ok")
        for n, e2e, ttft, rate in ((1, 2.11, 0.06, 60.6), (8, 2.4, 0.12, 426.6), (32, 3.6, 0.35, 1137.0))
    ]
    return table(*rows, cell(concurrency=fails_at, status=failed), cell(concurrency=fails_at, status=failed))


def test_a_static_batch_that_memory_does_not_hold_is_infeasible_with_the_arithmetic() -> None:
    asked = table(
        cell(32000, 128, of=EIGHT_B, engine="transformers", batch_size=256),
        cell(512, 128, of=EIGHT_B, engine="transformers", batch_size=16),
        cell(512, 128, of={**EIGHT_B, "model": "meta-llama/Llama-3.1-70B"}, engine="transformers", batch_size=1),
    )
    found = feasibility(asked)
    assert found.infeasible.tolist() == [True, False, True]
    assert "16.06 GB of weights" in found.reason[0] and "256 × (32000 + 128) tokens" in found.reason[0]
    assert "80 GB" in found.reason[0] and found.reason[1] == ""


def test_an_engine_that_queues_lets_users_wait_but_has_no_batch_of_a_terabyte() -> None:
    users = cell(32000, 128, of=EIGHT_B, engine="vllm", concurrency=256)
    batch = cell(32000, 128, of=EIGHT_B, engine="vllm", batch_size=256)
    rate = cell(32000, 128, of=EIGHT_B, engine="vllm", request_rate=256.0)
    modest = cell(4096, 128, of=EIGHT_B, engine="vllm", batch_size=256)
    found = feasibility(table(users, batch, rate, modest))
    assert found.infeasible.tolist() == [False, True, False, False]
    assert "static batch" in found.reason[1] and "concurrency" in found.reason[1]
    # one sequence that does not fit fits no queue either
    long = feasibility(table(cell(2_000_000, 128, of=EIGHT_B, engine="vllm", concurrency=1)))
    assert long.infeasible.tolist() == [True]


def test_little_is_said_where_little_is_known() -> None:
    unknown = feasibility(
        table(cell(32000, 128, batch_size=256), cell(1, 1, of=EIGHT_B, placement="cpu", batch_size=1))
    )
    assert unknown.probability.tolist() == [1.0, 1.0]
    near = table(cell(512, 128, of={**EIGHT_B, "model": "m-36b"}, engine="transformers", batch_size=1))
    (chance,) = feasibility(near).probability
    assert 0.5 < chance < 0.9


@pytest.mark.parametrize("name", datasets.names())
def test_no_cell_that_was_measured_in_public_is_called_infeasible(name: str) -> None:
    frame = datasets.load(name)
    good = frame[frame["status"] == "ok"]
    assert not feasibility(good).infeasible.any()


def test_what_failed_and_what_asks_no_less_is_infeasible() -> None:
    asked = table(
        *(cell(concurrency=n) for n in (32, 48, 64, 128)),
        cell(1024, 128, concurrency=64),
        cell(64, 16, concurrency=128),
        cell(concurrency=64, precision="int8"),
        cell(batch_size=64),
    )
    found = feasibility(asked, serving())
    assert found.infeasible.tolist() == [False, False, True, True, True, False, False, False]
    assert "ran out of memory when it was measured" in found.reason[2]
    assert "64 users ran out of memory" in found.reason[3]
    assert found.probability[1] == pytest.approx(np.log(64 / 48) / np.log(64 / 32))


def test_what_ran_is_feasible_whatever_the_formula_says() -> None:
    big = cell(32000, 128, of=EIGHT_B, engine="transformers", batch_size=256)
    known = table({**big, "status": "ok", "e2e_latency_s": 1.0})
    smaller = cell(16000, 128, of=EIGHT_B, engine="transformers", batch_size=256)
    assert feasibility(table(big, smaller), known).probability.tolist() == [1.0, 1.0]


def test_mixed_ends_are_a_chance_and_a_crash_is_no_limit() -> None:
    mixed = table(*(cell(batch_size=8, status=status) for status in ("ok", "ok", "out_of_memory")))
    found = feasibility(table(cell(batch_size=8), cell(batch_size=16)), mixed)
    assert found.probability[0] == pytest.approx(0.6) and "2 of 3" in found.reason[0]
    assert found.probability[1] == 1.0
    crashed = table(cell(batch_size=8, status="crashed"))
    found = feasibility(table(cell(batch_size=8), cell(batch_size=16)), crashed)
    assert found.infeasible.tolist() == [True, False] and "ended as crashed" in found.reason[0]


@pytest.mark.slow
def test_predict_recommend_plan_and_assess_say_the_same(tmp_path: Path) -> None:
    other = serving(fails_at=64).assign(precision="int8", status="ok")
    other = other.iloc[:3].assign(throughput_tok_s=other["throughput_tok_s"].iloc[:3] * 0.9)
    last = cell(concurrency=64, precision="int8", e2e_latency_s=5.5, ttft_s=0.8, throughput_tok_s=1489.5, status="ok")
    known = pd.concat([serving(), other, table(last)], ignore_index=True)
    space = table(*(cell(concurrency=n) for n in (8, 16, 64, 128)))
    for frame, name in ((known, "known.csv"), (space, "space.csv")):
        write_table(frame, tmp_path / name)
    data, cells = tmp_path / "known.csv", tmp_path / "space.csv"

    predicted = predict(cells, data=data, target="ttft_s", prior=False)
    assert predicted["value"].notna().tolist() == [True, True, False, False]
    assert predicted["provenance"].tolist()[2:] == ["abstained", "abstained"]
    assert predicted["abstained"].str.contains("out of memory").tolist() == [False, False, True, True]

    answer = recommend(["ttft_s=1"], data=data)
    failed = answer.table[(answer.table["precision"] == "fp16") & (answer.table["concurrency"] == 64)]
    assert failed["probability"].tolist() == [0.0] and failed["p_best"].tolist() == [0.0]
    assert "out of memory" in failed["why_not_feasible"].iloc[0]
    assert answer.recommendation.chosen is not None
    assert answer.cells.loc[answer.recommendation.chosen, "precision"] == "int8"
    assert any(advice.code == "infeasible" for advice in answer.recommendation.advice)

    asked, planner = plan(cells, data=data, ask=3, target="ttft_s", prior=False)
    assert asked["concurrency"].tolist() == [16.0]
    assert "asks no less" in next(iter(planner.infeasible.values()))

    account = assess_plan(cells, data=data, target="ttft_s")
    assert account.account.coverage.answered == pytest.approx(1 / 2)
