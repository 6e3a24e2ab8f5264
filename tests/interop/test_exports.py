"""What is exported is read back by the tool that it is for, by its schema, or by our own importer."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.interpolate import griddata, interp1d

from fewmark.cli import main
from fewmark.core import InputError
from fewmark.interop import read_table
from fewmark.interop.exports import CELLS, MEASUREMENTS, PREDICTIONS, exporter_names, make_exporter
from fewmark.interop.table.frame import build_frame
from fewmark.store import open_store

LOOP: dict[str, Any] = {
    "source": "lab", "engine": "vllm", "engine_version": "0.32.0", "model": "org/m", "precision": "bf16",
    "accelerator": "H100", "accelerator_count": 2, "tensor_parallel_size": 2, "input_tokens": 512, "output_tokens": 128,
    "concurrency": 16, "e2e_latency_s": 1.5, "ttft_s": 0.25, "tpot_s": 0.01, "itl_s": 0.0101, "ttft_p50_s": 0.24,
    "ttft_p99_s": 0.5, "throughput_tok_s": 1300.0, "total_throughput_tok_s": 6500.0, "request_throughput_req_s": 10.0,
    "n_requests": 160, "n_failed": 4, "power_w": 900.0, "statistic": "mean", "option.max_num_seqs": 64,
}  # fmt: skip
BATCH = {
    "engine": "vllm", "model": "org/m", "input_tokens": 128, "output_tokens": 64, "batch_size": 8, "n_repeats": 3,
    "e2e_latency_s": 0.8, "statistic": "median",
}  # fmt: skip
RATE = {"engine": "sglang", "model": "m2", "input_tokens": 100.5, "output_tokens": 50, "request_rate": 2.5, "ttft_s": 1}


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    names = dict.fromkeys(name for row in rows for name in row)
    return build_frame({name: [row.get(name) for row in rows] for name in names}, verbatim=True)


def written(name: str, frame: pd.DataFrame, out: Path, **settings: str) -> int:
    return make_exporter(name, settings).write(frame, str(out))


def said(frame: pd.DataFrame, row: int = 0) -> dict[str, Any]:
    return {str(k): v for k, v in frame.iloc[row].to_dict().items() if v is not None and v == v}


def test_every_exporter_says_what_it_takes() -> None:
    made = [make_exporter(name) for name in exporter_names()]
    assert [one.name for one in made] == exporter_names()
    assert {one.takes for one in made} == {MEASUREMENTS, PREDICTIONS, CELLS}
    assert all(bool(one.targets) == (one.takes == PREDICTIONS) for one in made)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_the_table_reads_back_as_it_was(tmp_path: Path, suffix: str) -> None:
    frame = table(LOOP, BATCH, RATE)
    assert written(suffix, frame, tmp_path / f"t.{suffix}") == 3
    back = read_table(tmp_path / f"t.{suffix}")
    pd.testing.assert_frame_equal(back, frame, check_like=True)


def test_a_benchmark_report_keeps_its_schema_and_reads_back(tmp_path: Path) -> None:
    report = pytest.importorskip("llmd_benchmark_report")
    assert written("llmd-benchmark-report", table(LOOP, BATCH, RATE), tmp_path / "reports") == 3
    files = sorted((tmp_path / "reports").glob("*.yaml"))
    kept = [report.import_benchmark_report(str(file)) for file in files]
    assert {one.version for one in kept} == {"0.2.1"}
    back = [said(read_table(file)) for file in files]
    loop = next(row for row in back if row.get("concurrency") == 16)
    assert {k: v for k, v in loop.items() if k in LOOP} == pytest.approx(LOOP)
    batch = next(row for row in back if "batch_size" in row)
    assert {k: v for k, v in batch.items() if k in BATCH} == pytest.approx(BATCH)
    assert "accelerator" not in batch  # unknown stays unknown
    assert "tensor_parallel_size" not in batch
    assert next(row for row in back if "request_rate" in row)["request_rate"] == 2.5


def test_rows_of_inferencex_read_back(tmp_path: Path) -> None:
    assert written("inferencex", table(LOOP, BATCH), tmp_path / "agg.json") == 1
    (row,) = json.loads((tmp_path / "agg.json").read_text())
    assert row["tput_per_gpu"] == 3250
    assert row["mean_intvty"] == pytest.approx(100)
    back = read_table(tmp_path / "agg.json")
    assert back.attrs["format"] == "inferencex"
    kept = {k: v for k, v in LOOP.items() if k not in ("source", "n_requests", "n_failed", "request_throughput_req_s")}
    assert {k: v for k, v in said(back).items() if k in kept} == pytest.approx(kept)


def test_prometheus_parses_every_sample_once(tmp_path: Path) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    again = {**LOOP, "ttft_s": 0.35, "model": 'org/"m"\\n'}
    forecast = {**BATCH, "provenance": "predicted", "predicted_by": "fewmark auto", "e2e_latency_s_low": 0.7}
    rows = table(
        {**LOOP, "provenance": "imported"}, {**LOOP, "ttft_s": 0.27, "provenance": "imported"}, forecast, again
    )
    assert written("prometheus", rows, tmp_path / "t.prom") == 4
    families = list(parser.text_string_to_metric_families((tmp_path / "t.prom").read_text()))
    samples = [sample for family in families for sample in family.samples]
    assert len({(s.name, tuple(sorted(s.labels.items()))) for s in samples}) == len(samples)
    ttft = {
        s.labels["model"]: s.value for s in samples if s.name == "fewmark_ttft_seconds" and "quantile" not in s.labels
    }
    assert ttft == {"org/m": pytest.approx(0.26), 'org/"m"\\n': 0.35}
    quantiles = {s.labels["quantile"] for s in samples if s.name == "fewmark_ttft_seconds" and "quantile" in s.labels}
    assert quantiles == {"0.5", "0.99"}
    assert [s.value for s in samples if s.name == "fewmark_e2e_latency_seconds" and s.labels.get("batch_size")] == []
    assert {s.labels.get("bound"): s.value for s in samples if s.name == "fewmark_predicted_e2e_latency_seconds"} == {
        None: 0.8,
        "low": 0.7,
    }


@pytest.mark.slow
def test_mlflow_holds_a_run_for_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(InputError, match="MLflow took no runs"):
        written("mlflow", table(LOOP), tmp_path / "refused")  # as it does by default
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    failed = {**BATCH, "batch_size": 64, "e2e_latency_s": None, "status": "out_of_memory"}
    forecast = {**BATCH, "provenance": "predicted", "predicted_by": "fewmark auto"}
    assert written("mlflow", table(LOOP, failed), tmp_path / "runs") == 2
    assert written("mlflow", table(forecast), tmp_path / "runs") == 1
    client = tracking.MlflowClient(tracking_uri=(tmp_path / "runs").as_uri())
    names = {one.name: one.experiment_id for one in client.search_experiments()}
    runs = {run.info.status: run for run in client.search_runs([names["fewmark"]])}
    assert set(runs) == {"FINISHED", "FAILED"}
    assert runs["FINISHED"].data.metrics["ttft_p99_s"] == 0.5
    assert runs["FINISHED"].data.params["option.max_num_seqs"] == "64"
    assert "e2e_latency_s" not in runs["FAILED"].data.metrics
    (run,) = client.search_runs([names["fewmark-predictions"]])
    assert run.data.tags["fewmark.predicted_by"] == "fewmark auto"


def predicted(**cells: Any) -> dict[str, Any]:
    return {**LOOP, "provenance": "predicted", "predicted_by": "fewmark auto", **cells}


def test_forecasts_read_back_as_aiconfigurators_would(tmp_path: Path) -> None:
    row = predicted(concurrency=4, throughput_tok_s=400.0, e2e_latency_s=None)
    assert written("aiconfigurator", table(row), tmp_path / "pareto.csv") == 1
    raw = pd.read_csv(tmp_path / "pareto.csv")
    assert raw["tokens/s"][0] == pytest.approx(400 * 127 / 128)  # the first token is left out there
    back = read_table(tmp_path / "pareto.csv")
    assert back.attrs["format"] == "aiconfigurator"
    assert back["provenance"].tolist() == ["predicted"]
    for name in ("ttft_s", "tpot_s", "throughput_tok_s", "concurrency", "accelerator_count", "tensor_parallel_size"):
        assert back[name][0] == pytest.approx(row[name])
    static = predicted(concurrency=None, batch_size=8, throughput_tok_s=None)
    assert written("aiconfigurator", table(static), tmp_path / "static.csv") == 1
    assert said(read_table(tmp_path / "static.csv"))["batch_size"] == 8
    with pytest.raises(InputError, match="apart"):
        written("aiconfigurator", table(row, static), tmp_path / "both.csv")


def test_dynamos_planner_interpolates_the_profile(tmp_path: Path) -> None:
    rows = [
        predicted(input_tokens=i, output_tokens=500, concurrency=n, ttft_s=i * 1e-4, tpot_s=0.01 + n * 1e-4)
        for i in (256, 1024, 2048, 4096)
        for n in (1, 8, 64)
    ]
    with pytest.raises(InputError, match="cache holds"):
        written("dynamo", table(*rows), tmp_path / "profile")
    assert written("dynamo", table(*rows), tmp_path / "profile", max_kv_tokens="200000") == 4 + 11
    with np.load(tmp_path / "profile/selected_prefill_interpolation/raw_data.npz") as raw:
        ttft_ms = interp1d(raw["prefill_isl"], raw["prefill_ttft"], kind="cubic")  # as the planner does
        assert ttft_ms(3000) == pytest.approx(300)
        assert raw["prefill_thpt_per_gpu"] == pytest.approx(np.full(4, 5000.0))
    with np.load(tmp_path / "profile/selected_decode_interpolation/raw_data.npz") as raw:
        assert raw["max_kv_tokens"][0] == 200_000
        assert (raw["x_kv_usage"] <= 1).all()
        points = (raw["x_kv_usage"], raw["y_context_length"])
        itl = griddata(points, raw["z_itl"], [(8 * 1274 / 200_000, 1274)], method="nearest")
        assert itl == pytest.approx([10.8])


def test_forecasts_are_no_measurements_and_measurements_no_forecasts(tmp_path: Path) -> None:
    for name in ("llmd-benchmark-report", "inferencex"):
        with pytest.raises(InputError, match="forecasts"):
            written(name, table(LOOP | {"provenance": "imported"}, predicted()), tmp_path / "out")
    for name in ("aiconfigurator", "dynamo"):
        with pytest.raises(InputError, match="measurements"):
            written(name, table(LOOP), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_no_longer_holds_is_not_exported(tmp_path: Path) -> None:
    bad = [{**LOOP, "flag": "retracted"}, {**LOOP, "status": "crashed"}, {**LOOP, "provenance": "projected"}]
    assert written("inferencex", table(LOOP, *bad), tmp_path / "agg.json") == 1
    with pytest.raises(InputError, match="none measured"):
        written("inferencex", table(*bad), tmp_path / "agg.json")


VLLM_SERVE = """--backend --base-url --model --dataset-name --random-input-len --random-output-len --ignore-eos
--num-warmups --num-prompts --max-concurrency --request-rate --percentile-metrics --metric-percentiles --save-result
--result-dir --result-filename --metadata"""  # of `vllm bench serve --help`, 0.32.0
VLLM_LATENCY = "--model --input-len --output-len --batch-size --tensor-parallel-size --output-json"


def test_commands_of_a_plan(tmp_path: Path) -> None:
    cells = table({**LOOP, "e2e_latency_s": None}, {**BATCH, "e2e_latency_s": None}, {**RATE, "input_tokens": 100})
    assert written("vllm-bench", cells, tmp_path / "plan.sh", prompts="5") == 3
    lines = (tmp_path / "plan.sh").read_text().splitlines()
    loop, batch, rate = (shlex.split(line) for line in lines if line.startswith("vllm "))
    assert {word for word in [*loop, *rate] if word.startswith("--")} <= set(VLLM_SERVE.split())
    assert {word for word in batch if word.startswith("--")} <= set(VLLM_LATENCY.split())
    assert loop[loop.index("--max-concurrency") + 1] == "16"
    assert loop[loop.index("--num-prompts") + 1] == "80"
    assert {"tp=2", "gpu=H100", "num_gpus=2", "precision=bf16", "engine_version=0.32.0"} <= set(loop)
    assert rate[rate.index("--request-rate") + 1] == "2.5"
    assert batch[batch.index("--batch-size") + 1] == "8"
    assert any(line.startswith("# vllm serve org/m --dtype bfloat16") for line in lines)


def test_treatments_of_a_plan(tmp_path: Path) -> None:
    cells = table(LOOP, {**LOOP, "concurrency": 32}, {**LOOP, "concurrency": 32, "workload.prefix_tokens": 64})
    assert written("llmd-treatments", cells, tmp_path / "plan.yaml") == 3
    plan = yaml.safe_load((tmp_path / "plan.yaml").read_text())
    assert plan["experiment"]["harness"] == "vllm-benchmark"
    names = [treatment["name"] for treatment in plan["treatments"]]
    assert len(set(names)) == 3
    assert plan["treatments"][0] | {"name": ""} == {
        "name": "", "dataset-name": "random", "random-input-len": 512, "random-output-len": 128, "max-concurrency": 16,
        "num-prompts": 160, "request-rate": "inf",
    }  # fmt: skip
    with pytest.raises(InputError, match="one deployment"):
        written("llmd-treatments", table(LOOP, RATE), tmp_path / "two.yaml")
    assert written("llmd-treatments", table(LOOP, RATE), tmp_path / "two") == 2
    assert len(list((tmp_path / "two").glob("*.yaml"))) == 2


def test_a_recommendation_becomes_a_command_and_a_manifest(tmp_path: Path) -> None:
    candidates = table({**LOOP, "recommended": False, "concurrency": 8}, {**LOOP, "recommended": True, "replicas": 2.2})
    assert written("serve-command", candidates, tmp_path / "serve.sh") == 1
    last = (tmp_path / "serve.sh").read_text().splitlines()[-1]
    words = ["vllm", "serve", "org/m", "--dtype", "bfloat16", "--tensor-parallel-size", "2", "--max-num-seqs", "64"]
    assert shlex.split(last) == ["exec", *words, "--port", "8000"]
    assert written("kubernetes", candidates, tmp_path / "deploy.yaml", namespace="prod") == 1
    deployment, service = yaml.safe_load_all((tmp_path / "deploy.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["command"][:3] == ["vllm", "serve", "org/m"]
    assert container["image"] == "vllm/vllm-openai:v0.32.0"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert deployment["spec"]["replicas"] == 3
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    for document in (deployment, service):
        kubernetes_accepts(document)


def kubernetes_accepts(document: dict[str, Any]) -> None:
    """Validate against Kubernetes' own schema, where the package that has it is installed."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    kubernetes_validate.validate(document, "1.30", strict=True)


def test_nothing_recommended_is_no_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing was recommended"):
        written("serve-command", table({**LOOP, "recommended": False}), tmp_path / "serve.sh")
    with pytest.raises(InputError, match="several deployments"):
        written("serve-command", table(LOOP, BATCH), tmp_path / "serve.sh")
    with pytest.raises(InputError, match="image"):
        written("kubernetes", table(BATCH), tmp_path / "deploy.yaml")


def test_options_that_are_no_flags_are_named_not_guessed(tmp_path: Path) -> None:
    row = {**RATE, "option.mem_fraction_static": 0.9, "option.odd;rm -rf": "x\ny", "precision": "int4"}
    assert written("serve-command", table(row), tmp_path / "serve.sh") == 1
    *comments, last = (tmp_path / "serve.sh").read_text().splitlines()
    assert shlex.split(last)[1:] == [
        *("python3", "-m", "sglang.launch_server", "--model-path", "m2"),
        *("--mem-fraction-static", "0.9", "--port", "8000"),
    ]
    assert all(line.startswith("#") for line in comments)
    assert any("odd;rm -rf = x y" in line for line in comments)


def test_settings_are_checked() -> None:
    for settings in ({"max_kv_tokens": "many"}, {"max_kv_tokens": "0"}, {"other": "1"}):
        with pytest.raises(InputError):
            make_exporter("dynamo", settings)
    with pytest.raises(InputError, match="unknown format"):
        make_exporter("xlsx")


def test_the_command_exports_the_store_a_file_and_forecasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWMARK_STORE", "sqlite:///s.db")
    rows = [
        {**LOOP, "input_tokens": i, "concurrency": c, "ttft_s": 1e-4 * i + 1e-3 * c, "tpot_s": 0.01 + 1e-4 * c,
         "throughput_tok_s": 90.0 * c, "total_throughput_tok_s": None, "request_throughput_req_s": None,
         "e2e_latency_s": None}
        for i in (256, 512, 1024, 2048)
        for c in (1, 2, 4, 8)
    ]  # fmt: skip
    rows = [{k: v for k, v in row.items() if "_p" not in k or k == "tpot_s"} for row in rows]
    written("csv", table(*rows), tmp_path / "known.csv")
    assert main(["import", "known.csv"]) == 0
    assert main(["export", "out.json"]) == 0
    assert len(read_table("out.json")) == 16
    assert main(["export", "agg.json", "--format", "inferencex", "--data", "known.csv"]) == 0
    (tmp_path / "cases.csv").write_text("input_tokens,output_tokens,concurrency\n512,128,3\n1024,128,6\n")
    command = ["export", "pareto.csv", "--format", "aiconfigurator", "--cases", "cases.csv", "--model", "loglog"]
    assert main(command) == 0  # from the store, which keeps the forecasts
    back = read_table("pareto.csv")
    assert back["model"].tolist() == ["org/m"] * 2
    assert back["ttft_s"].tolist() == pytest.approx([0.0542, 0.1084], rel=0.2)
    with open_store() as store:
        assert len(list(store.predictions())) == 6
    assert main(["export", "kept.csv", "--format", "aiconfigurator"]) == 0
    pd.testing.assert_frame_equal(read_table("kept.csv"), back)
    assert main(["export", "x.sh", "--format", "vllm-bench"]) == 2
    assert main(["export", "x.yaml", "--format", "llmd-treatments", "--data", "cases.csv"]) == 0


def test_no_exporter_imports_what_it_does_not_need() -> None:
    folder = Path(make_exporter.__code__.co_filename).parent
    for file in folder.glob("*.py"):
        tops = [node for node in ast.parse(file.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = {alias.name.split(".")[0] for node in tops for alias in node.names} | {
            (node.module or "").split(".")[0] for node in tops if isinstance(node, ast.ImportFrom)
        }
        assert not names & {"mlflow", "prometheus_client", "llmd_benchmark_report"}, file.name
