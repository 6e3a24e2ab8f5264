"""vLLM's benchmark results: values against what the server counted, and each trap of the format by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fewmark.core import FormatError
from fewmark.interop import read_table
from fewmark.interop.base import NotAResultError

FIXTURES = Path(__file__).parent / "fixtures"
RUNS = FIXTURES / "vllm-bench-0.32.0"


def one(path: Path) -> pd.Series:
    frame = read_table(path)
    assert len(frame) == 1
    return frame.iloc[0]


def result(**changes: Any) -> dict[str, Any]:
    return json.loads((RUNS / "closed-c4-plain.json").read_text()) | changes


def written(folder: Path, value: Any, name: str = "result.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def unknown(row: pd.Series, *names: str) -> bool:
    return all(name not in row or row[name] is None or row[name] != row[name] for name in names)


@pytest.mark.parametrize(
    ("name", "concurrency", "n", "server_ttft_s", "server_tpot_s"),
    [("closed-c1", 1, 4, 0.9886, 0.29982), ("closed-c4", 4, 8, 2.740, 0.35344), ("fail-third", 3, 6, 1.1995, 0.36707)],
)
def test_detailed_agrees_with_the_server(
    name: str, concurrency: int, n: int, server_ttft_s: float, server_tpot_s: float
) -> None:
    row = one(RUNS / f"{name}.json")
    assert (row["model"], row["engine"]) == ("tiny-llama", None)
    assert (row["concurrency"], row["input_tokens"], row["output_tokens"], row["n_requests"]) == (
        concurrency,
        128,
        32,
        n,
    )
    assert row["tpot_s"] == pytest.approx(server_tpot_s, rel=0.01)
    assert server_ttft_s < row["ttft_s"] < server_ttft_s * 1.12  # the client's way to the server on top
    assert row["throughput_tok_s"] == pytest.approx(32 * n / row["duration_s"])
    assert row["total_throughput_tok_s"] == pytest.approx(160 * n / row["duration_s"])
    assert row["detail"] == "requests"
    assert "as the file says" in row["note"]


def test_plain_keeps_its_latencies_and_they_become_e2e() -> None:
    row = one(RUNS / "closed-c4-plain.json")
    assert row["e2e_latency_s"] == pytest.approx(8.60225, rel=1e-4)
    assert row["itl_s"] == pytest.approx(0.2291567, rel=1e-5)
    assert row["ttft_p99_s"] == pytest.approx(1.9281687)
    assert row["detail"] == "summary"


def test_zeros_of_one_token_answers_are_unknown() -> None:
    row = one(RUNS / "out-1.json")
    assert row["output_tokens"] == 1
    assert row["ttft_s"] == pytest.approx(2.947093, rel=1e-5)
    assert unknown(row, "tpot_s", "itl_s", "tpot_p99_s", "itl_p50_s")


def test_failed_requests_are_counted_and_left_out() -> None:
    row = one(RUNS / "fail-third.json")
    assert (row["status"], row["n_requests"], row["n_failed"]) == ("ok", 6, 3)
    assert row["input_tokens"] == 128  # not the client's own count of 127 for those that failed
    assert "3 of 9 requests failed" in row["note"]


def test_itl_of_events_is_not_an_inter_token_latency() -> None:
    row = one(RUNS / "mock-4-tokens-an-event.json")
    assert unknown(row, "itl_s", "itl_p50_s")
    assert row["vllm.itl_s"] == pytest.approx(0.1581281, rel=1e-5)
    assert row["tpot_s"] == pytest.approx(0.0358, rel=0.01)  # as sent


def test_itl_of_events_is_told_from_a_plain_file_too(tmp_path: Path) -> None:
    full = json.loads((RUNS / "mock-4-tokens-an-event.json").read_text())
    plain = {key: value for key, value in full.items() if not isinstance(value, list)}
    row = one(written(tmp_path, plain))
    assert unknown(row, "itl_s")
    assert row["vllm.itl_s"] == pytest.approx(0.1581281, rel=1e-5)


def test_max_concurrent_requests_is_not_the_concurrency() -> None:
    assert one(RUNS / "mock-4-tokens-an-event.json")["concurrency"] == 4  # the file's max_concurrent_requests says 8


def test_all_at_once_without_a_cap() -> None:
    row = one(RUNS / "inf-no-cap.json")
    assert row["concurrency"] == 8
    assert unknown(row, "request_rate")
    assert "sent at once" in row["note"]


def test_a_ramp_says_inf_and_has_no_one_load(tmp_path: Path) -> None:
    ramp = {"ramp_up_strategy": "linear", "ramp_up_start_rps": 1, "ramp_up_end_rps": 4, "request_rate": "inf"}
    row = one(written(tmp_path, result(**ramp)))
    assert unknown(row, "request_rate", "concurrency", "batch_size")
    assert "ramps up from 1 to 4 req/s" in row["note"]


def test_a_rate_with_a_cap_is_an_open_loop(tmp_path: Path) -> None:
    row = one(written(tmp_path, result(request_rate=2.5)))
    assert row["request_rate"] == 2.5
    assert unknown(row, "concurrency")
    assert row["workload.max_concurrency"] == 4


def test_a_cap_above_the_number_of_requests_is_no_load(tmp_path: Path) -> None:
    assert one(written(tmp_path, result(max_concurrency=64)))["concurrency"] == 8


def test_probe_requests_are_noted() -> None:
    assert "3 probe requests" in one(RUNS / "probe.json")["note"]


def test_all_failed_run_has_a_status_and_no_values(tmp_path: Path) -> None:
    zeros = {key: 0.0 for key in result() if key.startswith(("mean_", "median_", "std_", "p99_"))}
    nothing = {
        "completed": 0,
        "failed": 8,
        "total_input_tokens": 0,
        "total_output_tokens": 0,
        "request_throughput": 0.0,
    }
    rates = {
        "output_throughput": 0.0,
        "total_token_throughput": 0.0,
        "latencies": [0.0] * 8,
        "errors": ["CUDA out of memory"],
    }
    row = one(written(tmp_path, result(**zeros, **nothing, **rates)))
    assert (row["status"], row["n_failed"], row["concurrency"]) == ("out_of_memory", 8, 4)
    assert unknown(row, "ttft_s", "tpot_s", "e2e_latency_s", "throughput_tok_s", "total_throughput_tok_s", "statistic")
    row = one(written(tmp_path, result(**zeros, **nothing, **(rates | {"errors": []}))))
    assert row["status"] == "crashed"


def test_requests_without_a_token_that_count_as_completed() -> None:
    row = one(FIXTURES / "vllm-bench-0.6" / "serve.json")
    assert (row["n_requests"], row["n_failed"], row["request_rate"], row["engine"]) == (20, 12, 16, "vllm")
    file = json.loads((FIXTURES / "vllm-bench-0.6" / "serve.json").read_text())
    real = [ttft for ttft in file["ttfts"] if ttft > 0]
    assert row["ttft_s"] == pytest.approx(sum(real) / 20)
    assert row["ttft_s"] > file["mean_ttft_ms"] / 1e3 * 1.5  # zeros were meaned in
    assert f"(the file says {file['mean_ttft_ms'] / 1e3:.4g})" in row["note"]


def test_appended_objects_of_one_file(tmp_path: Path) -> None:
    text = (
        json.dumps(result())
        + json.dumps(result(max_concurrency=2, duration=30.0))
        + "\n"
        + json.dumps(result(max_concurrency=1))
    )
    frame = read_table(written(tmp_path, text))
    assert frame["concurrency"].tolist() == [4, 2, 1]
    assert one(RUNS / "append.jsonl")["output_tokens"] == 4


def test_sweep_folder_files_are_the_same_runs() -> None:
    level = RUNS / "sweep" / "BENCH--max_concurrency=4-num_prompts=8"
    runs = {one(level / f"run={i}.json")["run_id"] for i in range(2)}
    assert set(read_table(level / "summary.json")["run_id"]) == runs
    table = read_table(RUNS / "sweep" / "summary.csv")
    assert (len(table), table["run_id"].nunique()) == (4, 4)
    assert runs < set(table["run_id"])
    assert table["concurrency"].tolist() == [1, 1, 4, 4]
    assert table["tpot_s"].iloc[1:].to_numpy() == pytest.approx([0.04] * 3, rel=0.005)  # the mock's truth


def test_sweep_failures_are_statuses(tmp_path: Path) -> None:
    failure = {
        "run_number": 1,
        "error_type": "RuntimeError",
        "error": "torch.OutOfMemoryError: CUDA out of memory",
        "serve_overrides": {"max_num_seqs": 512},
        "bench_overrides": {"max_concurrency": 64, "num_prompts": 128, "random_input_len": 128},
    }
    row = one(written(tmp_path, failure, "run=1.failure.json"))
    assert (row["status"], row["concurrency"], row["option.max_num_seqs"]) == ("out_of_memory", 64, 512)
    assert unknown(row, "throughput_tok_s", "ttft_s")


def test_warm_up_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(NotAResultError, match="warm-up"):
        read_table(written(tmp_path, result(run_number=-1), "warmup.json"))
    frame = read_table(written(tmp_path, [result(run_number=-1), result(run_number=0)], "summary.json"))
    assert len(frame) == 1


def test_metadata_and_overrides_become_the_deployment(tmp_path: Path) -> None:
    given = {"tp": "4", "gpu": "H100", "max_num_seqs": 256, "api_key": "sk-1", "hf_token": "x", "team": "a"}
    row = one(written(tmp_path, result(**given)))
    assert (row["tensor_parallel_size"], row["accelerator"], row["option.max_num_seqs"]) == (4, "H100", 256)
    assert not any("key" in name or "hf_token" in name for name in row.index)


def test_steady_state_block_of_the_rust_client_stands_apart(tmp_path: Path) -> None:
    window = {"start_s": 2.0, "end_s": 12.0, "duration_s": 10.0, "target_concurrency": 4, "warning": "short"}
    block = {
        "window": window,
        "output_throughput": 16.0,
        "mean_ttft_ms": 1500.0,
        "median_ttft_ms": 1400.0,
        "mean_tpot_ms": 0.0,
    }
    row = one(written(tmp_path, result(steady_state=block, input_throughput=59.0)))
    assert row["vllm.steady_state_throughput_tok_s"] == 16
    assert row["vllm.steady_state_ttft_s"] == 1.5
    assert unknown(row, "vllm.steady_state_tpot_s")
    assert row["throughput_tok_s"] == pytest.approx(14.850336513811197)
    assert one(written(tmp_path, result(steady_state=None)))["status"] == "ok"


@pytest.mark.parametrize("key", ["request_goodput", "request_goodput:"])
def test_goodput_under_both_spellings(tmp_path: Path, key: str) -> None:
    given = {k: v for k, v in result().items() if k != "request_goodput"} | {key: 0.4}
    assert one(written(tmp_path, given))["goodput_req_s"] == 0.4


def test_throughput_counts_all_tokens() -> None:
    row = one(RUNS / "throughput.json")
    assert (row["engine"], row["batch_size"]) == ("vllm", 8)
    assert row["total_throughput_tok_s"] == pytest.approx(335.61548968626845)
    assert unknown(row, "throughput_tok_s", "output_tokens")  # 257 + 64 tokens by the log; the file cannot tell
    row = one(FIXTURES / "vllm-bench-0.6" / "throughput.json")
    assert (row["input_tokens"], row["output_tokens"], row["batch_size"]) == (128, 2048, 128)
    assert row["throughput_tok_s"] == pytest.approx(128 * 2048 / row["e2e_latency_s"])


def test_latency_says_no_load() -> None:
    row = one(RUNS / "latency.json")
    assert (row["n_repeats"], row["statistic"]) == (4, "median")
    assert row["e2e_latency_s"] == pytest.approx(0.28229998)
    assert unknown(row, "batch_size", "concurrency", "input_tokens", "throughput_tok_s")


def test_startup(tmp_path: Path) -> None:
    given = {"avg_cold_startup_time": 31.5, "cold_startup_times": [30.0, 31.0, 33.5], "avg_warm_startup_time": 12.0}
    row = one(written(tmp_path, given))
    assert row["vllm.cold_startup_times_s"] == 31
    assert row["vllm.avg_warm_startup_time_s"] == 12
    assert unknown(row, "e2e_latency_s", "throughput_tok_s")


def test_numbers_as_text_and_nan_are_read_or_unknown(tmp_path: Path) -> None:
    text = json.dumps(result(completed="8", mean_ttft_ms="1612.9674")).replace(
        '"p99_ttft_ms": ', '"p99_ttft_ms": NaN, "x": '
    )
    row = one(written(tmp_path, text))
    assert row["n_requests"] == 8
    assert row["ttft_s"] == pytest.approx(1.6129674)
    assert unknown(row, "ttft_p99_s")


def test_a_cut_file_is_one_clear_error(tmp_path: Path) -> None:
    text = (RUNS / "closed-c4.json").read_text()
    with pytest.raises(FormatError, match="malformed JSON") as caught:
        read_table(written(tmp_path, text[: len(text) // 2]))
    assert "breaks off" in str(caught.value)


def test_no_value_is_zero_or_infinite() -> None:
    for path in RUNS.rglob("*.json"):
        numbers = read_table(path).select_dtypes("number").drop(columns=["n_failed"], errors="ignore")
        for value in numbers.to_numpy().ravel():
            assert math.isnan(value) or 0 < value < 1e9


def test_keys_in_the_order_of_the_alphabet(tmp_path: Path) -> None:
    detailed = json.loads((RUNS / "closed-c4.json").read_text())
    detailed["errors"] = detailed["errors"] + []
    detailed["generated_texts"] = ["x" * 20_000] * 8  # before any rate, beyond the first kilobytes
    row = one(written(tmp_path, json.dumps(detailed, sort_keys=True)))
    assert (row["concurrency"], row["detail"]) == (4, "requests")


def test_metadata_that_names_the_run_is_no_option(tmp_path: Path) -> None:
    row = one(written(tmp_path, result(git_commit="abc", job_id="7", enable_prefix_caching="true")))
    assert (row["vllm.git_commit"], row["vllm.job_id"]) == ("abc", "7")
    assert [name for name in row.index if name.startswith("option.")] == ["option.enable_prefix_caching"]


def test_versions_before_0_6_have_no_total(tmp_path: Path) -> None:
    old = {key: value for key, value in result().items() if key != "total_token_throughput"} | {
        "input_throughput": 59.4
    }
    assert one(written(tmp_path, old))["total_throughput_tok_s"] == pytest.approx(74.25168, rel=1e-6)


def test_waits_for_a_probes_connection_are_no_latency_of_the_server() -> None:
    row = one(RUNS / "mock-probes.json")  # first tokens came after 0.2047 s
    assert unknown(row, "ttft_s", "ttft_p99_s", "e2e_latency_s")
    assert row["vllm.ttft_s"] == pytest.approx(0.2985, rel=1e-3)
    assert row["tpot_s"] == pytest.approx(0.02, rel=0.01)
    assert "probes take connections of the load's" in row["note"]


def test_a_rate_that_was_never_reached_is_said() -> None:
    row = one(RUNS / "mock-capped-rate.json")  # 20 req/s asked, 2 a second served, 4 in flight at the server throughout
    assert (row["request_rate"], row["workload.max_concurrency"]) == (20, 4)
    assert "1.97 of 20 req/s finished, with 3.43 in flight on the average: the cap of 4 was the load" in row["note"]


def test_a_rate_that_was_kept_up_with_has_no_such_note(tmp_path: Path) -> None:
    value = json.loads((RUNS / "mock-capped-rate.json").read_text()) | {"request_rate": 2.0}
    row = one(written(tmp_path, value))
    assert row["request_rate"] == 2 and "kept up" not in row["note"]
