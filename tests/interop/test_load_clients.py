"""evalscope, genai-bench, llmeter, llmperf: values against what the server counted, and each trap by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fewmark.core import FormatError
from fewmark.interop import read_table
from fewmark.interop.base import NotAResultError

FIXTURES = Path(__file__).parent / "fixtures"
EVALSCOPE = FIXTURES / "evalscope-1.14.1"
GENAI = FIXTURES / "genai-bench-0.0.5"
LLMETER = FIXTURES / "llmeter-0.2.0"
LLMPERF = FIXTURES / "llmperf"


def one(path: Path) -> pd.Series:
    frame = read_table(path)
    assert len(frame) == 1
    return frame.iloc[0]


def written(folder: Path, value: Any, name: str = "result.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def unknown(row: pd.Series, *names: str) -> bool:
    return all(name not in row or row[name] is None or row[name] != row[name] for name in names)


def loaded(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


# evalscope


@pytest.mark.parametrize(("concurrency", "n", "tok_s"), [(1, 6, 20.7), (4, 16, 82.6), (16, 48, 328.0)])
def test_evalscope_agrees_with_the_clocked_server(concurrency: int, n: int, tok_s: float) -> None:
    folder = EVALSCOPE / "mock-closed-c1-c4-c16" / f"parallel_{concurrency}_number_{n}"
    row = one(folder / "benchmark_summary.json")
    assert (row["concurrency"], row["n_requests"], row["n_failed"]) == (concurrency, n, 0)
    assert row["ttft_s"] == pytest.approx(0.3008, rel=0.06)  # as sent; the client's way on top
    assert row["tpot_s"] == pytest.approx(0.040, rel=0.002)
    assert row["itl_s"] == pytest.approx(0.040, rel=0.002)
    assert row["throughput_tok_s"] == pytest.approx(tok_s, rel=0.001)
    assert row["e2e_latency_s"] == pytest.approx(row["ttft_s"] + 31 * row["tpot_s"], rel=0.001)
    assert row["ttft_p99_s"] < 0.33
    assert row["model"] == "tiny-llama"


def test_evalscope_streaming_off_has_no_first_token() -> None:
    row = one(EVALSCOPE / "mock-no-stream" / "parallel_4_number_8" / "benchmark_summary.json")
    assert row["e2e_latency_s"] == pytest.approx(1.566, abs=1e-4)
    assert unknown(row, "ttft_s", "tpot_s", "itl_s", "ttft_p50_s", "ttft_p99_s", "tpot_p99_s", "itl_p99_s")
    assert "not streamed" in row["note"]


def test_evalscope_data_base_is_the_same_run() -> None:
    for folder in ("mock-no-stream/parallel_4_number_8", "mock-closed-c1-c4-c16/parallel_1_number_6"):
        summary = one(EVALSCOPE / folder / "benchmark_summary.json")
        data_base = one(EVALSCOPE / folder / "benchmark_data.db")
        assert summary["run_id"] == data_base["run_id"]
        assert summary["e2e_latency_s"] == data_base["e2e_latency_s"]
        assert data_base["detail"] == "requests"


def test_evalscope_data_base_alone_knows_what_was_streamed(tmp_path: Path) -> None:
    folder = tmp_path / "parallel_4_number_8"
    folder.mkdir()
    shutil.copy(EVALSCOPE / "mock-no-stream" / "parallel_4_number_8" / "benchmark_data.db", folder)
    row = one(folder / "benchmark_data.db")
    assert (row["concurrency"], row["output_tokens"], row["n_requests"]) == (4, 32, 8)
    assert unknown(row, "ttft_s", "tpot_s")


def test_evalscope_connection_test_is_one_request_more() -> None:
    row = one(EVALSCOPE / "mock-closed-c1-c4-c16" / "parallel_4_number_16" / "benchmark_summary.json")
    assert row["n_requests"] == 16  # the server saw 17
    assert "connection test" in row["note"]


def test_evalscope_rate_and_concurrency_of_minus_one(tmp_path: Path) -> None:
    data = loaded(EVALSCOPE / "mock-closed-c1-c4-c16" / "parallel_4_number_16" / "benchmark_summary.json")
    row = one(written(tmp_path, {**data, "Concurrency": -1, "Request Rate (req/s)": 4.0}))
    assert row["request_rate"] == 4
    assert unknown(row, "concurrency", "batch_size")
    row = one(written(tmp_path, data))
    assert row["concurrency"] == 4
    assert unknown(row, "request_rate")


def test_evalscope_zero_tpot_of_one_token_is_unknown(tmp_path: Path) -> None:
    data = loaded(EVALSCOPE / "mock-closed-c1-c4-c16" / "parallel_4_number_16" / "benchmark_summary.json")
    zeros = {"Avg TPOT (ms)": 0.0, "Avg ITL (ms)": 0.0, "Avg Output Tokens": 1.0, "Avg Latency (s)": 0.308}
    row = one(written(tmp_path, {**data, **zeros}))
    assert unknown(row, "tpot_s", "itl_s")
    assert row["ttft_s"] == pytest.approx(0.30797)  # of one token the whole answer is the first token


def test_evalscope_bundled_events_are_no_speculation(tmp_path: Path) -> None:
    data = loaded(EVALSCOPE / "mock-closed-c1-c4-c16" / "parallel_4_number_16" / "benchmark_summary.json")
    bundle = {"Avg ITL (ms)": 160.0, "Avg TPOT (ms)": 36.0, "Avg Decoded Tok/Iter": 4.43, "Spec. Accept Rate": 0.774}
    row = one(written(tmp_path, {**data, **bundle}))
    assert unknown(row, "itl_s")
    assert row["evalscope.itl_s"] == pytest.approx(0.16)
    assert row["tpot_s"] == pytest.approx(0.036)


def test_evalscope_first_token_times_that_are_zero_for_a_quarter(tmp_path: Path) -> None:
    source = EVALSCOPE / "mock-closed-c1-c4-c16" / "parallel_4_number_16"
    written(tmp_path, loaded(source / "benchmark_summary.json"), "benchmark_summary.json")
    table = json.loads((source / "benchmark_percentile.json").read_text())
    for line in table:
        if line["Percentiles"] in ("min", "1%", "5%", "10%", "25%"):
            line["TTFT (ms)"] = 0.0
    written(tmp_path, table, "benchmark_percentile.json")
    row = one(tmp_path / "benchmark_summary.json")
    assert unknown(row, "ttft_s", "ttft_p50_s", "ttft_p99_s")
    assert row["evalscope.ttft_s"] == pytest.approx(0.30797)
    assert row["e2e_latency_p50_s"] == pytest.approx(1.5494, rel=0.001)


def test_evalscope_keys_of_before_in_seconds(tmp_path: Path) -> None:  # hand-made from the tool's documentation
    data = {
        "Time taken for tests (s)": 5.7095,
        "Number of concurrency": 50,
        "Total requests": 500,
        "Succeed requests": 500,
        "Failed requests": 0,
        "Output token throughput (tok/s)": 8757.5,
        "Total token throughput (tok/s)": 17507.8,
        "Request throughput (req/s)": 87.575,
        "Average latency (s)": 0.5539,
        "Average time to first token (s)": 0.0641,
        "Average time per output token (s)": 0.0049,
        "Average inter-token latency (s)": 0.0049,
        "Average input tokens per request": 99.918,
        "Average output tokens per request": 100.0,
    }
    row = one(written(tmp_path, data))
    assert (row["concurrency"], row["n_requests"], row["throughput_tok_s"]) == (50, 500, 8757.5)
    assert (row["ttft_s"], row["tpot_s"], row["total_throughput_tok_s"]) == (0.0641, 0.0049, 17507.8)


def test_evalscope_packages_are_events(tmp_path: Path) -> None:  # hand-made
    data = {
        "Time taken for tests (s)": 78.9037,
        "Number of concurrency": 10,
        "Total requests": 20,
        "Succeed requests": 20,
        "Failed requests": 0,
        "Output token throughput (tok/s)": 259.5567,
        "Total token throughput (tok/s)": 536.8313,
        "Average latency (s)": 39.4105,
        "Average time to first token (s)": 1.1695,
        "Average time per output token (s)": 0.0374,
        "Average input tokens per request": 1093.9,
        "Average output tokens per request": 1024.0,
        "Average package latency (s)": 0.0374,
        "Average package per request": 1021.95,
    }
    row = one(written(tmp_path, data))
    assert (row["itl_s"], row["tpot_s"]) == (0.0374, 0.0374)
    short = {"Average output tokens per request": 16.0, "Average package per request": 15.0}  # as 0.16.3 counts them
    assert one(written(tmp_path, data | short))["itl_s"] == 0.0374
    row = one(written(tmp_path, {**data, "Average package latency (s)": 0.1496, "Average package per request": 256.0}))
    assert unknown(row, "itl_s")
    assert row["evalscope.itl_s"] == 0.1496


def test_evalscope_more_concurrency_than_requests(tmp_path: Path) -> None:
    data = loaded(EVALSCOPE / "mock-closed-c1-c4-c16" / "parallel_4_number_16" / "benchmark_summary.json")
    row = one(written(tmp_path, {**data, "Concurrency": 64}))
    assert row["concurrency"] == 16


def test_evalscope_oldest_keys_where_tpot_is_the_test_over_all_tokens(tmp_path: Path) -> None:  # hand-made
    data = {
        "Time taken for tests (s)": 10.739,
        "Number of concurrency": 1,
        "Total requests": 15,
        "Succeed requests": 15,
        "Failed requests": 0,
        "Throughput(average tokens/s)": 324.059,
        "Average QPS": 1.397,
        "Average latency (s)": 0.696,
        "Average time to first token (s)": 0.029,
        "Average time per output token (s)": 0.00309,
        "Average input tokens per request": 50.133,
        "Average output tokens per request": 232.0,
    }
    row = one(written(tmp_path, data))
    assert row["throughput_tok_s"] == 324.059
    assert row["evalscope.tpot_s"] == 0.00309
    assert unknown(row, "tpot_s")


def test_evalscope_all_failed_has_a_status_and_no_values(tmp_path: Path) -> None:
    data = loaded(EVALSCOPE / "mock-closed-c1-c4-c16" / "parallel_4_number_16" / "benchmark_summary.json")
    zeros = {key: 0.0 for key in data if key.startswith(("Avg", "Output", "Total Through", "Req Thr"))}
    row = one(written(tmp_path, {**data, **zeros, "Success Requests": 0, "Failed Requests": 16}))
    assert (row["status"], row["n_failed"]) == ("crashed", 16)
    assert unknown(row, "ttft_s", "e2e_latency_s", "throughput_tok_s")


def test_evalscope_web_page() -> None:
    row = one(FIXTURES / "evalscope-web" / "perf-detail.json")
    assert (row["concurrency"], row["e2e_latency_s"], row["throughput_tok_s"]) == (10, 1.842, 512)
    assert unknown(row, "request_rate", "input_tokens")


# genai-bench


@pytest.mark.parametrize(("concurrency", "seconds", "n", "ttft_s"), [(1, 38, 24, 0.3067), (16, 4, 32, 0.3317)])
def test_genai_bench_agrees_with_the_clocked_server(concurrency: int, seconds: int, n: int, ttft_s: float) -> None:
    row = one(GENAI / f"D128_32_text-to-text_num_concurrency_{concurrency}_time_{seconds}s.json")
    assert (row["concurrency"], row["n_requests"]) == (concurrency, n)
    assert row["tpot_s"] == pytest.approx(0.040, rel=0.011)
    assert row["ttft_s"] == pytest.approx(ttft_s, abs=1e-4)
    assert row["input_tokens"] == pytest.approx(135.7, rel=0.01)  # the server's count, not the 128 asked for


def test_genai_bench_uncounted_requests_make_rates_a_lower_bound() -> None:
    row = one(GENAI / "D128_32_text-to-text_num_concurrency_16_time_4s.json")
    assert row["throughput_tok_s"] == pytest.approx(255.469, rel=1e-4)  # the mock gave 328
    assert "lower bound" in row["note"]


def test_genai_bench_names_and_counts_of_the_metadata() -> None:
    row = one(GENAI / "D128_32_text-to-text_num_concurrency_4_time_10s.json")
    assert row["model"] == "tiny-llama"  # the served name, not the tokenizer's folder
    assert (row["accelerator"], row["accelerator_count"]) == ("A10", 1)  # the count is a text in the file
    assert (row["engine"], row["engine_version"]) == ("vLLM", "0.32.0")
    assert "fixed list" in row["note"]


def test_genai_bench_time_unit(tmp_path: Path) -> None:
    data = loaded(GENAI / "D128_32_text-to-text_num_concurrency_4_time_10s.json")
    stats = data["aggregated_metrics"]["stats"]
    for name in ("ttft", "tpot", "e2e_latency", "output_latency"):
        stats[name] = {key: value * 1e3 for key, value in stats[name].items()}
        for request in data["individual_request_metrics"]:
            request[name] *= 1e3
    row = one(written(tmp_path, {**data, "_time_unit": "ms"}))
    assert row["ttft_s"] == pytest.approx(0.31272, rel=1e-4)
    assert row["tpot_p50_s"] == pytest.approx(0.0401, rel=0.01)
    with pytest.raises(FormatError, match="time unit"):
        read_table(written(tmp_path, {**data, "_time_unit": "weeks"}))


def test_genai_bench_early_tpot_divides_by_all_tokens() -> None:
    row = one(FIXTURES / "genai-bench-mock" / "mock_run_data.json")
    assert row["tpot_s"] == pytest.approx((row["e2e_latency_s"] - row["ttft_s"]) / 99)
    assert row["request_throughput_req_s"] == pytest.approx(31.9995 / 60, rel=1e-4)
    assert row["n_requests"] == 32  # two requests are listed, so they are not the run's
    assert unknown(row, "total_throughput_tok_s")  # of 32 × 190.7 tokens in unknown seconds


def test_genai_bench_request_speed_is_no_throughput() -> None:
    row = one(GENAI / "D128_32_text-to-text_num_concurrency_16_time_4s.json")
    assert row["throughput_tok_s"] > 200  # stats.output_throughput, of one request, is 24.75


def test_genai_bench_absent_statistics_are_objects_of_nulls(tmp_path: Path) -> None:
    data = loaded(GENAI / "D128_32_text-to-text_num_concurrency_4_time_10s.json")
    data["individual_request_metrics"] = []
    stats = data["aggregated_metrics"]["stats"]
    stats["ttft"] = dict.fromkeys(stats["ttft"])
    row = one(written(tmp_path, data))
    assert unknown(row, "ttft_s", "ttft_p99_s")
    assert row["e2e_latency_s"] == pytest.approx(1.5566, rel=1e-4)


def test_genai_bench_warm_up_requests_are_left_out_and_their_time_is_not_the_others() -> None:
    row = one(
        next((GENAI / "warm-up").glob("D32_16*.json"))
    )  # --warmup-ratio 0.25 --cooldown-ratio 0.25 of 14 requests
    assert (row["n_requests"], row["detail"]) == (8, "requests")
    assert row["tpot_s"] == pytest.approx(
        0.02017, rel=1e-3
    )  # of all 14 it is 0.0286; the clocked server's truth is 0.02009
    assert row["throughput_tok_s"] == pytest.approx(14 * 16 / row["duration_s"])  # the file says 8 * 16 / duration
    assert "6 of 14 requests, at the start and the end, are left out" in row["note"]


def test_genai_bench_errors_of_a_run_without_a_success_stand_in_their_frequencies() -> None:
    row = one(GENAI / "all-failed" / "debug_for_run_D32_16_2.json")
    assert (row["status"], row["n_requests"], row["n_failed"], row["concurrency"]) == ("crashed", 0, 12, 2)


# llmeter


def test_llmeter_reasoning_is_in_ttft_and_in_the_tokens_of_tpot() -> None:
    for name in ("stats.json", "responses.jsonl"):
        row = one(LLMETER / "mock-reasoning" / name)
        assert row["tpot_p50_s"] == pytest.approx(0.02, rel=0.04)  # the file says 0.0098: 16 tokens, 8 of reasoning
        assert unknown(row, "ttft_s", "ttft_p50_s")  # the first token came after 0.2032 s
        assert row["llmeter.ttft_p50_s"] == pytest.approx(0.3937, rel=1e-3)
        assert "is the client's own start" in row["note"]  # 6.5 s of imports within the first requests


def test_llmeter_agrees_with_the_clocked_server() -> None:
    row = one(LLMETER / "mock-runner-c4-n3" / "stats.json")
    assert (row["concurrency"], row["n_requests"], row["input_tokens"], row["output_tokens"]) == (4, 12, 126, 32)
    assert row["tpot_s"] == pytest.approx(0.04024, rel=0.01)
    assert row["throughput_tok_s"] == pytest.approx(384 / 5.491013502)


def test_llmeter_rates_are_over_the_whole_run() -> None:
    row = one(LLMETER / "closed-c1-c4-c16" / "stats.json")
    assert row["request_throughput_req_s"] == pytest.approx(16 / 13.58449661)  # the file says 4311 a minute
    assert row["total_throughput_tok_s"] == pytest.approx((2016 + 512) / 13.58449661)


def test_llmeter_levels_overwrite_one_another() -> None:
    row = one(LLMETER / "closed-c1-c4-c16" / "stats.json")
    assert (row["concurrency"], row["n_requests"]) == (16, 16)  # 24 responses are there
    assert row["e2e_latency_s"] == pytest.approx(13.4019, rel=1e-5)
    assert "8 responses of earlier levels" in row["note"]


def test_llmeter_responses_that_are_not_the_last_levels_are_not_used(tmp_path: Path) -> None:
    shutil.copytree(LLMETER / "closed-c1-c4-c16", tmp_path / "run")
    lines = (tmp_path / "run" / "responses.jsonl").read_text().splitlines()
    (tmp_path / "run" / "responses.jsonl").write_text("\n".join(lines[16:] + lines[:16]))
    row = one(tmp_path / "run" / "stats.json")
    assert row["detail"] == "summary"
    assert row["e2e_latency_s"] == pytest.approx(13.4019, rel=1e-5)


def test_llmeter_one_run_has_one_identity() -> None:
    rows = [one(LLMETER / "fail-third" / name) for name in ("stats.json", "summary.json", "responses.jsonl")]
    assert len({row["run_id"] for row in rows}) == 1
    assert len({row["ttft_s"] for row in rows}) == 1


def test_llmeter_hidden_failures_are_said() -> None:
    row = one(LLMETER / "fail-third" / "stats.json")
    assert row["n_failed"] == 0  # the server failed three times; the client tried again
    assert "retries 2 times" in row["note"]


def test_llmeter_one_output_token_has_no_tpot() -> None:
    row = one(LLMETER / "mock-out-1" / "stats.json")
    assert row["output_tokens"] == 1
    assert row["ttft_s"] == row["e2e_latency_s"]
    assert unknown(row, "tpot_s", "tpot_p50_s")


def test_llmeter_failed_responses(tmp_path: Path) -> None:
    shutil.copytree(LLMETER / "mock-out-1", tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "responses.jsonl").read_text().splitlines()]
    for line in lines:
        line |= {"error": "CUDA out of memory", "time_to_last_token": None, "time_to_first_token": None}
    (tmp_path / "run" / "responses.jsonl").write_text("\n".join(map(json.dumps, lines)))
    row = one(tmp_path / "run" / "responses.jsonl")
    assert (row["status"], row["n_failed"]) == ("out_of_memory", 8)


# llmperf


def test_llmperf_summary() -> None:
    row = one(LLMPERF / "anyscale_70b.json")
    assert (row["concurrency"], row["n_requests"], row["n_failed"]) == (5, 150, 0)
    assert row["output_tokens"] == pytest.approx(146.9467)  # measured, not the 150 asked for
    assert row["ttft_s"] == pytest.approx(0.24890, rel=1e-4)
    assert row["request_throughput_req_s"] == pytest.approx(84.7333 / 60, rel=1e-4)
    assert row["throughput_tok_s"] == pytest.approx(207.5212, rel=1e-5)


def test_llmperf_inter_token_latency_is_the_latency_over_the_tokens() -> None:
    row = one(LLMPERF / "anyscale_70b.json")
    assert unknown(row, "tpot_s", "itl_s")
    assert row["llmperf.inter_token_latency_s"] == pytest.approx(0.015836, rel=1e-4)


def test_llmperf_responses_are_recomputed() -> None:
    row = one(LLMPERF / "groq_70b.json")
    data = json.loads((LLMPERF / "groq_70b.json").read_text())
    each = [(r["end_to_end_latency_s"] - r["ttft_s"]) / (r["number_output_tokens"] - 1) for r in data]
    assert row["tpot_s"] == pytest.approx(np.mean(each))
    assert row["tpot_p90_s"] == sorted(each)[134]  # the 135th of 150
    assert unknown(row, "concurrency", "throughput_tok_s")


def test_llmperf_summary_and_responses_are_one_run(tmp_path: Path) -> None:  # hand-made summary
    data = json.loads((LLMPERF / "groq_70b.json").read_text())
    summary = {
        "model": "m",
        "num_concurrent_requests": 5,
        "results_num_completed_requests": len(data),
        "results_number_errors": 0,
        "results_ttft_s_mean": float(np.mean([r["ttft_s"] for r in data])),
        "results_end_to_end_latency_s_mean": float(np.mean([r["end_to_end_latency_s"] for r in data])),
    }
    written(tmp_path, data, "m_550_150_individual_responses.json")
    told = one(written(tmp_path, summary, "m_550_150_summary.json"))
    made = one(tmp_path / "m_550_150_individual_responses.json")
    assert told["run_id"] == made["run_id"]
    assert (made["concurrency"], made["model"]) == (5, "m")


# what is none of these


@pytest.mark.parametrize(
    "path",
    [
        EVALSCOPE / "mock-no-stream" / "parallel_4_number_8" / "benchmark_args.json",
        EVALSCOPE / "mock-no-stream" / "parallel_4_number_8" / "benchmark_percentile.json",
        GENAI / "experiment_metadata.json",
        LLMETER / "fail-third" / "run_config.json",
    ],
)
def test_settings_beside_results_are_refused_by_name(path: Path) -> None:
    with pytest.raises(NotAResultError, match="not a result") as raised:
        read_table(path)
    assert raised.value.hint


@pytest.mark.parametrize(
    "text",
    [
        '{"messages": [{"role": "user", "content": "a"}], "max_tokens": 32}\n',
        "trace_version: 2\ntime_unit: microseconds\nmode: real\n",
        "<!DOCTYPE html>\n<html><body>Performance Test</body></html>\n",
        "2026-11-28 10:00:00 - evalscope - INFO - Starting\n",
    ],
)
def test_prompts_headers_pages_and_logs_are_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(NotAResultError, match="not a result"):
        read_table(written(tmp_path, text, "x"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (EVALSCOPE / "mock-no-stream" / "parallel_4_number_8" / "benchmark_summary.json", "evalscope"),
        (GENAI / "D128_32_text-to-text_num_concurrency_16_time_4s.json", "genai-bench"),
        (LLMETER / "fail-third" / "stats.json", "llmeter"),
        (LLMETER / "fail-third" / "responses.jsonl", "llmeter"),
        (LLMPERF / "anyscale_70b.json", "llmperf"),
        (LLMPERF / "groq_70b.json", "llmperf"),
    ],
)
def test_cut_short_is_one_error_with_a_place(tmp_path: Path, path: Path, name: str) -> None:
    assert read_table(path).attrs["format"] == name
    cut = written(tmp_path, path.read_text()[: len(path.read_text()) * 2 // 3], path.name)
    with pytest.raises(FormatError, match="line "):
        read_table(cut, name)
    with pytest.raises(FormatError):
        read_table(written(tmp_path, "{}"), name)
    with pytest.raises(FormatError):
        read_table(written(tmp_path, "a,b\n1,2\n"), name)
