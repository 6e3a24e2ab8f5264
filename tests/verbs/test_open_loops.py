"""Request rates beside batches and closed loops, from table to decision: never mixed up, never a crash."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewmark.core.columns import LOAD_COLUMNS
from fewmark.decide.slo import Objective
from fewmark.evaluation.run import evaluate
from fewmark.interop import read_table, write_table
from fewmark.models.base import learned_columns
from fewmark.models.registry import MODELS, make_model
from fewmark.planning.space import Space
from fewmark.screening import screen
from fewmark.tables.cells import read_cells
from fewmark.tables.columns import load_kind_of, load_label
from fewmark.tables.identity import cell_columns
from fewmark.tables.metrics import derive
from fewmark.tables.repeats import measured_cells, target_cells
from fewmark.verbs.plan import plan
from fewmark.verbs.predict import predict
from fewmark.verbs.recommend import recommend
from fewmark.verbs.report import report

LOADS = {"batch_size": (1, 2, 4, 8, 16), "concurrency": (1, 2, 4, 8, 16), "request_rate": (0.5, 1, 2, 4, 8)}


def table(kinds: tuple[str, ...] = LOAD_COLUMNS) -> pd.DataFrame:
    """Two deployments, three lengths, five loads of each kind; equal numbers differ in meaning."""
    rng = np.random.default_rng(0)
    rows = []
    for slow, accelerator in ((1.0, "H100"), (2.5, "A100-SXM4-80GB")):
        for ii, oo in ((128, 128), (512, 128), (1024, 256)):
            for kind in kinds:
                for load in LOADS[kind]:
                    held = load if kind != "request_rate" else min(256.0, 1 + 1.5 * load**1.4)
                    tpot = slow * 0.006 * (1 + 0.03 * held) * np.exp(rng.normal(0, 0.01))
                    ttft = slow * (0.02 + ii * 4e-5 * (1 + 0.2 * held)) * np.exp(rng.normal(0, 0.01))
                    e2e = ttft + (oo - 1) * tpot
                    rate = load * oo if kind == "request_rate" else load * oo / e2e
                    tail = {"ttft_p50_s": 0.9 * ttft, "ttft_p99_s": 2.5 * ttft, "goodput_req_s": 0.9 * rate / oo}
                    rows.append(
                        {
                            **{"engine": "vllm", "model": "meta-llama/Llama-3.1-8B", "precision": "bf16"},
                            **{"accelerator": accelerator, "accelerator_count": 1.0, "tensor_parallel_size": 1.0},
                            **{"input_tokens": float(ii), "output_tokens": float(oo), kind: float(load)},
                            **{"ttft_s": ttft, "tpot_s": tpot, "e2e_latency_s": e2e, "throughput_tok_s": rate},
                            **({} if kind == "batch_size" else tail),
                        }
                    )
    return pd.DataFrame(rows).reindex(columns=[*rows[0], *(n for n in (*LOAD_COLUMNS, *tail) if n not in rows[0])])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("open") / "table.csv"
    write_table(table(), out)
    return out


def test_kinds_of_load_are_told_apart() -> None:
    cells = read_cells(table())
    assert sorted(np.unique(cells.kind).tolist()) == [0, 1, 2]
    assert len(np.unique(cells.deployment)) == 2 and len(np.unique(cells.curve)) == 6
    labels = [load_label(row) for row in table().to_dict("records")]
    assert {"batch 8", "8 users", "8 req/s", "0.5 req/s"} <= set(labels)
    odd = pd.DataFrame({"batch_size": [1.0, np.nan, 2.0], "request_rate": [np.nan, np.nan, 3.0]})
    assert load_kind_of(odd).tolist() == [0, -1, -1]


def test_no_rate_and_no_latency_follow_from_one_another_in_an_open_loop() -> None:
    rows = table().assign(e2e_latency_s=np.nan, ttft_s=np.nan, tpot_s=np.nan)
    found = derive(rows)["e2e_latency_s"]
    assert found[rows["request_rate"].isna()].notna().all() and found[rows["request_rate"].notna()].isna().all()


def test_cells_keep_their_percentiles_and_rates() -> None:
    cells = measured_cells(table(), "ttft_p99_s")
    assert len(cells) == 60 and cells["batch_size"].isna().all()
    twice = measured_cells(pd.concat([table(), table().assign(ttft_p99_s=table()["ttft_p99_s"] * 3)]), "ttft_p99_s")
    assert twice["ttft_p99_s"].to_numpy() == pytest.approx(2 * cells["ttft_p99_s"].to_numpy())


def test_the_screen_lets_open_loops_pass() -> None:
    frame = table().reset_index(drop=True).assign(status="ok")
    assert [f for f in screen(frame) if f.action == "exclude"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name != "ala"])
def test_open_loops_do_not_change_what_is_said_of_the_others(name: str) -> None:
    target = "ttft_s"
    every, y = target_cells(table(), target)
    model = make_model(name, target=target)
    both = model.fit(every[learned_columns(every, model)], y)
    asked = every[cell_columns(every)]
    value, interval = both.predict(asked), both.predict_interval(asked)
    assert value.shape == (len(asked),) and interval.shape == (len(asked), 2)
    assert len(both.abstentions(asked)) == len(asked)
    if name in ("auto", "mechanistic"):
        rows = asked["request_rate"].isna().to_numpy()
        model = make_model(name, target=target)
        alone = model.fit(every[rows][learned_columns(every, model)], y[rows])
        assert value[rows] == pytest.approx(alone.predict(asked[rows]), rel=1e-6)


@pytest.mark.slow
def test_auto_predicts_a_percentile_and_a_rate(path: Path) -> None:
    for target in ("ttft_p99_s", "goodput_req_s"):
        hidden = table(("concurrency",)).query("concurrency == 4")
        found = predict(hidden[cell_columns(hidden)], data=path, target=target, prior=False)
        assert found["value"].to_numpy() == pytest.approx(hidden[target].to_numpy(), rel=0.1)


@pytest.mark.slow
def test_a_space_and_a_plan_with_request_rates(path: Path, tmp_path: Path) -> None:
    cells = table()[cell_columns(table())]
    space = Space.from_table(cells)
    assert len(space) == len(cells) and sorted(set(space.kind.tolist())) == [0, 1, 2]
    assert np.isnan(space.latency_s("throughput_tok_s", np.ones(len(space)))[space.kind == 2]).all()
    write_table(cells.assign(request_rate=cells["request_rate"] * 1.5), tmp_path / "space.csv")
    asked, _ = plan(tmp_path / "space.csv", data=path, ask=4, target="ttft_s")
    assert len(asked) == 4


@pytest.mark.slow
def test_an_evaluation_hides_the_largest_load_of_each_kind() -> None:
    found = evaluate(table(), "extrapolate-batch", ["mechanistic"], target="tpot_s")
    hidden = found.details
    assert sorted(hidden["request_rate"].dropna().unique()) == [8.0]
    assert sorted(hidden["concurrency"].dropna().unique()) == [16.0]


@pytest.mark.slow
def test_objectives_on_percentiles_and_rates(path: Path) -> None:
    assert str(Objective.parse("ttft_p99_s=0.5")) == "ttft_p99_s ≤ 0.5"
    assert Objective.parse("goodput=2") == Objective("goodput_req_s", 2.0)
    assert Objective.parse("goodput=2").higher_is_better
    answer = recommend(["ttft_p99_s=0.5"], data=path, input_tokens=512, output_tokens=128)
    row = answer.table.loc[answer.recommendation.chosen]
    assert row["ttft_p99_s"] <= 0.5
    assert json.dumps(answer.to_dict())


@pytest.mark.slow
def test_a_report_draws_each_kind_by_itself(path: Path, tmp_path: Path) -> None:
    report(tmp_path / "out.html", data=str(path), target="tpot_s")
    text = (tmp_path / "out.html").read_text()
    assert "by request rate" in text and "by concurrency" in text


def test_the_table_survives(path: Path) -> None:
    frame = read_table(path)
    assert frame["request_rate"].notna().sum() == 30 and frame["goodput_req_s"].notna().sum() == 60
