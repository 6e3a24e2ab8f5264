"""GuideLLM's reports: values against the servers' truth, and each trap of the format by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from fewmark.core import FormatError
from fewmark.interop import read_table

RUNS = Path(__file__).parent / "fixtures" / "guidellm-0.8.1"


def one(path: Path) -> pd.Series:
    frame = read_table(path)
    assert len(frame) == 1
    return frame.iloc[0]


def report(name: str) -> dict[str, Any]:
    return json.loads((RUNS / f"{name}.json").read_text())


def written(folder: Path, value: Any) -> Path:
    path = folder / "benchmarks.json"
    path.write_text(json.dumps(value))
    return path


def unknown(row: pd.Series, *names: str) -> bool:
    return all(name not in row or row[name] is None or row[name] != row[name] for name in names)


def test_closed_loop_agrees_with_the_server() -> None:
    row = one(RUNS / "closed-c4.json")
    assert (row["model"], row["tool_version"], row["concurrency"]) == ("tiny-llama", "0.8.1", 4)
    assert (row["input_tokens"], row["output_tokens"]) == (128, 32)
    assert row["tpot_s"] == pytest.approx(0.16402, rel=0.01)
    assert row["ttft_s"] == pytest.approx(0.7594, rel=0.03)
    assert row["throughput_tok_s"] == pytest.approx(7 * 32 / row["duration_s"])


def test_a_lost_request_is_noted() -> None:
    row = one(RUNS / "closed-c4.json")  # the server finished 8
    assert row["n_requests"] == 7
    assert "1 more requests were sent and are nowhere accounted for" in row["note"]


def test_mock_truth_and_tpot_with_the_first_token_keeps_its_own_name() -> None:
    row = one(RUNS / "mock-closed-c1.json")
    assert row["tpot_s"] == pytest.approx(0.04, rel=0.002)
    assert row["ttft_s"] == pytest.approx(0.301, rel=0.02)
    assert row["guidellm.tpot_s"] == pytest.approx(0.04825, rel=0.001)
    assert row["e2e_latency_s"] == pytest.approx(0.304 + 31 * 0.04, rel=0.005)  # to the last token


def test_latency_ends_with_the_last_token_not_with_the_stream() -> None:
    row = one(RUNS / "mock-rate-5.json")
    assert row["request_rate"] == 5
    assert row["e2e_latency_s"] == pytest.approx(row["ttft_s"] + 31 * row["tpot_s"], rel=1e-6)
    assert "(the file says 1.944)" in row["note"]


def test_failures_are_not_mixed_in() -> None:
    row = one(RUNS / "fail-third.json")
    assert (row["status"], row["n_requests"], row["n_failed"]) == ("ok", 6, 3)
    assert row["e2e_latency_s"] == pytest.approx(3.476, rel=0.01)  # `total` says 2.33
    assert row["input_tokens"] == 135


def test_incomplete_requests_are_not_mixed_in() -> None:
    row = one(RUNS / "mock-sweep.json")
    assert row["n_requests"] == 9
    assert row["n_failed"] == 0
    assert row["e2e_latency_s"] == pytest.approx(1.676, rel=1e-3)
    assert row["output_tokens"] == 32
    assert "9 more requests were cut off" in row["note"]


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_zeros_with_a_count_are_unknown_where_nothing_was_streamed(suffix: str) -> None:
    row = one(RUNS / f"mock-no-stream.{suffix}")
    assert unknown(row, "ttft_s", "itl_s", "tpot_s", "tpot_p99_s")
    assert row["e2e_latency_s"] == pytest.approx(1.6835, rel=1e-3)


def test_one_token_answers_have_no_tpot() -> None:
    row = one(RUNS / "mock-out-1.json")
    assert row["output_tokens"] == 1
    assert unknown(row, "tpot_s", "itl_s")
    assert row["ttft_s"] == pytest.approx(0.347, rel=0.01)


def test_max_concurrency_is_a_cap_and_the_load_for_concurrent_alone() -> None:
    table = read_table(RUNS / "mock-sweep.csv")
    assert table["guidellm.strategy"].tolist() == ["synchronous", "throughput", "constant", "constant"]
    assert table["concurrency"].fillna(0).tolist() == [1, 0, 0, 0]
    assert table["request_rate"].fillna(0).tolist() == [0, 0, 2.48, 4.46]


def test_csv_and_report_of_one_run_are_known_as_one_and_agree() -> None:
    table, row = one(RUNS / "closed-c4.csv"), one(RUNS / "closed-c4.json")
    assert table["run_id"] == row["run_id"]
    for name in ("ttft_s", "tpot_s", "throughput_tok_s", "ttft_p50_s", "ttft_p90_s", "tpot_p99_s", "n_requests"):
        assert table[name] == pytest.approx(row[name], rel=1e-9)


def test_the_eleven_numbers_of_a_csv_cell_lack_the_median() -> None:
    table, report_ = read_table(RUNS / "mock-sweep.csv").iloc[3], one(RUNS / "mock-sweep.json")
    for percent in (50, 90, 95, 99):
        assert table[f"ttft_p{percent}_s"] == pytest.approx(report_[f"ttft_p{percent}_s"])


def test_requests_cut_to_a_sample_are_not_taken_for_all(tmp_path: Path) -> None:
    sampled = report("mock-closed-c1")
    sampled["benchmarks"][0]["requests"]["successful"] = sampled["benchmarks"][0]["requests"]["successful"][:2]
    row = one(written(tmp_path, sampled))
    assert row["detail"] == "summary"
    assert row["tpot_s"] == pytest.approx(0.04, rel=0.002)


def test_unlike_lengths_make_the_itl_a_mean_by_tokens(tmp_path: Path) -> None:
    mixed = report("mock-closed-c1")
    benchmark = mixed["benchmarks"][0]
    benchmark["requests"]["successful"] = None
    benchmark["metrics"]["output_token_count"]["successful"]["std_dev"] = 9.0
    row = one(written(tmp_path, mixed))
    assert "meaned by tokens" in row["note"]
    assert unknown(row, "tpot_p99_s")
    assert row["guidellm.itl_p99_s"] == pytest.approx(0.04, rel=0.01)


def test_events_of_several_tokens_leave_no_itl(tmp_path: Path) -> None:
    bundled = report("mock-closed-c1")
    bundled["benchmarks"][0]["requests"]["successful"] = None
    bundled["benchmarks"][0]["metrics"]["iter_tokens_per_iteration"]["successful"]["mean"] = 4.43
    row = one(written(tmp_path, bundled))
    assert unknown(row, "itl_s")
    assert "events hold 4.43 tokens" in row["note"]


def test_a_run_without_a_success_has_a_status(tmp_path: Path) -> None:
    failed = report("fail-third")
    metrics = failed["benchmarks"][0]["metrics"]
    metrics["request_totals"] = {"successful": 0, "errored": 9, "incomplete": 0, "total": 9}
    failed["benchmarks"][0]["requests"]["errored"][0]["info"]["error"] = "CUDA out of memory"
    row = one(written(tmp_path, failed))
    assert (row["status"], row["n_failed"], row["concurrency"]) == ("out_of_memory", 9, 3)
    assert unknown(row, "ttft_s", "throughput_tok_s", "e2e_latency_s")
    metrics["request_totals"] = {"successful": 0, "errored": 0, "incomplete": 4, "total": 4}
    assert one(written(tmp_path, failed))["status"] == "timeout"


def test_reports_of_version_0_3_without_metadata(tmp_path: Path) -> None:
    """Keys by hand after that version's documentation."""
    benchmark = report("mock-closed-c1")["benchmarks"][0]
    old = {
        "type_": "generative_benchmark",
        "id_": "b-1",
        "args": {"strategy": {"type_": "constant", "rate": 2.0}, "profile": {"type_": "sweep"}},
        "run_stats": {"requests_made": {"successful": 6, "errored": 0, "incomplete": 0, "total": 6}},
        "worker": {"backend_type": "openai_http", "backend_target": "http://127.0.0.1", "backend_model": "org/m-8b"},
        "metrics": {k: v for k, v in benchmark["metrics"].items() if k != "request_totals"},
        "start_time": 100.0,
        "end_time": 112.0,
        "requests": {
            "successful": [
                {
                    "start_time": i * 2.0,
                    "first_token_time": i * 2.0 + 0.3,
                    "last_token_time": i * 2.0 + 0.3 + 31 * 0.04,
                    "prompt_tokens": 135,
                    "output_tokens": 32,
                    "request_latency": 1.6,
                    "time_to_first_token_ms": 300.0,
                    "time_per_output_token_ms": 38.75,
                    "inter_token_latency_ms": 40.0,
                }
                for i in range(6)
            ]
        },
    }
    row = one(written(tmp_path, {"benchmarks": [old]}))
    assert (row["model"], row["request_rate"], row["run_id"], row["duration_s"]) == ("org/m-8b", 2, "b-1", 12)
    assert row["tpot_s"] == pytest.approx(0.04)
    assert row["e2e_latency_s"] == pytest.approx(1.54)


def test_version_1_with_arguments_at_the_top(tmp_path: Path) -> None:
    """Keys by hand after that version's documentation."""
    benchmark = report("mock-closed-c1")["benchmarks"][0]
    strategy = {"type_": "concurrent", "streams": 2}
    benchmark |= {"config": {"id_": "b-2", "strategy": strategy, "backend": {"type_": "openai_http"}}}
    value = {
        "metadata": {"version": 1, "guidellm_version": "0.5.0"},
        "args": {"model": "org/m"},
        "benchmarks": [benchmark],
    }
    value["args"]["backend_kwargs"] = {"api_key": "sk-secret"}
    row = one(written(tmp_path, value))
    assert (row["model"], row["concurrency"], row["tool_version"]) == ("org/m", 2, "0.5.0")
    assert "sk-secret" not in row.to_json()


def test_wrong_versions_and_alien_content_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"metadata.version 9 is unknown"):
        read_table(written(tmp_path, report("closed-c4") | {"metadata": {"version": 9, "guidellm_version": "2.0"}}))
    with pytest.raises(FormatError, match="holds no benchmark"):
        read_table(written(tmp_path, report("closed-c4") | {"benchmarks": []}))
    with pytest.raises(FormatError, match="benchmark 1 has no metrics"):
        read_table(written(tmp_path, report("closed-c4") | {"benchmarks": [{"metrics": 3}]}))


def test_a_cut_csv_is_named(tmp_path: Path) -> None:
    text = (RUNS / "mock-sweep.csv").read_text()
    path = tmp_path / "benchmarks.csv"
    path.write_text(text[: text.rindex("\n", 0, -5) + 200])
    with pytest.raises(FormatError, match=r"fields are needed|well-formed"):
        read_table(path)


def test_a_report_as_yaml(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.yaml"
    path.write_text(yaml.safe_dump(report("mock-closed-c1")))
    assert one(path)["tpot_s"] == pytest.approx(0.04, rel=0.002)


def test_a_profile_of_one_strategy_says_the_load(tmp_path: Path) -> None:
    value = report("mock-closed-c1")
    value["benchmarks"][0]["config"] |= {"strategy": None, "profile": {"kind": "concurrent", "streams": [4]}}
    assert one(written(tmp_path, value))["concurrency"] == 4
    value["benchmarks"][0]["config"]["profile"] = {"kind": "concurrent", "streams": [1, 4]}
    assert unknown(one(written(tmp_path, value)), "concurrency")


def test_rates_that_leave_out_the_last_request_are_made_anew() -> None:
    row = one(RUNS / "mock-c2-ends-early.json")  # its end_time is 1.4 ms before the end of the last of 8 requests
    assert row["n_requests"] == 8
    assert row["request_throughput_req_s"] == pytest.approx(8 / row["duration_s"])  # the file says 7 / duration
    assert row["throughput_tok_s"] == pytest.approx(128 / row["duration_s"])
    assert "leave out 1 of 8 requests" in row["note"]


def test_rates_of_tokens_that_begin_with_the_first_one_are_made_anew() -> None:
    row = one(RUNS.parent / "guidellm-0.5.4" / "mock-c2.json")
    assert row["throughput_tok_s"] == pytest.approx(128 / row["duration_s"], rel=1e-3)  # the file says 67.77, not 61.16
    assert row["total_throughput_tok_s"] == pytest.approx((128 + 82) / row["duration_s"], rel=1e-3)
    assert row["tpot_s"] == pytest.approx(0.02007, rel=0.015)
    assert "leaves out the time before the first one" in row["note"]


def test_goodput_is_known_where_objectives_were_set_and_may_be_zero(tmp_path: Path) -> None:
    value = json.loads((RUNS / "mock-c2-ends-early.json").read_text())
    metrics = value["benchmarks"][0]["metrics"]  # as 0.8.1 writes them for a TTFT of 1 ms
    metrics |= {"slo_attainment": 0.0, "slo_determined_requests": 8, "request_goodput": {"successful": {"mean": 0.0}}}
    assert one(written(tmp_path, value))["goodput_req_s"] == 0
    metrics |= {"slo_attainment": None, "slo_determined_requests": 0}
    assert unknown(one(written(tmp_path, value)), "goodput_req_s")
