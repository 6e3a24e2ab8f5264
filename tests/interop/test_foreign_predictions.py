"""Forecasts of AIConfigurator, AISimulate and llm-d planner: never measurements, kept as predictions and scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fewmark.cli import main
from fewmark.core import FormatError, InputError
from fewmark.interop import read_table, to_measurements
from fewmark.store import open_store
from fewmark.verbs.import_files import import_files
from fewmark.verbs.ledger import ledger
from fewmark.verbs.results import read_results

REAL = Path(__file__).parent / "fixtures" / "aiconfigurator-0.12.0"
PLANNER = Path(__file__).parent / "fixtures" / "llm-d-planner-0.3" / "benchmarks_estimated_performance.json"

# Hand-made from AIConfigurator 0.12's columns.
AGG = (
    "model,isl,osl,prefix,concurrency,request_rate,bs,global_bs,ttft,tpot,request_latency,seq/s,seq/s/gpu,tokens/s,"
    "tokens/s/gpu,tokens/s/user,num_total_gpus,tp,pp,dp,moe_tp,moe_ep,parallel,gemm,kvcache,fmha,moe,comm,memory,"
    "backend,version,system,power_w\n"
    "org/m,4000,500,0,112,4.1,112,112,542.58,17.39,9220.19,8.0,2.0,3992.0,998.0,57.5,4,4,1,1,1,1,tp4pp1,fp8_block,fp8,"
    "fp8,fp8_block,half,60.1,trtllm,1.3.0rc20,h200_sxm,0.0\n"
)
STATIC = AGG.replace("request_latency,", "request_latency,context_latency,", 1).replace(
    "9220.19,", "9220.19,542.58,", 1
)
PREDICTION: dict[str, Any] = {  # hand-made from AISimulate's documented keys
    "num_requests": 5, "completed_requests": 4, "total_output_tokens": 400, "duration_ms": 2000, "wall_time_ms": 150,
    "request_throughput_rps": 2, "output_throughput_tok_s": 200, "num_ttft_samples": 4, "num_tpot_samples": 4,
    "mean_ttft_ms": 100, "mean_tpot_ms": 10, "goodput_completed_requests": 3, "gpu_hours": 0.0011,
}  # fmt: skip


def written(folder: Path, value: Any, name: str) -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def unknown(row: pd.Series, *names: str) -> bool:
    return all(name not in row or row[name] is None or row[name] != row[name] for name in names)


def test_aiconfigurator_rates_leave_the_first_token_out(tmp_path: Path) -> None:
    frame = read_table(written(tmp_path, AGG, "pareto.csv"))
    row = frame.iloc[0]
    assert (row["provenance"], row["predicted_by"]) == ("predicted", "aiconfigurator")
    assert row["throughput_tok_s"] == 8 * 500  # the file says 8 × 499
    assert row["aiconfigurator.tokens_per_s"] == 3992
    assert (row["ttft_s"], row["tpot_s"], row["e2e_latency_s"]) == (
        pytest.approx(0.54258),
        pytest.approx(0.01739),
        pytest.approx(9.22019),
    )


def test_aiconfigurator_real_files_of_both_kinds_of_serving() -> None:
    agg, disagg = (read_table(REAL / kind / "pareto.csv") for kind in ("agg", "disagg"))
    for frame in (agg, disagg):
        assert set(frame["predicted_by"]) == {"aiconfigurator"}
        assert set(frame["accelerator"]) == {"h200_sxm"}
        assert frame["throughput_tok_s"].tolist() == pytest.approx((frame["request_throughput_req_s"] * 100).tolist())
    assert (agg["aiconfigurator.tokens_per_s"] / agg["request_throughput_req_s"]).tolist() == pytest.approx(
        [99] * 5, rel=1e-3
    )
    assert "aiconfigurator.tokens_per_s" not in disagg  # there tokens/s counts every token
    row = disagg.iloc[0]
    assert (row["accelerator_count"], row["option.prefill_workers"], row["option.decode_workers"]) == (8, 7, 1)


def test_aiconfigurator_best_configurations_are_of_the_same_runs() -> None:
    for kind in ("agg", "disagg"):
        best, front = (read_table(REAL / kind / name) for name in ("best_config_topn.csv", "pareto.csv"))
        shared = set(best["run_id"]) & set(front["run_id"])
        same = set(best["ttft_s"].astype(str) + best["tpot_s"].astype(str))
        assert len(shared) == len(same & set(front["ttft_s"].astype(str) + front["tpot_s"].astype(str)))


def test_aiconfigurator_inclusive_tpot_is_told_by_the_latency(tmp_path: Path) -> None:
    text = AGG.replace(",17.39,", f",{9220.19 / 500:.6f},")
    row = read_table(written(tmp_path, text, "pareto.csv")).iloc[0]
    assert row["tpot_s"] == pytest.approx((9.22019 - 0.54258) / 499)
    assert row["aiconfigurator.inclusive_tpot_s"] == pytest.approx(9.22019 / 500)


def test_aiconfigurator_concurrency_is_one_replicas_and_power_of_zero_unknown(tmp_path: Path) -> None:
    row = read_table(written(tmp_path, AGG, "pareto.csv")).iloc[0]
    assert (row["concurrency"], row["accelerator_count"], row["tensor_parallel_size"]) == (112, 4, 4)
    assert "one replica" in row["note"]
    assert unknown(row, "power_w", "aiconfigurator.power_per_gpu_w", "request_rate", "batch_size")


def test_aiconfigurator_static_is_a_batch(tmp_path: Path) -> None:
    row = read_table(written(tmp_path, STATIC, "pareto.csv")).iloc[0]
    assert row["batch_size"] == 112
    assert unknown(row, "concurrency")


def test_aisimulate_modelled_time_is_not_the_simulators(tmp_path: Path) -> None:
    row = read_table(written(tmp_path, PREDICTION, "prediction.json")).iloc[0]
    assert (row["provenance"], row["predicted_by"]) == ("predicted", "aisimulate")
    assert (row["duration_s"], row["output_tokens"], row["n_requests"]) == (2, 100, 4)
    assert (row["ttft_s"], row["tpot_s"], row["throughput_tok_s"]) == (0.1, 0.01, 200)
    assert row["goodput_req_s"] == 1.5
    nothing = {**PREDICTION, "num_tpot_samples": 0, "mean_tpot_ms": 0.0}
    assert unknown(read_table(written(tmp_path, nothing, "prediction.json")).iloc[0], "tpot_s")
    around = {"config": {"backend": "vllm", "isl": 128, "concurrency": 4}, "report": PREDICTION}
    row = read_table(written(tmp_path, around, "prediction.json")).iloc[0]
    assert (row["engine"], row["input_tokens"], row["concurrency"]) == ("vllm", 128, 4)


def test_planner_estimated_rows_are_forecasts() -> None:
    frame = read_table(PLANNER)
    assert set(frame["provenance"]) == {"predicted"}
    row = frame.iloc[0]
    assert (row["ttft_s"], row["e2e_latency_s"], row["accelerator"], row["accelerator_count"]) == (
        0.145,
        9.238,
        "H200",
        8,
    )
    assert unknown(row, "throughput_tok_s")
    assert row["llm-d-planner.tokens_per_second"] == 295


def test_planner_measured_rows_are_measurements(tmp_path: Path) -> None:
    data = json.loads(PLANNER.read_text())
    entry = {key: value for key, value in data["benchmarks"][0].items() if "estimat" not in key and key != "based_on"}
    path = written(tmp_path, {"_metadata": {"source": "simulated"}, "benchmarks": [entry]}, "b.json")
    assert set(read_table(path)["provenance"]) == {"predicted"}
    path = written(tmp_path, {"metadata": {"source": "cluster runs"}, "benchmarks": [entry]}, "b.json")
    assert "provenance" not in read_table(path)
    assert len(list(to_measurements(read_table(path)))) == 1


def test_nothing_is_learned_from_forecasts(tmp_path: Path) -> None:
    path = written(tmp_path, AGG, "pareto.csv")
    with pytest.raises(InputError, match="forecasts, not measurements") as raised:
        read_results(path)
    assert "fewmark import" in (raised.value.hint or "")
    with pytest.raises(InputError, match="row 1: a forecast is not a measurement"):
        list(to_measurements(read_table(path)))


def test_import_keeps_forecasts_as_predictions_and_the_ledger_scores_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = f"sqlite:///{tmp_path / 'f.db'}"
    path = written(tmp_path, AGG, "pareto.csv")
    first = import_files([path], store=store)[0]
    assert (first.n_added, first.n_predictions) == (0, 4)  # throughput, e2e, TTFT, TPOT
    assert import_files([path], store=store)[0].n_predictions == 0
    with open_store(store) as opened:
        assert not list(opened.measurements())
        assert {p.provenance for p in opened.predictions()} == {"imported"}
    measured = read_table(path).drop(columns=["provenance", "predicted_by"])
    measured["ttft_s"] = 0.6
    with open_store(store) as opened:
        opened.add(to_measurements(measured))
    row = next(row for row in ledger(store).rows if row.metric == "ttft_s")
    assert (row.model, row.provenance, row.n) == ("aiconfigurator", "imported", 1)
    assert row.median_ape == pytest.approx(0.6 / 0.6 - 0.54258 / 0.6)
    assert row.held is None
    assert main(["import", str(path), "--store", store]) in (0, None)
    assert "0 added" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "name"), [(AGG, "aiconfigurator"), (json.dumps(PREDICTION), "aisimulate")])
def test_cut_short_and_alien(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(FormatError):
        read_table(written(tmp_path, text[: len(text) - 40], "x"), name)
    for alien in ("{}", "[]", "a,b\n1,2\n"):
        with pytest.raises(FormatError):
            read_table(written(tmp_path, alien, "x"), name)
