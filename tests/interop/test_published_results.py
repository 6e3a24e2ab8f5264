"""InferenceX, MLPerf, optimum-benchmark, ado, Prism, chimeraforge: what the rows are of, and each trap by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fewmark.core import FormatError
from fewmark.interop import is_complete, read_table

FIXTURES = Path(__file__).parent / "fixtures"
MLPERF = FIXTURES / "mlperf-6.0" / "mlperf-6.0.csv"
OPTIMUM = FIXTURES / "optimum-benchmark-0.5" / "benchmark.json"

# Hand-made from the keys that InferenceX's rows have.
V1: dict[str, Any] = {
    "hw": "h200", "tp": 8, "ep": 1, "dp_attention": "false", "conc": 64, "model": "org/m", "framework": "vllm",
    "precision": "fp8", "tput_per_gpu": 1000.0, "output_tput_per_gpu": 125.0, "mean_ttft": 0.5, "median_ttft": 0.4,
    "p99_ttft": 2.0, "mean_tpot": 0.02, "median_tpot": 0.019, "median_intvty": 52.6, "mean_itl": 0.02,
    "mean_e2el": 20.0, "p99_e2el": 30.0,
}  # fmt: skip
V2: dict[str, Any] = {
    **V1, "image": "vllm/vllm-openai:v0.18.0", "spec_decoding": "none", "disagg": False, "isl": 8192, "osl": 1024,
    "is_multinode": False, "pp": 1, "recipe_fingerprint": "abc",
}  # fmt: skip
DISAGGREGATED: dict[str, Any] = {
    **{key: value for key, value in V2.items() if key not in ("tp", "ep")}, "disagg": True, "is_multinode": True,
    "num_prefill_gpu": 4, "num_decode_gpu": 8, "prefill_tp": 4, "decode_tp": 8, "prefill_num_workers": 1,
    "tput_per_gpu": 900.0, "output_tput_per_gpu": 150.0, "input_tput_per_gpu": 2400.0,
}  # fmt: skip
ADO = """identifier,model,request_rate,max_concurrency,n_gpus,gpu_type,number_input_tokens,max_output_tokens,\
num_prompts,image,X-duration,X-completed,X-total_input_tokens,X-total_output_tokens,X-request_throughput,X-output_throughput,\
X-mean_ttft_ms,X-p99_ttft_ms,X-mean_tpot_ms
a,org/m,-1,16,1,A100,128,32,48,vllm:v0.9.1,10,48,6144,1536,4.8,153.6,300,500,40
b,org/m,5,-1,1,A100,128,32,48,vllm:v0.9.1,-1,-1,-1,-1,-1,-1,-1,-1,-1
"""


def written(folder: Path, value: Any, name: str = "result.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def one(path: Path) -> pd.Series:
    frame = read_table(path)
    assert len(frame) == 1
    return frame.iloc[0]


def unknown(row: pd.Series, *names: str) -> bool:
    return all(name not in row or row[name] is None or row[name] != row[name] for name in names)


# InferenceX


def test_inferencex_of_both_versions(tmp_path: Path) -> None:
    frame = read_table(written(tmp_path, [V1, V2]))
    assert frame.attrs["format"] == "inferencex"
    assert frame["throughput_tok_s"].tolist() == [1000, 1000]  # 125 on each of 8
    assert frame["total_throughput_tok_s"].tolist() == [8000, 8000]
    assert frame["ttft_s"].tolist() == [0.5, 0.5]  # seconds without a suffix
    assert frame["ttft_p50_s"].tolist() == [0.4, 0.4]
    first, second = frame.iloc[0], frame.iloc[1]
    assert (first["accelerator_count"], first["tensor_parallel_size"], first["concurrency"]) == (8, 8, 64)
    assert unknown(first, "input_tokens", "output_tokens")
    assert (second["input_tokens"], second["output_tokens"], second["engine_version"]) == (8192, 1024, "0.18.0")


def test_inferencex_disaggregated_throughputs_are_of_their_own_gpus(tmp_path: Path) -> None:
    row = one(written(tmp_path, DISAGGREGATED))
    assert row["accelerator_count"] == 12
    assert row["throughput_tok_s"] == 150 * 8
    assert row["inferencex.input_tok_s"] == 2400 * 4
    assert row["total_throughput_tok_s"] == 900 * 12 == 150 * 8 + 2400 * 4
    assert bool(row["option.disaggregated"])
    later = {"output_tput_per_gpu": 100.0, "input_tput_per_gpu": 800.0}  # per all 12 GPUs
    assert one(written(tmp_path, {**DISAGGREGATED, **later}))["throughput_tok_s"] == 1200
    roles = {**later, "output_tput_per_decode_gpu": 150.0, "input_tput_per_prefill_gpu": 2400.0}
    row = one(written(tmp_path, {**DISAGGREGATED, **roles}))
    assert (row["throughput_tok_s"], row["inferencex.input_tok_s"]) == (1200, 9600)
    unnamed = {key: value for key, value in DISAGGREGATED.items() if not key.startswith("num_")}
    row = one(written(tmp_path, unnamed))
    assert unknown(row, "throughput_tok_s", "total_throughput_tok_s", "accelerator_count")
    assert row["inferencex.output_tput_per_gpu"] == 150


def test_inferencex_roles_on_the_same_gpus_are_not_added(tmp_path: Path) -> None:
    data = {key: value for key, value in V2.items() if key not in ("tp", "ep")}
    data |= {"num_prefill_gpu": 8, "num_decode_gpu": 8, "prefill_tp": 8, "decode_tp": 8, "disagg": False}
    row = one(written(tmp_path, {**data, "metrics": {"input_tput_per_gpu": 875.0}}))
    assert (row["accelerator_count"], row["tensor_parallel_size"]) == (8, 8)
    assert (row["total_throughput_tok_s"], row["throughput_tok_s"]) == (8000, 1000)


@pytest.mark.parametrize(
    ("changes", "power_w", "own"),
    [
        ({"power_valid": 1, "power_metric_schema_version": 2}, 5600, 700),
        ({"power_valid": 0, "power_metric_schema_version": 2}, None, None),
        ({}, None, 700),
    ],
)
def test_inferencex_power_valid_and_schema_version(
    tmp_path: Path, changes: dict[str, Any], power_w: float | None, own: float | None
) -> None:
    row = one(written(tmp_path, {**V2, "avg_power_w": 700, "avg_total_gpu_power_w": 5600, **changes}))
    assert unknown(row, "power_w") if power_w is None else row["power_w"] == power_w
    assert unknown(row, "inferencex.avg_power_w") if own is None else row["inferencex.avg_power_w"] == own
    assert "power" in (row["note"] or "") or power_w


def test_inferencex_speculative_decoding_is_another_deployment(tmp_path: Path) -> None:
    row = one(written(tmp_path, {**V2, "spec_decoding": "mtp"}))
    assert row["option.spec_decoding"] == "mtp"
    assert unknown(row, "itl_s")
    assert row["inferencex.itl_s"] == 0.02


def test_inferencex_rows_of_different_runs_are_told_apart(tmp_path: Path) -> None:
    frame = read_table(written(tmp_path, [{**V2, "github_run_id": 1}, {**V2, "github_run_id": 2, "conc": 128}]))
    assert frame["curve_run"].tolist() == ["1", "2"]


def test_inferencex_single_run_has_medians_only() -> None:
    row = one(next((FIXTURES / "inferencex").glob("*.json")))
    assert (row["concurrency"], row["n_requests"], row["input_tokens"], row["output_tokens"]) == (16, 160, 1024, 128)
    assert row["throughput_tok_s"] == pytest.approx(403.58093)
    assert row["total_throughput_tok_s"] == pytest.approx(403.58093 + 3228.64745)
    assert row["ttft_p50_s"] == pytest.approx(0.29140, rel=1e-4)
    assert unknown(row, "ttft_s", "tpot_s", "e2e_latency_s")  # a median is no mean


# MLPerf


def test_mlperf_is_utf_16_with_half_a_character_at_its_end() -> None:
    raw = MLPERF.read_bytes()
    assert raw.startswith(b"\xff\xfe")
    assert len(raw) % 2 == 1
    frame = read_table(MLPERF)
    assert frame.attrs["format"] == "mlperf"
    row = frame.iloc[0]
    assert (row["model"], row["option.scenario"], row["organization"]) == ("llama2-70b-99", "Offline", "AMD")
    assert (row["throughput_tok_s"], row["accelerator_count"]) == (1042110, 87)
    assert row["accelerator"] == "AMD Instinct MI355X 288GB HBM3e"  # "(x87)" is a count
    assert not is_complete(frame).any()


def test_mlperf_units_and_machines_without_accelerators() -> None:
    frame = read_table(MLPERF)
    assert frame["throughput_tok_s"].notna().sum() < len(frame)
    samples = frame[frame["request_throughput_req_s"].notna()]
    assert len(samples)
    assert samples["throughput_tok_s"].isna().all()
    processors = frame[frame["accelerator"].str.contains("Xeon")]
    assert len(processors)
    latency = frame[frame["e2e_latency_p90_s"].notna()]
    assert set(latency["option.scenario"]) == {"SingleStream"}


def test_mlperf_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv"
    path.write_bytes(MLPERF.read_bytes()[:4001])
    with pytest.raises(FormatError, match=r"row \d+: 24 fields are needed"):
        read_table(path)


# optimum-benchmark


def test_optimum_standard_deviations_are_not_taken_over() -> None:
    row = one(OPTIMUM)
    assert row["e2e_latency_s"] == pytest.approx(11.300766840518918)  # the median of ten
    assert (row["batch_size"], row["input_tokens"], row["n_repeats"]) == (64, 128, 10)
    assert not any("std" in str(name) for name in row.index)


def test_optimum_device_tells_the_accelerator_not_the_machines_gpus() -> None:
    row = one(OPTIMUM)  # device "cpu" on a machine with a T4
    assert "Xeon" in row["accelerator"]


def test_optimum_forward_alone_generated_nothing() -> None:
    row = one(OPTIMUM)
    assert unknown(row, "output_tokens", "ttft_s", "tpot_s", "throughput_tok_s")
    assert "no token was generated" in row["note"]


def generation(**changes: Any) -> dict[str, Any]:  # hand-made
    config = {
        "name": "gen",
        "backend": {"name": "pytorch", "version": "2.5", "task": "text-generation", "model": "org/m", "device": "cuda"},
        "scenario": {
            "input_shapes": {"batch_size": 4, "sequence_length": 128},
            "generate_kwargs": {"max_new_tokens": 33, "min_new_tokens": 33},
        },
        "environment": {"gpu": ["NVIDIA A10G"], "cpu": "x"},
    }
    config["backend"] |= {"torch_dtype": "float16", "device_ids": "0"}
    report = {
        "load": {"latency": {"unit": "s", "values": [9.0]}},
        "prefill": {"latency": {"unit": "s", "values": [0.1, 0.1, 0.3]}, "throughput": {"value": 4 * 128 / 0.1}},
        "decode": {"latency": {"unit": "s", "values": [0.8, 0.8, 0.9], "mean": 0.8}, "throughput": {"value": 160.0}},
    }
    return {"config": config, "report": report} | changes


def test_optimum_generation(tmp_path: Path) -> None:
    measured = generation()
    measured["report"]["decode"]["energy"] = {"unit": "kWh", "cpu": 1e-7, "ram": 9e-7, "gpu": 0.0, "total": 1e-6}
    row = one(written(tmp_path, measured))
    assert row["optimum-benchmark.decode_energy_j"] == pytest.approx(3.6) and "guessed" in row["note"]
    assert (row["engine"], row["precision"], row["accelerator"], row["accelerator_count"]) == (
        "pytorch",
        "float16",
        "NVIDIA A10G",
        1,
    )
    assert (row["ttft_s"], row["e2e_latency_s"], row["output_tokens"]) == (0.1, pytest.approx(0.9), 33)
    assert row["tpot_s"] == pytest.approx(0.8 / 32)
    assert row["throughput_tok_s"] == pytest.approx(4 * 33 / 0.9)
    assert row["decode_throughput_tok_s"] == pytest.approx(4 * 32 / 0.8)


def test_optimum_report_beside_its_configuration_and_csv(tmp_path: Path) -> None:
    whole = generation()
    written(tmp_path, whole["config"], "benchmark_config.json")
    report = whole["report"]
    for part in report.values():
        part["efficiency"] = part["energy"] = part["memory"] = None
        part.setdefault("throughput", None)
    row = one(written(tmp_path, report, "benchmark_report.json"))
    assert (row["engine"], row["ttft_s"]) == ("pytorch", 0.1)
    flat = {
        "config.backend.name": "pytorch",
        "config.backend.device": "cuda",
        "config.scenario.input_shapes.batch_size": 4,
        "config.scenario.input_shapes.sequence_length": 128,
        "config.scenario.generate_kwargs.max_new_tokens": 33,
        "report.prefill.latency.mean": 0.1,
        "report.decode.latency.mean": 0.8,
        "report.decode.throughput.value": 160.0,
    }
    text = ",".join(flat) + "\n" + ",".join(map(str, flat.values())) + "\n"
    row = one(written(tmp_path, text, "report.csv"))
    assert (row["tpot_s"], row["output_tokens"]) == (pytest.approx(0.8 / 32), 33)


# IBM ado


def test_ado_minus_one_is_missing_and_an_endless_rate(tmp_path: Path) -> None:  # hand-made
    frame = read_table(written(tmp_path, ADO, "ado.csv"))
    assert frame.attrs["format"] == "ado"
    first, second = frame.iloc[0], frame.iloc[1]
    assert (first["concurrency"], first["ttft_s"], first["ttft_p99_s"]) == (16, 0.3, 0.5)
    assert unknown(first, "request_rate")
    assert (first["input_tokens"], first["output_tokens"], first["engine_version"]) == (128, 32, "0.9.1")
    assert (second["status"], second["request_rate"]) == ("crashed", 5)
    assert unknown(second, "ttft_s", "throughput_tok_s", "concurrency")


def test_ado_experiments_of_guidellm_have_its_tpot(tmp_path: Path) -> None:
    text = ADO.replace("X-", "test-endpoint-guidellm-v1-")
    row = read_table(written(tmp_path, text, "ado.csv")).iloc[0]
    assert unknown(row, "tpot_s")
    assert row["guidellm.tpot_s"] == 0.04


# llm-d Prism, chimeraforge


def test_prism_placeholders_say_nothing(tmp_path: Path) -> None:  # hand-made
    entry = {
        "id": "1",
        "source_info": {"type": "giq"},
        "metadata": {"model_name": "m-8b", "backend": "vllm", "hardware": "H100", "precision": "Unknown"},
        "workload": {"input_tokens": 0, "output_tokens": 0, "target_qps": 0},
        "metrics": {
            "throughput": 2000.0,
            "request_rate": 10.0,
            "latency": {"mean": 4000.0, "p50": 4000.0, "p99": 0},
            "ttft": {"mean": 200.0, "p50": 180.0},
            "tpot": 19.0,
            "error_count": 0,
        },
        "isl": 512,
        "osl": 200,
    }
    entry["metadata"]["accelerator_count"] = 1
    row = one(written(tmp_path, [entry]))
    assert (row["model"], row["accelerator"], row["input_tokens"], row["output_tokens"]) == ("m-8b", "H100", 512, 200)
    assert (row["ttft_s"], row["ttft_p50_s"], row["e2e_latency_s"]) == (0.2, 0.18, 4)
    assert unknown(
        row, "precision", "accelerator_count", "request_rate", "e2e_latency_p50_s", "e2e_latency_p99_s", "tpot_s"
    )
    assert row["prism.tpot_s"] == 0.019


def test_chimeraforge_zeros_are_unknown() -> None:
    frame = read_table(FIXTURES / "chimeraforge" / "metrics.json")
    assert frame["agent"].tolist() == ["baseline", "chimera"]
    assert frame["ttft_s"].tolist() == [4.907909, 5.3121586]
    row = frame.iloc[1]
    assert unknown(row, "output_tokens", "throughput_tok_s", "decode_throughput_tok_s", "input_tokens", "concurrency")
    assert row["option.num_gpu"] == 80


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ([V2], "inferencex"),
        (generation(), "optimum-benchmark"),
        (json.loads((FIXTURES / "chimeraforge" / "metrics.json").read_text()), "chimeraforge"),
    ],
)
def test_cut_short_and_alien(tmp_path: Path, value: Any, name: str) -> None:
    text = json.dumps(value, indent=1)
    assert read_table(written(tmp_path, text)).attrs["format"] == name
    with pytest.raises(FormatError, match="line"):
        read_table(written(tmp_path, text[: len(text) // 2]), name)
    for alien in ("{}", "[]", "[1]", '"text"', "a,b\n1,2\n"):
        with pytest.raises(FormatError):
            read_table(written(tmp_path, alien), name)


@pytest.mark.parametrize("name", ["ado", "mlperf", "prism"])
def test_alien_tables(tmp_path: Path, name: str) -> None:
    for alien in ("{}", "[]", "a,b\n1,2\n", "nothing\n"):
        with pytest.raises(FormatError):
            read_table(written(tmp_path, alien), name)
