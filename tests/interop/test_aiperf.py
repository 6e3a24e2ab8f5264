"""AIPerf's and genai-perf's results: values against the servers' truth, and each trap of the formats by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fewmark.core import FormatError
from fewmark.interop import read_table
from fewmark.interop.base import NotAResultError

RUNS = Path(__file__).parent / "fixtures" / "aiperf-0.13.0"
SWEEP = RUNS / "sweep"


def one(path: Path) -> pd.Series:
    frame = read_table(path)
    assert len(frame) == 1
    return frame.iloc[0]


def report(name: str = "closed-c4") -> dict[str, Any]:
    return json.loads((RUNS / name / "profile_export_aiperf.json").read_text())


def written(folder: Path, value: Any, name: str = "profile_export_aiperf.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(value))
    return path


def unknown(row: pd.Series, *names: str) -> bool:
    return all(name not in row or row[name] is None or row[name] != row[name] for name in names)


def both(name: str) -> tuple[pd.Series, pd.Series]:
    return one(RUNS / name / "profile_export_aiperf.json"), one(RUNS / name / "profile_export.jsonl")


def test_tokens_counted_anew_by_the_client_are_replaced_by_the_servers() -> None:
    for row in both("closed-c4"):
        assert (row["model"], row["tool_version"], row["concurrency"]) == ("tiny-llama", "0.13.0", 4)
        assert (row["input_tokens"], row["output_tokens"]) == (128, 32)  # the client says 127 and 36.25
        assert row["tpot_s"] == pytest.approx(0.10095, rel=0.01)  # the server's own; the client says 0.0894
        assert row["throughput_tok_s"] == pytest.approx(256 / row["duration_s"], rel=0.01)
        assert "by the server's count (32 each), not by the client's (36.25)" in row["note"]
    assert one(RUNS / "closed-c4" / "profile_export_aiperf.json")["aiperf.tpot_s"] == pytest.approx(0.0894, rel=1e-3)


def test_the_summary_and_the_requests_of_one_run_are_known_as_one() -> None:
    for name in ("closed-c4", "fail-third", "mock-no-stream", "sweep/concurrency_4"):
        summary, requests = both(name)
        assert summary["run_id"] == requests["run_id"]
        assert (summary["detail"], requests["detail"]) == ("summary", "requests")


def test_mock_truth_of_a_sweep_whose_load_lies_in_phases() -> None:
    summary, requests = both("sweep/concurrency_4")
    for row in (summary, requests):
        assert row["concurrency"] == 4
        assert row["tpot_s"] == pytest.approx(0.04003, rel=0.003)
        assert row["itl_s"] == pytest.approx(0.04003, rel=0.003)
        assert row["ttft_s"] == pytest.approx(0.3023, rel=0.05)


def test_zero_width_intervals_of_one_trial_are_no_certainty() -> None:
    table = read_table(SWEEP / "profile_export_aiperf_sweep.json")
    assert table["concurrency"].tolist() == [1, 4, 16]
    assert table["n_repeats"].tolist() == [1, 1, 1]
    assert not [name for name in table.columns if "ci_" in name or "std" in name or "_cv" in name]
    assert "does not mean certainty" in table.at[0, "note"]
    assert table.at[1, "run_id"] == one(SWEEP / "concurrency_4" / "profile_export_aiperf.json")["run_id"]


def test_the_confidence_aggregate_of_one_run_is_that_run() -> None:
    row, run = (
        one(SWEEP / "profile_export_aiperf_aggregate.json"),
        one(SWEEP / "concurrency_4" / "profile_export_aiperf.json"),
    )
    assert row["run_id"] == run["run_id"]
    for name in ("concurrency", "ttft_s", "tpot_s", "throughput_tok_s", "ttft_p99_s", "n_requests"):
        assert row[name] == pytest.approx(run[name])
    assert row["detail"] == "aggregate"


def test_an_aggregate_of_three_runs_says_so(tmp_path: Path) -> None:
    several = json.loads((SWEEP / "profile_export_aiperf_aggregate.json").read_text())
    several["metadata"] |= {"num_profile_runs": 4, "num_successful_runs": 3, "failed_runs": [{"label": "run_0004"}]}
    row = one(written(tmp_path, several))
    assert row["n_repeats"] == 3
    assert "means over 3 runs" in row["note"]
    assert "1 more runs failed" in row["note"]


def test_failed_requests_are_counted_and_left_out() -> None:
    for row in both("fail-third"):
        assert (row["status"], row["n_requests"], row["n_failed"]) == ("ok", 6, 3)
        assert row["tpot_s"] == pytest.approx(0.03489, rel=0.01)
        assert row["concurrency"] == 3


def test_without_streaming_no_times_of_tokens_are_known() -> None:
    for row in both("mock-no-stream"):
        assert unknown(row, "ttft_s", "tpot_s", "itl_s")
        assert (row["input_tokens"], row["output_tokens"]) == (136, 32)


def test_rates_are_made_by_the_time_from_first_send_to_last_answer() -> None:
    _, requests = both("mock-no-stream")
    assert requests["request_throughput_req_s"] == pytest.approx(8 / requests["duration_s"])
    assert "request_throughput_req_s 2.357 (the file says 2.273)" in requests["note"]


@pytest.mark.parametrize("change", [{"was_cancelled": True}, {"is_complete": False, "incomplete_reason": "time"}])
def test_cancelled_and_incomplete_runs_have_a_status_and_no_values(tmp_path: Path, change: dict[str, Any]) -> None:
    row = one(written(tmp_path, report() | change))
    assert (row["status"], row["concurrency"]) == ("invalid", 4)
    assert unknown(row, "ttft_s", "tpot_s", "throughput_tok_s", "output_tokens")
    shutil.copy(RUNS / "closed-c4" / "profile_export.jsonl", tmp_path)
    assert one(tmp_path / "profile_export.jsonl")["status"] == "invalid"


def test_a_run_without_a_success(tmp_path: Path) -> None:
    failed = {k: report()[k] for k in ("schema_version", "aiperf_version", "input_config", "benchmark_duration")}
    failed |= {
        "error_request_count": {"unit": "requests", "avg": 9.0},
        "completed_request_count": {"unit": "requests", "avg": 9},
    }
    failed["request_count"] = {"unit": "requests", "avg": 0.0}
    failed["request_latency"] = {"unit": "ms", "avg": 0.0}
    failed["error_summary"] = [{"error_details": {"message": "Request timed out"}, "count": 9}]
    row = one(written(tmp_path, failed))
    assert (row["status"], row["n_failed"]) == ("timeout", 9)
    assert unknown(row, "e2e_latency_s", "throughput_tok_s")


def test_requests_alone_count_what_was_in_flight(tmp_path: Path) -> None:
    shutil.copy(SWEEP / "concurrency_4" / "profile_export.jsonl", tmp_path)
    row = one(tmp_path / "profile_export.jsonl")
    assert row["concurrency"] == 4
    assert "at most 4 requests were in flight" in row["note"]
    assert row["tpot_s"] == pytest.approx(0.04, rel=0.005)


def test_warm_up_requests_are_left_out(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (RUNS / "closed-c4" / "profile_export.jsonl").read_text().splitlines()]
    warm = json.loads(json.dumps(lines[0]))
    warm["metadata"] |= {"benchmark_phase": "warmup", "phase_kind": "warmup"}
    warm["metrics"]["request_latency"]["value"] = 1e6
    path = tmp_path / "profile_export.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [warm, *lines]))
    assert one(path)["n_requests"] == 8
    path.write_text(json.dumps(warm) + "\n")
    with pytest.raises(NotAResultError, match="no request of a measured phase"):
        read_table(path)


def test_events_of_several_tokens_keep_their_own_name(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (SWEEP / "concurrency_4" / "profile_export.jsonl").read_text().splitlines()]
    for line in lines:
        line["metrics"]["inter_chunk_latency"]["value"] = [155.0] * 7
    path = tmp_path / "profile_export.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = one(path)
    assert unknown(row, "itl_s")
    assert row["aiperf.itl_s"] == pytest.approx(0.155)


def test_a_rate_with_a_cap_and_older_places_of_the_load(tmp_path: Path) -> None:
    phase = {"kind": "profiling", "type": "poisson", "rate": 5.0, "concurrency": 64, "requests": 100}
    row = one(written(tmp_path, report() | {"input_config": {"phases": [{"kind": "warmup", "concurrency": 9}, phase]}}))
    assert (row["request_rate"], row["workload.max_concurrency"]) == (5, 8)  # of the 8 that were sent
    old = {"endpoint": {"model_names": ["org/m"], "streaming": True}, "loadgen": {"concurrency": 4, "request_count": 8}}
    row = one(written(tmp_path, report() | {"schema_version": "1.0", "input_config": old}))
    assert (row["model"], row["concurrency"]) == ("org/m", 4)
    two = [{"kind": "profiling", "concurrency": 2}, {"kind": "profiling", "concurrency": 8}]
    row = one(written(tmp_path, report() | {"input_config": {"phases": two}}))
    assert unknown(row, "concurrency", "request_rate")
    assert row["detail"] == "mixed"


def test_without_the_servers_count_the_clients_is_noted(tmp_path: Path) -> None:
    old = {key: value for key, value in report().items() if "usage" not in key}
    row = one(written(tmp_path, old | {"schema_version": "1.0"}))
    assert row["output_tokens"] == 36.25
    assert row["tpot_s"] == pytest.approx(0.0894, rel=1e-3)
    assert "counted by the client" in row["note"]


def test_genai_perf_writes_nanoseconds_and_numbers_as_text(tmp_path: Path) -> None:
    """By hand, after the documented keys of the first version with a JSON file."""
    value = {
        "request_throughput": {"unit": "request per sec", "avg": "12.2"},
        "request_latency": {"unit": "ns", "avg": "81694262.3", "p99": "101977365.6", "p50": "81988918.0"},
        "time_to_first_token": {"unit": "ns", "avg": "20757771.2", "p99": "29047316.5"},
        "inter_token_latency": {"unit": "ns", "avg": "3860101.1", "p99": "5263723.2"},
        "output_token_throughput": {"unit": "tokens per sec", "avg": "217.1"},
        "num_output_token": {"unit": "tokens", "avg": "17.8"},
        "num_input_token": {"unit": "tokens", "avg": "550.05"},
        "input_config": {
            "model": "gpt2_vllm",
            "backend": "vllm",
            "service_kind": "triton",
            "concurrency": 1,
            "request_rate": None,
        },
    }
    row = one(written(tmp_path, value, "profile_export_genai_perf.json"))
    assert (row["tool"], row["engine"], row["model"], row["concurrency"]) == ("genai-perf", "vllm", "gpt2_vllm", 1)
    assert (row["e2e_latency_s"], row["ttft_s"], row["tpot_s"]) == pytest.approx(
        (0.0816942623, 0.0207577712, 0.0038601011)
    )
    assert (row["output_tokens"], row["throughput_tok_s"]) == (17.8, 217.1)


def test_native_report_2_0(tmp_path: Path) -> None:
    """By hand, after the documented keys."""

    def distribution(unit: str, mean: float, n: int = 8) -> dict[str, Any]:
        stats = {"count": n, "avg": mean, "percentiles": {"p50": mean, "p99": mean * 1.5}}
        return {"type": "distribution", "unit": unit, "series": [{"labels": {}, "stats": stats}]}

    value = {
        "schema_version": "2.0",
        "aiperf_version": "1.0.0",
        "run": {"mode": "single", "model": "org/m-8b"},
        "summary": {"was_cancelled": False},
        "metrics": {
            "request_latency": distribution("ms", 1540.0),
            "time_to_first_token": distribution("ms", 300.0),
            "inter_token_latency": distribution("ms", 40.0),
            "output_sequence_length": distribution("tokens", 32.0),
            "input_sequence_length": distribution("tokens", 128.0),
            "request_count": {
                "type": "counter",
                "unit": "requests",
                "series": [{"labels": None, "stats": {"total": 8}}],
            },
            "output_token_throughput": {
                "type": "scalar",
                "unit": "tokens/sec",
                "series": [{"labels": {}, "value": 81.0}],
            },
        },
    }
    row = one(written(tmp_path, value))
    assert (row["model"], row["n_requests"], row["output_tokens"]) == ("org/m-8b", 8, 32)
    assert (row["e2e_latency_s"], row["ttft_s"], row["tpot_s"], row["throughput_tok_s"]) == (1.54, 0.3, 0.04, 81)
    assert row["ttft_p99_s"] == pytest.approx(0.45)
    gpu = [{"labels": {"gpu": str(i)}, "stats": {"value": 90.0}} for i in range(2)]
    value["metrics"]["goodput"] = {"type": "scalar", "unit": "requests/sec", "series": gpu}  # of parts, and no whole
    assert unknown(one(written(tmp_path, value)), "goodput_req_s")
    value["summary"] = {"was_cancelled": True}
    assert one(written(tmp_path, value))["status"] == "invalid"


def test_wrong_versions_cut_lines_and_alien_lines_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"schema_version 7.0 is unknown"):
        read_table(written(tmp_path, report() | {"schema_version": "7.0"}))
    text = (RUNS / "closed-c4" / "profile_export.jsonl").read_text()
    path = tmp_path / "profile_export.jsonl"
    path.write_text(text[:-300])
    with pytest.raises(FormatError, match="line 8: malformed JSON"):
        read_table(path)
    path.write_text(text + '{"a": 1}\n')
    with pytest.raises(FormatError, match="line 9: AIPerf writes"):
        read_table(path)


def test_secrets_of_the_command_line_are_not_carried(tmp_path: Path) -> None:
    secret = report()
    secret["run_info"]["cli_command"] += " --header 'Authorization: Bearer sk-secret'"
    assert "sk-secret" not in one(written(tmp_path, secret)).to_json()


@pytest.mark.parametrize(
    "weird",
    [{"phases": True}, {"phases": [3]}, {"phases": [{"concurrency": 10**400}]}, {"models": {"items": "x"}}, [], None],
)
def test_settings_of_another_kind_leave_the_load_unknown(tmp_path: Path, weird: Any) -> None:
    row = one(written(tmp_path, report() | {"input_config": weird, "error_summary": 3}))
    assert unknown(row, "concurrency", "request_rate")
    assert row["tpot_s"] == pytest.approx(0.10098, rel=1e-3)


def test_gaps_that_are_none_are_left_out(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (SWEEP / "concurrency_4" / "profile_export.jsonl").read_text().splitlines()]
    for line, gaps in zip(lines, ["x", [1e308, 10**400, None], [[1.0]], {"a": 1}], strict=False):
        line["metrics"]["inter_chunk_latency"]["value"] = gaps
    path = tmp_path / "profile_export.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = one(path)
    assert row["aiperf.itl_s"] == pytest.approx(0.04, rel=0.01)
    lines[0]["metrics"] = "none"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(FormatError, match="line 1: a request that succeeded has a request_latency"):
        read_table(path)


def test_lines_of_a_log_before_it_and_slices_beside_it(tmp_path: Path) -> None:
    path = written(tmp_path, report())
    path.write_text("starting services\nprofiling done\n" + path.read_text())
    assert one(path)["concurrency"] == 4
    with pytest.raises(NotAResultError, match="slice by slice"):
        read_table(written(tmp_path, {"timeslices": [{"request_latency": {"unit": "ms", "avg": 1.0}}]}, "slices.json"))


def test_failed_runs_are_told_apart_and_known_again(tmp_path: Path) -> None:
    lines = (RUNS / "fail-third" / "profile_export.jsonl").read_text().splitlines()
    (tmp_path / "profile_export.jsonl").write_text(
        "\n".join(line for line in lines if json.loads(line).get("error")) + "\n"
    )
    names = set()
    for benchmark, concurrency in (("a", 2), ("a", 3), ("b", 2)):
        failed = {k: report()[k] for k in ("schema_version", "aiperf_version")} | {"benchmark_id": benchmark}
        failed |= {
            "error_request_count": {"unit": "requests", "avg": 3},
            "request_count": {"unit": "requests", "avg": 0},
        }
        failed |= {
            "request_latency": {"unit": "ms", "avg": 0},
            "input_config": {"loadgen": {"concurrency": concurrency}},
        }
        summary = one(written(tmp_path, failed))
        names.add(summary["run_id"])
        assert summary["run_id"] == one(tmp_path / "profile_export.jsonl")["run_id"]
    assert len(names) == 3


def test_a_goodput_of_zero_is_a_measurement(tmp_path: Path) -> None:
    assert one(written(tmp_path, report() | {"goodput": {"unit": "requests/sec", "avg": 0.0}}))["goodput_req_s"] == 0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_other_encodings_and_line_ends(tmp_path: Path, encoding: str) -> None:
    text = (RUNS / "closed-c4" / "profile_export.jsonl").read_text()
    path = tmp_path / "profile_export.jsonl"
    path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert one(path)["n_requests"] == 8


def test_requests_without_times_have_no_rates(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (RUNS / "closed-c4" / "profile_export.jsonl").read_text().splitlines()]
    for line in lines:
        del line["metadata"]["request_end_ns"]
        line["metrics"]["time_to_first_token"]["unit"] = ["ms"]
    path = tmp_path / "profile_export.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = one(path)
    assert unknown(row, "throughput_tok_s", "duration_s", "ttft_s", "concurrency")
    assert row["e2e_latency_s"] == pytest.approx(4.2173, rel=1e-4)


def test_the_report_of_a_warm_up_is_told_by_its_place() -> None:
    folder = RUNS / "warm-up"
    with pytest.raises(NotAResultError, match="warm-up"):
        read_table(folder / "phases" / "warmup" / "profile_export_aiperf.json")
    whole = one(folder / "profile_export_aiperf.json")
    phase = one(folder / "phases" / "profiling" / "profile_export_aiperf.json")
    assert (whole["n_requests"], whole["concurrency"], whole["run_id"]) == (8, 2, phase["run_id"])
    with pytest.raises(NotAResultError, match="phases"):
        read_table(folder / "phase_manifest.json")


def test_one_of_several_profiled_phases_has_the_load_of_its_own(tmp_path: Path) -> None:
    value = json.loads((RUNS / "warm-up" / "profile_export_aiperf.json").read_text())
    value["input_config"]["phases"] += [{"name": "spike", "kind": "profiling", "type": "concurrency", "concurrency": 8}]
    (tmp_path / "phases" / "spike").mkdir(parents=True)
    assert one(written(tmp_path / "phases" / "spike", value))["concurrency"] == 8
    assert one(written(tmp_path, value))["detail"] == "mixed"


def test_telemetry_of_gpus_in_a_report_names_them(tmp_path: Path) -> None:  # hand-made from the tool's schema
    value = json.loads((RUNS / "warm-up" / "profile_export_aiperf.json").read_text())
    assert value["telemetry_data"]["summary"]["endpoints_configured"] == []  # so it is where there is no GPU
    gpu = {"gpu_index": 0, "gpu_name": "NVIDIA H100 80GB HBM3", "metrics": {}}
    value["telemetry_data"]["endpoints"] = {"localhost:9400": {"gpus": {"gpu_0": gpu, "gpu_1": gpu | {"gpu_index": 1}}}}
    row = one(written(tmp_path, value))
    assert (row["accelerator"], row["n_requests"]) == ("NVIDIA H100 80GB HBM3", 8)


def test_the_goodput_of_the_summary_stays_with_the_requests(tmp_path: Path) -> None:
    shutil.copytree(RUNS / "closed-c4", tmp_path / "run")
    value = report() | {"goodput": {"unit": "requests/sec", "avg": 0.0}}
    written(tmp_path / "run", value)
    assert one(tmp_path / "run" / "profile_export.jsonl")["goodput_req_s"] == 0
