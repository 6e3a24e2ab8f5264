"""What counts as a cell, what happens where nothing can be learned, and outcomes that repeat."""

import numpy as np
import pandas as pd
import pytest

from fewmark.core import InputError, ModelError
from fewmark.evaluation import evaluate
from fewmark.tables.repeats import target_cells

TIMES = ("fit_s", "predict_s")


def scored(done):
    return {name: {k: v for k, v in score.items() if k not in TIMES} for name, score in done.summary["models"].items()}


def test_rows_that_are_no_measured_cell_are_left_out(table):
    spoiled = table.astype({"status": object})
    spoiled.loc[0, "status"] = "out_of_memory"
    spoiled.loc[1, "throughput_tok_s"] = np.nan
    spoiled.loc[2, "batch_size"] = np.nan
    spoiled.loc[3, "input_tokens"] = np.nan
    spoiled.loc[4, "throughput_tok_s"] = 0.0
    X, y = target_cells(spoiled, "throughput_tok_s")
    expected, values = target_cells(table.iloc[5:], "throughput_tok_s")
    assert X.drop(columns="status").equals(expected.drop(columns="status"))
    np.testing.assert_array_equal(y, values)


def test_a_target_that_is_missing_is_derived_by_its_definition(make_table):
    table = make_table(repeats=False)
    X, y = target_cells(table, "e2e_latency_s")
    _, throughput = target_cells(table, "throughput_tok_s")
    np.testing.assert_allclose(y, X["batch_size"] * X["output_tokens"] / throughput)
    _, total = target_cells(table, "total_throughput_tok_s")
    np.testing.assert_allclose(total, throughput * (X["input_tokens"] + X["output_tokens"]) / X["output_tokens"])


@pytest.mark.parametrize("target", ["ttft_s", "tpot_s"])
def test_a_target_that_nothing_implies_is_refused(table, target):
    with pytest.raises(InputError, match=target):
        target_cells(table, target)


def test_a_table_without_eligible_deployments_is_refused(table):
    with pytest.raises(InputError, match="no deployment can be evaluated"):
        evaluate(table[table["batch_size"] < 16], "sparse-25", ["loglog"])


def test_unknown_names_are_refused(table):
    with pytest.raises(InputError, match="protocol"):
        evaluate(table, "transfer-3", ["loglog"])
    with pytest.raises(InputError, match="target"):
        evaluate(table, "sparse-25", ["loglog"], target="speed")
    with pytest.raises(ModelError, match="model"):
        evaluate(table, "sparse-25", ["no-such-model"])


@pytest.mark.slow
def test_a_model_that_looks_at_one_deployment_abstains_on_unseen_ones(table):
    done = evaluate(table, "transfer-0", ["mechanistic", "linear"])
    silent, pooled = (done.summary["models"][name] for name in ("mechanistic", "linear"))
    assert (silent["n"], silent["median_ape"], silent["forecast_mae"]) == (0, None, None)
    assert silent["abstained"] == pooled["n"] > 0
    own = done.details[done.details["predictor"] == "mechanistic"]
    assert (own["provenance"] == "abstained").all() and (own["abstained"] != "").all()


@pytest.mark.parametrize("k", [0, 1, 4])
def test_where_nothing_else_is_known_the_usual_anchors_are_measured(table, k):
    alone = table[table["accelerator"] == "a"]
    done = evaluate(alone, f"new-accelerator-{k}", ["linear", "auto"])
    for score in done.summary["models"].values():
        assert (score["abstained"] > 0) == (k == 0) or score["n"] > 0
        assert score["n"] + score["abstained"] > 0
    if k == 0:
        assert set(done.details["abstained"]) == {"nothing is known"}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_however_many_jobs(make_table):
    table = make_table(5)
    once = evaluate(table, "sparse-25", ["linear"], random_state=4)
    assert scored(evaluate(table, "sparse-25", ["linear"], random_state=4)) == scored(once)
    assert scored(evaluate(table, "sparse-25", ["linear"], random_state=4, jobs=2)) == scored(once)
    assert scored(evaluate(table, "sparse-25", ["linear"], random_state=5)) != scored(once)


@pytest.mark.slow
def test_a_model_is_scored_alike_alone_and_among_others(make_table):
    table = make_table(5)
    alone = scored(evaluate(table, "extrapolate-batch", ["loglog"]))
    among = scored(evaluate(table, "extrapolate-batch", ["mechanistic", "loglog"]))
    assert among["loglog"] == alone["loglog"]


@pytest.mark.slow
def test_repeats_count_by_their_median(make_table):
    table = make_table(5, repeats=False)
    wild = table.assign(throughput_tok_s=table["throughput_tok_s"] * 100)
    thrice = evaluate(pd.concat([table, wild, table], ignore_index=True), "sparse-25", ["loglog"])
    assert scored(thrice) == scored(evaluate(table, "sparse-25", ["loglog"]))


@pytest.mark.slow
def test_the_details_hold_what_the_scores_are_made_of(table):
    done = evaluate(table, "extrapolate-batch", ["mechanistic"])
    score, details = done.summary["models"]["mechanistic"], done.details
    ape = (details["value"] / details["measured"] - 1).abs()
    assert score["median_ape"] == pytest.approx(ape.median())
    inside = (details["low"] <= details["measured"]) & (details["measured"] <= details["high"])
    assert score["picp_90"] == pytest.approx(inside.mean())
    assert {"model", "input_tokens", "batch_size", "predictor", "fold", "forecast"} <= set(details)
