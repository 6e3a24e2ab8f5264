"""What the screen left out, which repeats contradict one another and which names were taken for which, is said."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fewmark.store import open_store
from fewmark.verbs.assess import assess_strategies
from fewmark.verbs.compare import compare
from fewmark.verbs.evaluate import evaluate
from fewmark.verbs.fit import fit
from fewmark.verbs.import_files import import_files
from fewmark.verbs.plan import plan
from fewmark.verbs.predict import predict
from fewmark.verbs.recommend import recommend
from fewmark.verbs.report import report
from fewmark.verbs.screen import screen
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


@pytest.mark.slow
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


def test_a_fitted_model_finds_what_it_learned_in_another_spelling(tmp_path: Path) -> None:
    data = pd.concat([table(model="org/M-8B", accelerator="NVIDIA H100"), table((4, 1.1, 460.0), model="o/other-70b")])
    fit(data, model="loglog", out=tmp_path / "m.fewmark")
    out = predict(ask(8, model="m-8b", accelerator="H100"), model_file=tmp_path / "m.fewmark")
    assert out["provenance"].tolist() == ["measured"]
    assert "model 'm-8b' is taken for 'org/M-8B'" in out.attrs["notes"]


def test_compare_matches_cells_that_are_spelled_otherwise() -> None:
    found = compare(table(), table(engine="vLLM", model="M", accelerator="NVIDIA H100"), where_b={"model": "org/M"})
    assert found.counts["common"] == len(SWEEP)
    assert any("model 'M' is taken for 'org/m'" in note for note in found.notes)


def test_import_knows_a_case_in_another_spelling(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 's.db'}"
    first, again, other = (tmp_path / f"{name}.csv" for name in ("first", "again", "other"))
    table().to_csv(first, index=False)
    renamed = table(engine="vLLM", model="M", accelerator="NVIDIA H100")
    renamed.to_csv(again, index=False)
    renamed.assign(e2e_latency_s=3.0, throughput_tok_s=1.0).to_csv(other, index=False)
    import_files([first], store=store)
    assert import_files([again], store=store)[0].n_added == 0  # nothing is stored twice, whatever it is called
    (found,) = import_files([other], store=store)
    assert (found.n_added, len(found.other_values)) == (len(SWEEP), len(SWEEP))
    assert "model 'M' is taken for 'org/m'" in found.notes
    with open_store(store) as opened:
        assert {d.model for d in opened.deployments()} == {"org/m", "M"}  # the names as they were given
        assert len(import_files([other], store=store, supersede=True)) == 1
        assert sum(flag == "replaced" for flag in opened.withdrawn().values()) == len(SWEEP)


def test_findings_in_many_files_name_file_and_row(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "a.csv", index=False)
    table().assign(e2e_latency_s=9.0, throughput_tok_s=[14.2, 113.8, 227.6, 455.1]).to_csv(
        tmp_path / "b.csv", index=False
    )
    for named in (tmp_path, [tmp_path / "a.csv", tmp_path / "b.csv"], str(tmp_path / "*.csv")):
        (first, *_) = screen(named).to_dict()["flagged"]
        assert first["place"] == f"{tmp_path / 'a.csv'}, row 1"
        assert f"row 5 is {tmp_path / 'b.csv'}, row 1" in first["reason"]


@pytest.mark.slow
def test_evaluate_assess_and_report_say_what_was_left_out(tmp_path: Path) -> None:
    data = table((8, 13.0, 78.77), (8, 1.31, 781.7), (2, 1.1, 232.7), (4, 1.2, 426.7), (64, 3.4, 2409.4))
    shorter = table().assign(input_tokens=512, e2e_latency_s=[1.0, 1.2, 1.5, 2.0], throughput_tok_s=None)
    data = pd.concat([data, shorter], ignore_index=True)
    (summary,) = evaluate(data, protocol="sparse-25", model="loglog")
    assert any("rows left out (contradicting-repeats 1)" in note for note in summary["notes"])
    assert any("rows left out" in note for note in assess_strategies(data, strategies=["random"], model="none").notes)
    cards = report(tmp_path / "r.md", data=data, model="loglog", cache=False)
    assert any("rows left out" in advice.message for advice in cards[0].advice)


def test_rows_that_are_no_cells_are_counted() -> None:
    data = table().assign(batch_size=[1, 8, None, 32])
    assert "1 of 4 rows left out, as row 3: no input_tokens" in "\n".join(read_source(data).attrs["notes"])


@pytest.mark.parametrize("model", ["loglog", "mechanistic"])
def test_recommend_counts_both_of_two_repeats_that_contradict_one_another(model: str) -> None:
    rows = recommend(data=table((8, 13.0, 78.77)), model=model, cache=False, prior=False).table
    row = rows[rows["batch_size"] == 8].iloc[0]
    assert row["throughput_low"] <= 78.78 and row["throughput_high"] >= 787.6
