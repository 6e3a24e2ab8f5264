"""llm-d's Benchmark Report, checked by its package, and MLCommons endpoints' summary."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from fewmark.core import FormatError
from fewmark.interop import read_table

FIXTURES = Path(__file__).parent / "fixtures"
REPORTS = FIXTURES / "llmd-benchmark-report"


def one(path: Path) -> pd.Series:
    frame = read_table(path)
    assert len(frame) == 1
    return frame.iloc[0]


def unknown(row: pd.Series, *names: str) -> bool:
    return all(name not in row or row[name] is None or row[name] != row[name] for name in names)


def report(version: str = "0.2.1") -> dict[str, Any]:
    return yaml.safe_load((REPORTS / f"{version}.yaml").read_text())


def written(folder: Path, value: Any, name: str = "report.yaml") -> Path:
    path = folder / name
    path.write_text(json.dumps(value, default=str) if name.endswith("json") else yaml.safe_dump(value))
    return path


@pytest.mark.parametrize("version", ["0.2", "0.2.1"])
def test_report_0_2(version: str) -> None:
    row = one(REPORTS / f"{version}.yaml")
    assert (row["model"], row["accelerator"]) == ("Qwen/Qwen3-0.6B", "NVIDIA-H100-80GB-HBM3")
    assert (row["accelerator_count"], row["tensor_parallel_size"]) == (8, 8)
    assert (row["input_tokens"], row["ttft_s"], row["n_requests"]) == (2262.448, 0.0368578234128654, 500)
    assert row["ttft_p99_s"] == 0.05029489721637218
    assert row["request_rate"] == 10
    assert unknown(row, "concurrency", "workload.max_concurrency")  # infinity in the file
    assert row["workload.prefix_tokens"] == 1000


def test_report_0_1_is_in_milliseconds_and_disaggregated() -> None:
    row = one(REPORTS / "0.1.yaml")
    assert (row["engine"], row["engine_version"], row["precision"]) == ("vllm", "0.9.0.1", "fp16")
    assert (row["accelerator_count"], row["option.roles"]) == (17, "1 prefill, 2 decode")
    assert unknown(row, "tensor_parallel_size")
    assert row["ttft_s"] == pytest.approx(0.800974442732916e-3)
    assert row["throughput_tok_s"] == 32.544923821416
    assert row["request_rate"] == 1.34
    assert "1 requests were incomplete" in row["note"]


def test_json_as_well(tmp_path: Path) -> None:
    value = report("0.2.1")
    value["scenario"]["load"]["standardized"].pop("concurrency")
    assert one(written(tmp_path, value, "report.json"))["ttft_s"] == 0.0368578234128654


@pytest.mark.parametrize("name", ["reports.yaml", "reports.json"])
def test_several_reports_in_a_file(tmp_path: Path, name: str) -> None:
    reports = [report("0.2.1"), report("0.2")]
    path = tmp_path / name
    separate = "".join(f"---\n{yaml.safe_dump(one_of_them)}" for one_of_them in reports)
    path.write_text(json.dumps(reports, default=str) if name.endswith("json") else separate)
    assert list(read_table(path)["tool_version"]) == ["0.2.1", "0.2"]
    reports[1]["version"] = "0.9"
    path.write_text(yaml.safe_dump(reports))
    with pytest.raises(FormatError, match=r"report 2: .*version is '0\.9'"):
        read_table(path)


def test_zero_lengths_of_a_converter_are_unknown(tmp_path: Path) -> None:
    value = report("0.1")
    value["metrics"]["requests"]["input_length"]["mean"] = 0.0
    assert unknown(one(written(tmp_path, value)), "input_tokens")


def test_a_rate_that_is_the_number_of_requests_is_no_rate(tmp_path: Path) -> None:
    value = report()
    value["scenario"]["load"]["native"].pop("config")
    value["scenario"]["load"]["standardized"]["rate_qps"] = 500
    value["results"]["request_performance"]["aggregate"]["throughput"]["request_rate"]["mean"] = 3.0
    row = one(written(tmp_path, value))
    assert unknown(row, "request_rate", "concurrency")
    assert "no rate" in row["note"]
    value["scenario"]["load"]["standardized"]["concurrency"] = 4
    assert one(written(tmp_path, value))["concurrency"] == 4


def test_inference_perfs_own_settings_tell_a_closed_loop(tmp_path: Path) -> None:
    value = report()
    native = value["scenario"]["load"]["native"]["config"]
    native["load"] = {"type": "concurrent", "stages": [{"concurrency_level": 1}] * 3 + [{"concurrency_level": 16}]}
    row = one(written(tmp_path, value))
    assert row["concurrency"] == 16
    assert unknown(row, "request_rate")


def test_a_closed_loop_of_0_1_is_that_of_its_stage(tmp_path: Path) -> None:
    value = report("0.1")
    levels = [{"concurrency_level": level} for level in (1, 4, 16)]
    value["scenario"]["load"] = {
        "name": "inference-perf",
        "metadata": {"stage": 1},
        "args": {"load": {"type": "concurrent", "stages": levels}},
    }
    row = one(written(tmp_path, value))
    assert row["concurrency"] == 4
    assert unknown(row, "duration_s")  # the converter writes how long was sent
    del value["scenario"]["load"]["metadata"]
    assert unknown(one(written(tmp_path, value)), "concurrency")


def test_aiperfs_itl_is_tpot(tmp_path: Path) -> None:
    value = report()
    value["scenario"]["load"]["standardized"]["tool"] = "aiperf"
    latency = value["results"]["request_performance"]["aggregate"]["latency"]
    del latency["time_per_output_token"]
    row = one(written(tmp_path, value))
    assert row["tpot_s"] == latency["inter_token_latency"]["mean"]
    assert unknown(row, "itl_s")


def test_guidellms_tpot_keeps_its_own_name(tmp_path: Path) -> None:
    value = report()
    value["scenario"]["load"]["standardized"]["tool"] = "guidellm"
    latency = value["results"]["request_performance"]["aggregate"]["latency"]
    latency["time_per_output_token"]["mean"], latency["inter_token_latency"]["mean"] = 0.048, 0.040
    row = one(written(tmp_path, value))
    assert (row["tpot_s"], row["llmd_report.tpot_s"]) == (0.040, 0.048)


def test_wrong_versions_and_aliases_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"version is '0\.9'"):
        read_table(written(tmp_path, report() | {"version": "0.9"}))
    text = (REPORTS / "0.2.1.yaml").read_text()
    path = tmp_path / "report.yaml"
    bomb = "\na0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for i in range(1, 9):
        bomb += f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]\n"
    path.write_text(text + bomb)
    with pytest.raises(FormatError, match="aliases"):
        read_table(path)
    path.write_text(text + "\n  broken: [\n")
    with pytest.raises(FormatError, match=r"line \d+: malformed YAML"):
        read_table(path)


def test_what_its_package_refuses_is_named_by_its_field(tmp_path: Path) -> None:
    pytest.importorskip("llmd_benchmark_report")
    value = report()
    value["results"]["request_performance"]["aggregate"]["latency"]["request_latency"]["units"] = "fortnights"
    with pytest.raises(FormatError, match=r"results.*request_latency.*units"):
        read_table(written(tmp_path, value))


def test_without_the_package_a_report_is_read_and_said_to_be_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llmd_benchmark_report", None)
    row = one(REPORTS / "0.2.1.yaml")
    assert row["ttft_s"] == 0.0368578234128654
    assert "not checked against its schema" in row["note"]


def summary(**changes: Any) -> dict[str, Any]:
    """MLCommons endpoints' result_summary.json, by hand from its documented keys."""

    def series(mean: float, total: float) -> dict[str, Any]:
        percentiles = {"50.0": mean, "90.0": mean * 1.2, "99.0": mean * 1.5, "99.9": mean * 2}
        estimates = {"50.0": mean * 1.1, "99.0": mean * 1.7}
        parts = {"percentiles": percentiles, "early_stopping_percentiles": estimates}
        return {"avg": mean, "median": mean, "total": total} | parts

    return {
        "version": "5.0.1",
        "git_sha": "abc",
        "test_started_at": 0,
        "n_samples_issued": 1000,
        "n_samples_completed": 1000,
        "n_samples_failed": 0,
        "duration_ns": 50_000_000_000,
        "state": "complete",
        "complete": True,
        "ttft": series(3.0e8, 3.0e11),
        "tpot": series(4.0e7, 4.0e10),
        "latency": series(1.54e9, 1.54e12),
        "output_sequence_lengths": series(32.0, 32_000.0),
        "qps": 20.0,
        "tps": 640.0,
        "run_config": {"load_pattern": {"type": "concurrency", "target_concurrency": 32}},
    } | changes


def test_mlcommons_endpoints_writes_nanoseconds(tmp_path: Path) -> None:
    row = one(written(tmp_path, summary(), "result_summary.json"))
    assert (row["concurrency"], row["n_requests"], row["duration_s"]) == (32, 1000, 50)
    assert (row["ttft_s"], row["tpot_s"], row["e2e_latency_s"]) == pytest.approx((0.3, 0.04, 1.54))
    assert row["ttft_p99_s"] == pytest.approx(0.45)  # the order statistic, not the early-stopping estimate
    assert (row["output_tokens"], row["throughput_tok_s"], row["request_throughput_req_s"]) == (32, 640, 20)
    assert "client's tokenizer" in row["note"]


def test_mlcommons_legacy_window_and_loads(tmp_path: Path) -> None:
    poisson = {"load_pattern": {"type": "poisson", "target_qps": 25.0}}
    legacy = summary(tps=700.0, qps=21.0, legacy_loadgen_window_duration_ns=45_714_285_714, run_config=poisson)
    row = one(written(tmp_path, legacy, "result_summary.json"))
    assert (row["request_rate"], row["throughput_tok_s"]) == (25, 640)
    assert "another window" in row["note"]
    burst = summary(run_config={"load_pattern": {"type": "max_throughput"}})
    row = one(written(tmp_path, burst, "result_summary.json"))
    assert row["concurrency"] == 1000
    assert "sent at once" in row["note"]
    row = one(written(tmp_path, summary(run_config=None), "result_summary.json"))
    assert unknown(row, "concurrency", "request_rate")


def test_mlcommons_runs_cut_short_or_failed(tmp_path: Path) -> None:
    row = one(written(tmp_path, summary(state="interrupted", complete=False), "result_summary.json"))
    assert row["status"] == "invalid"
    assert unknown(row, "ttft_s", "throughput_tok_s")
    row = one(written(tmp_path, summary(n_samples_failed=1000, ttft={}, tpot={}, latency={}), "result_summary.json"))
    assert (row["status"], row["n_failed"]) == ("crashed", 1000)
