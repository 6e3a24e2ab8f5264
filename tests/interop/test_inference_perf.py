"""inference-perf's results: values against the servers' truth, and each trap of the format by name."""

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

FIXTURES = Path(__file__).parent / "fixtures"
RUNS = FIXTURES / "inference-perf-0.7.0"
THREE = RUNS / "closed-c1-c4-c16"


def one(path: Path) -> pd.Series:
    frame = read_table(path)
    assert len(frame) == 1
    return frame.iloc[0]


def stage(name: str, number: int = 0) -> pd.Series:
    return one(RUNS / name / f"stage_{number}_lifecycle_metrics.json")


def requests(name: str) -> pd.DataFrame:
    return read_table(RUNS / name / "per_request_lifecycle_metrics.json")


def unknown(row: pd.Series, *names: str) -> bool:
    return all(name not in row or row[name] is None or row[name] != row[name] for name in names)


def changed(folder: Path, **changes: Any) -> Path:
    value = json.loads((THREE / "stage_1_lifecycle_metrics.json").read_text())
    for key, part in changes.items():
        value[key] = value[key] | part if isinstance(part, dict) else part
    path = folder / "stage_1_lifecycle_metrics.json"
    path.write_text(json.dumps(value))
    return path


def test_output_tokens_counted_anew_are_replaced_by_the_servers() -> None:
    row = stage("closed-c1-c4-c16", 1)
    assert (row["engine"], row["model"], row["concurrency"]) == ("vllm", "tiny-llama", 4)
    assert row["output_tokens"] == 32  # the client says 50.4
    assert row["throughput_tok_s"] == pytest.approx(24.267, rel=1e-4)  # the file says 38.2
    assert row["inference_perf.tpot_s"] == pytest.approx(0.12254, rel=1e-4)
    assert row["tpot_s"] == pytest.approx((5.142730 - 0.429602) / 31, rel=1e-4)
    assert "by the server's count (32 each)" in row["note"]


def test_a_concurrent_stages_requested_rate_is_no_rate() -> None:
    row = stage("closed-c1-c4-c16", 1)  # the file says requested_rate 8.0
    assert unknown(row, "request_rate")


def test_the_stages_requests_and_partial_reports_of_one_run_are_known_as_one() -> None:
    table = requests("closed-c1-c4-c16")
    stages = [stage("closed-c1-c4-c16", i) for i in range(3)]
    reports = [one(THREE / f"inference-perf.partial.stage_{i}.yaml") for i in range(3)]
    assert table["run_id"].tolist() == [row["run_id"] for row in stages] == [row["run_id"] for row in reports]
    assert table["concurrency"].tolist() == [1, 4, 16]
    assert table["n_requests"].tolist() == [4, 8, 16]
    for place, row in enumerate(stages):
        assert table.at[place, "tpot_s"] == pytest.approx(row["tpot_s"], rel=0.01)
        assert table.at[place, "throughput_tok_s"] == pytest.approx(row["throughput_tok_s"], rel=1e-6)
    assert float((table["tpot_s"] * table["n_requests"]).sum() / 28) == pytest.approx(0.15368, rel=0.03)  # the server's


def test_the_summary_mixes_the_stages_and_has_no_load() -> None:
    row = one(THREE / "summary_lifecycle_metrics.json")
    assert (row["detail"], row["n_requests"]) == ("mixed", 28)
    assert unknown(row, "concurrency", "request_rate")


def test_requests_without_their_stages_are_one_mixed_row(tmp_path: Path) -> None:
    shutil.copy(THREE / "per_request_lifecycle_metrics.json", tmp_path)
    row = one(tmp_path / "per_request_lifecycle_metrics.json")
    assert (row["detail"], row["n_requests"]) == ("mixed", 28)
    assert unknown(row, "concurrency", "request_rate", "model")


def test_the_servers_count_asked_for() -> None:
    for row in (stage("mock-closed-c4-server-tokens"), requests("mock-closed-c4-server-tokens").iloc[0]):
        assert row["tpot_s"] == pytest.approx(0.04, rel=0.02)  # the mock's truth
        assert row["itl_s"] == pytest.approx(0.04, rel=0.02)
        assert row["throughput_tok_s"] == pytest.approx(12 * 32 / row["duration_s"], rel=1e-4)


def test_gaps_of_the_clients_tokens_keep_their_own_name() -> None:
    row = stage("closed-c1-c4-c16", 1)
    assert unknown(row, "itl_s", "itl_p50_s")
    assert row["inference_perf.itl_s"] == pytest.approx(0.100524, rel=1e-4)
    old = one(FIXTURES / "inference-perf-0.2" / "stage_3_lifecycle_metrics.json")
    assert unknown(old, "itl_s")  # a median gap of 48 µs at a mean of 12 ms: two lines an event


def test_streaming_off_leaves_no_times_of_tokens() -> None:
    for row in (stage("mock-no-stream"), requests("mock-no-stream").iloc[0]):
        assert unknown(row, "ttft_s", "tpot_s", "itl_s")
        assert row["output_tokens"] == 32


def test_one_token_answers_have_a_ttft_in_the_requests_alone() -> None:
    assert unknown(stage("mock-out-1"), "ttft_s", "tpot_s")
    row = requests("mock-out-1").iloc[0]
    assert row["ttft_s"] == pytest.approx(0.4143, rel=1e-3)
    assert unknown(row, "tpot_s", "itl_s")


def test_failures_are_counted_and_left_out() -> None:
    for row in (stage("fail-third"), requests("fail-third").iloc[0]):
        assert (row["status"], row["n_requests"], row["n_failed"], row["concurrency"]) == ("ok", 6, 3, 3)
        assert row["tpot_s"] == pytest.approx(0.27057, rel=0.02)
        assert row["input_tokens"] == 128


def test_a_stage_of_an_open_loop_and_tokens_of_the_client_alone() -> None:
    row = one(FIXTURES / "inference-perf-0.2" / "stage_3_lifecycle_metrics.json")
    assert row["request_rate"] == 111.92
    assert row["inference_perf.tpot_s"] == pytest.approx(0.0120196, rel=1e-4)
    assert row["tpot_s"] == pytest.approx((1.697948 - 0.146234) / 61.8003, rel=1e-4)
    assert row["ttft_p99_s"] == pytest.approx(0.39746, rel=1e-4)
    assert "counted by the client" in row["note"]
    summary = one(FIXTURES / "inference-perf-0.2" / "summary_lifecycle_metrics.json")
    assert unknown(summary, "request_rate", "concurrency")


def test_lines_of_the_stream_are_no_tokens() -> None:
    row = one(FIXTURES / "inference-perf-0.2.0" / "stage_0_lifecycle_metrics.json")
    assert row["tpot_s"] == pytest.approx(0.02006, rel=0.01)  # the clocked server's truth; the file says 0.00914
    assert unknown(row, "itl_s", "tpot_p50_s", "tpot_p99_s")
    assert "counts the blank line after each event" in row["note"]


def test_a_rate_that_may_be_a_concurrent_stages_is_unknown(tmp_path: Path) -> None:
    load = json.loads((THREE / "stage_1_lifecycle_metrics.json").read_text())["load_summary"]
    del load["concurrency"]
    row = one(_with_load(tmp_path, load))
    assert unknown(row, "request_rate", "concurrency")
    assert "load unknown" in row["note"]
    row = one(_with_load(tmp_path, load | {"requested_rate": 5.0, "achieved_rate": 3.0}))
    assert row["request_rate"] == 5
    assert "3 req/s were sent where 5 were asked for" in row["note"]
    shutil.copy(THREE / "config.yaml", tmp_path)  # which says concurrent, and the stage's level
    assert one(_with_load(tmp_path, load))["concurrency"] == 4


def _with_load(folder: Path, load: dict[str, Any]) -> Path:
    value = json.loads((THREE / "stage_1_lifecycle_metrics.json").read_text())
    path = folder / "stage_1_lifecycle_metrics.json"
    path.write_text(json.dumps(value | {"load_summary": load}))
    return path


def test_a_stage_without_a_success_has_a_status(tmp_path: Path) -> None:
    none = {"count": 0, "latency": {"request_latency": None}, "throughput": {"requests_per_sec": 0.0}}
    row = one(changed(tmp_path, successes=none, failures={"count": 8, "by_label": {"timeout": 8}}))
    assert (row["status"], row["n_failed"], row["concurrency"]) == ("timeout", 8, 4)
    assert unknown(row, "throughput_tok_s", "output_tokens", "e2e_latency_s")


def test_settings_are_no_result_and_broken_lists_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotAResultError, match="settings of an inference-perf run"):
        read_table(THREE / "config.yaml")
    path = tmp_path / "per_request_lifecycle_metrics.json"
    text = (THREE / "per_request_lifecycle_metrics.json").read_text()
    path.write_text(text[:-500])
    with pytest.raises(FormatError, match="malformed JSON"):
        read_table(path)
    value = json.loads(text)
    del value[2]["start_time"]
    path.write_text(json.dumps(value))
    with pytest.raises(FormatError, match="request 3 has no start_time"):
        read_table(path)
