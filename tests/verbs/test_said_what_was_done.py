"""What the screen left out, which repeats contradict one another and which names were taken for which, is said."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fewmark.verbs.fit import fit
from fewmark.verbs.plan import plan
from fewmark.verbs.predict import predict
from fewmark.verbs.recommend import recommend
from fewmark.verbs.source import read_source

SWEEP = ((1, 1.07, 119.6), (8, 1.30, 787.7), (16, 1.62, 1264.2), (32, 2.2, 1861.8))


def table(*more: tuple[float, float, float], **names: str) -> pd.DataFrame:
    base = {"engine": "vllm", "model": "org/m", "accelerator": "H100", **names}
    rows = [
        {**base, "accelerator_count": 1, "input_tokens": 1024, "output_tokens": 128, "batch_size": batch,
         "e2e_latency_s": took, "throughput_tok_s": rate}
        for batch, took, rate in (*SWEEP, *more)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def ask(batch: float, **names: str) -> pd.DataFrame:
    return pd.DataFrame([{**names, "input_tokens": 1024, "output_tokens": 128, "batch_size": batch}])


def answer(data: pd.DataFrame, cases: pd.DataFrame) -> tuple[pd.Series, str]:
    out = predict(cases, data=data, model="loglog", cache=False)
    return out.iloc[0], "\n".join(out.attrs["notes"])


@pytest.mark.parametrize("other", [(8, 3.9, 262.6), (8, 13.0, 78.77)])
def test_the_interval_holds_repeats_that_contradict_one_another(other: tuple[float, float, float]) -> None:
    row, notes = answer(table(other), ask(8))
    assert row["low"] <= other[2] and row["high"] >= 787.7
    assert "2 repeats contradict one another" in notes
    assert f"from {other[2]:.4g} to 787.7" in notes


def test_a_majority_leaves_the_odd_one_out_and_that_is_said() -> None:
    row, notes = answer(table((8, 13.0, 78.77), (8, 1.31, 781.7)), ask(8))
    assert row["value"] > 600
    assert "1 of 6 rows left out (contradicting-repeats 1)" in notes
    assert "--no-screen" in notes


def test_recommend_warns_of_repeats_that_contradict_one_another() -> None:
    found = recommend(data=table((8, 3.9, 262.6)), model="loglog", cache=False)
    assert any("kept with a warning" in advice.message for advice in found.recommendation.advice)


def test_fit_and_plan_say_what_was_left_out_and_what_is_asked_again() -> None:
    data = table((4, 30.0, 17.07))
    fitted = fit(data, model="loglog")
    assert any("1 of 5 rows left out (impossible-speed 1)" in note for note in fitted.notes_)
    planned = plan(ask(4), data=data, model="none", ask=1, cache=False)
    assert planned.cells["batch_size"].tolist() == [4]
    told = "\n".join(planned.notes)
    assert "1 of 5 rows left out" in told
    assert "1024→128 tokens at batch 4 was measured, but left out by the screen" in told


def test_a_question_in_another_spelling_finds_the_measured_cell() -> None:
    data = pd.concat(
        [
            table(model="meta-llama/Meta-Llama-3-8B", accelerator="Nvidia H100 GPU", precision="bf16"),
            table(model="meta-llama/Meta-Llama-3-70B", accelerator="Nvidia A100 GPU", precision="fp16"),
        ],
        ignore_index=True,
    )
    row, notes = answer(
        data, ask(8, engine="vLLM", model="LLaMA-3-8B", accelerator="NVIDIA H100", accelerator_count="1")
    )
    assert row["provenance"] == "measured"
    assert row["model"] == "LLaMA-3-8B"  # as it was asked
    assert "model 'LLaMA-3-8B' is taken for 'meta-llama/Meta-Llama-3-8B'" in notes
    assert "accelerator 'NVIDIA H100' is taken for 'Nvidia H100 GPU'" in notes
    _, notes = answer(data, ask(8, engine="vLLM", model="Lama-3-8B", accelerator="NVIDIA H100"))
    assert "model 'Lama-3-8B' is not known; near: meta-llama/Meta-Llama-3-8B" in notes


def test_one_system_under_three_spellings_is_one() -> None:
    data = pd.concat(
        [
            table(model="meta-llama/Llama-3.1-8B-Instruct", precision="bf16").iloc[:2],
            table(model="llama-3.1-8b-instruct", precision="bfloat16", accelerator="NVIDIA H100 80GB HBM3").iloc[2:3],
            table(engine="vLLM", model="Llama-3.1-8B-Instruct", precision="BF16", accelerator="h100").iloc[3:],
        ],
        ignore_index=True,
    )
    assert len(read_source(data)[["engine", "model", "precision", "accelerator"]].drop_duplicates()) == 1
    found = recommend(data=data, model="loglog", cache=False)
    assert len(found.table) == 4
    assert set(found.table["provenance"]) == {"measured"}
    assert any("is taken for" in advice.message for advice in found.recommendation.advice)


def test_prices_follow_a_throughput_per_accelerator_undone(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("version: 1\ncurrency: USD\naccelerators:\n  - {name: H100, per_hour: 3.0}\n")
    right = table().assign(accelerator_count=8)
    wrong = right.assign(throughput_tok_s=right["throughput_tok_s"] / 8)
    costs = [recommend(data=data, prices=prices, model="loglog", cache=False).table for data in (right, wrong)]
    column = next(name for name in costs[0] if name.startswith("cost"))
    assert costs[1][column].tolist() == pytest.approx(costs[0][column].tolist(), rel=0.02)
