"""fmperf, LLM-Pilot, BLIS TraceV2, LLMServingSim: runs told by their single requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fewmark.core import FormatError
from fewmark.interop import read_table
from fewmark.interop.base import NotAResultError

FIXTURES = Path(__file__).parent / "fixtures"
SERVINGSIM = FIXTURES / "llmservingsim-2"

# The first requests of LLM-Pilot's results_EleutherAI__gpt-neox-20b_gpu1_h100_u8.csv (IBM, CDLA-Permissive-2.0).
LLM_PILOT = (
    ",smpnum,reqnum,errors,status,model,num_users,requests,latency_ms,records,n_gpus,gpu_type,start_timestamp,"
    "end_timestamp,experiment_duration_s,n_input_tokens,n_output_tokens,latency_ms_per_token,timestamps_per_token\n"
    "1,231,0,[],200,EleutherAI/gpt-neox-20b,8,1,148.0,1,1,H100,1697104593970,1697104594118,120,13,1,"
    '"[13, 135]","[1697104593983, 1697104594118]"\n'
    "3,752,0,[],200,EleutherAI/gpt-neox-20b,8,1,202.0,1,1,H100,1697104593970,1697104594172,120,39,3,"
    '"[9, 169, 24]","[1697104593979, 1697104594148, 1697104594172]"\n'
    "30,920,6,[],200,EleutherAI/gpt-neox-20b,8,1,187.0,1,1,H100,1697104596056,1697104596243,120,96,4,"
    '"[4, 138, 22, 23]","[1697104596060, 1697104596198, 1697104596220, 1697104596243]"\n'
)
BLIS_COLUMNS = (
    "request_id,client_id,tenant_id,slo_class,session_id,round_index,prefix_group,prefix_length,streaming,input_tokens,"
    "output_tokens,text_tokens,image_tokens,audio_tokens,video_tokens,reason_ratio,model,deadline_us,"
    "server_input_tokens,arrival_time_us,send_time_us,first_chunk_time_us,last_chunk_time_us,num_chunks,status,"
    "error_message,finish_reason"
)
EPOCH = 1_788_000_000_000_000


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


# fmperf (hand-made from the records that its load generator writes)


def fmperf_request(worker: int, request: int, gaps_ms: list[float], **changes: Any) -> list[dict[str, Any]]:
    common = {"exp_num_users": 2, "exp_duration": 10.0, "worker_idx": worker, "request_idx": request, "sample_idx": 0}
    steps = [
        {"response": {}, "ok": True, "error": "None", "timestamp": 1, "duration_ms": gap, "exclude": False}
        | {"response_idx": i, "n_tokens": 1, **common, **changes}
        for i, gap in enumerate(gaps_ms)
    ]
    end = {"response": None, "ok": False, "error": "", "timestamp": 1, "duration_ms": 0.1, "exclude": False}
    return [*steps, end | {"response_idx": len(gaps_ms), "n_tokens": 0, **common}]


def test_fmperf_tokens_make_requests(tmp_path: Path) -> None:
    records = fmperf_request(0, 0, [300, 40, 40]) + fmperf_request(1, 0, [310, 40, 40])
    row = one(written(tmp_path, {"results": records, "energy": {}}))
    assert (row["concurrency"], row["n_requests"], row["output_tokens"]) == (2, 2, 3)
    assert (row["ttft_s"], row["tpot_s"]) == (pytest.approx(0.305), pytest.approx(0.04))
    assert row["throughput_tok_s"] == pytest.approx(6 / 10)
    assert unknown(row, "input_tokens")


def test_fmperf_errors_and_requests_beyond_the_end(tmp_path: Path) -> None:
    failed = fmperf_request(1, 0, [310])
    failed[-1]["error"] = "connection reset"
    late = fmperf_request(0, 1, [300, 40], exclude=True)
    row = one(written(tmp_path, {"results": fmperf_request(0, 0, [300, 40]) + failed + late, "energy": {}}))
    assert (row["n_requests"], row["n_failed"]) == (1, 1)
    assert "1 requests that reach beyond" in row["note"]


# LLM-Pilot


def test_llm_pilot_first_message_holds_no_token(tmp_path: Path) -> None:
    row = one(written(tmp_path, LLM_PILOT, "results.csv"))
    assert (row["concurrency"], row["accelerator"], row["accelerator_count"]) == (8, "H100", 1)
    assert row["ttft_s"] == pytest.approx(np.mean([0.148, 0.178, 0.142]))  # 13, 9 and 4 ms would be no tokens
    assert row["tpot_s"] == pytest.approx(np.mean([0.024 / 2, 0.045 / 3]))
    assert row["throughput_tok_s"] == pytest.approx(8 / 120)


def test_llm_pilot_failed_requests_are_no_measurements(tmp_path: Path) -> None:
    text = LLM_PILOT.replace(
        ",[],200,EleutherAI/gpt-neox-20b,8,1,148.0", ",['out of memory'],500,EleutherAI/gpt-neox-20b,8,1,148.0"
    )
    row = one(written(tmp_path, text, "results.csv"))
    assert (row["n_requests"], row["n_failed"]) == (2, 1)
    with pytest.raises(FormatError, match="timestamps_per_token"):
        read_table(written(tmp_path, LLM_PILOT.replace('"[1697104593983, 1697104594118]"', '"{}"'), "results.csv"))


# BLIS TraceV2 (hand-made from its documented columns)


def blis(folder: Path, *requests: dict[str, Any], mode: str = "real", warm_up: int = 0) -> Path:
    header = f"trace_version: 2\ntime_unit: microseconds\nmode: {mode}\nwarm_up_requests: {warm_up}\n"
    (folder / "trace_header.yaml").write_text(header)
    lines = [BLIS_COLUMNS]
    for place, changes in enumerate(requests):
        send = EPOCH + place * 500_000
        cells: dict[str, Any] = dict.fromkeys(BLIS_COLUMNS.split(","), 0)
        cells |= {"request_id": place, "streaming": "true", "input_tokens": 100, "output_tokens": 11, "model": "org/m"}
        cells |= {"server_input_tokens": 128, "arrival_time_us": place * 500_000, "send_time_us": send}
        cells |= {"first_chunk_time_us": send + 300_000, "last_chunk_time_us": send + 700_000, "num_chunks": 11}
        cells |= {"status": "ok", "error_message": "", "session_id": "", **changes}
        lines.append(",".join(map(str, cells.values())))
    return written(folder, "\n".join(lines) + "\n", "trace_data.csv")


def test_blis_times_of_sending_and_arrival_are_on_different_clocks(tmp_path: Path) -> None:
    row = one(blis(tmp_path, {}, {}, {}))
    assert (row["ttft_s"], row["e2e_latency_s"]) == (pytest.approx(0.3), pytest.approx(0.7))
    assert row["tpot_s"] == pytest.approx(0.04)
    assert row["request_rate"] == pytest.approx(2)
    assert row["input_tokens"] == 128  # the server's count
    assert row["throughput_tok_s"] == pytest.approx(33 / 1.7)
    assert unknown(row, "provenance", "predicted_by")


def test_blis_failures_warm_up_and_answers_at_once(tmp_path: Path) -> None:
    row = one(blis(tmp_path, {}, {"status": "timeout"}, {}, {"streaming": "false"}, warm_up=1))
    assert (row["n_requests"], row["n_failed"]) == (2, 1)
    assert "first 1 requests were a warm-up" in row["note"]
    assert row["ttft_s"] == pytest.approx(0.3)  # of the streamed one
    row = one(blis(tmp_path, {"status": "timeout"}, {"status": "timeout"}))
    assert row["status"] == "timeout"


def test_blis_simulated_is_a_forecast_and_a_workload_is_nothing(tmp_path: Path) -> None:
    row = one(blis(tmp_path, {}, {}, {}, mode="replayed"))
    assert (row["provenance"], row["predicted_by"]) == ("predicted", "blis")
    nothing = {"send_time_us": 0, "first_chunk_time_us": 0, "last_chunk_time_us": 0}
    with pytest.raises(FormatError, match="workload, not a measurement"):
        read_table(blis(tmp_path, nothing, mode="generated"))


# LLMServingSim


def test_llmservingsim_of_a_real_vllm() -> None:
    row = one(SERVINGSIM / "requests.jsonl")
    data = pd.DataFrame([json.loads(line) for line in (SERVINGSIM / "requests.jsonl").read_text().splitlines()])
    e2e, ttft = data["last_token_ts"] - data["queued_ts"], data["first_token_ts"] - data["queued_ts"]
    assert row["ttft_s"] == pytest.approx(ttft.mean())
    assert row["tpot_s"] == pytest.approx(((e2e - ttft) / (data["output_toks"] - 1)).mean())
    assert row["ttft_p90_s"] == pytest.approx(sorted(ttft)[53])  # the 54th of 60
    assert (row["model"], row["accelerator"]) == ("meta-llama/Llama-3.1-8B", "NVIDIA GeForce RTX 4090")
    assert (row["engine_version"], row["precision"], row["tensor_parallel_size"]) == ("0.19.0", "bfloat16", 1)
    assert unknown(row, "provenance")


def test_llmservingsim_simulated_is_a_forecast_in_nanoseconds(tmp_path: Path) -> None:  # hand-made
    text = (
        "instance id,request id,model,input,output,arrival,end_time,latency,queuing_delay,TTFT,TPOT,ITL\n"
        '0,0,org/m,100,11,0,700000000,700000000,0,300000000,40000000,"[40000000]"\n'
        '0,1,org/m,100,11,500000000,1200000000,700000000,0,300000000,40000000,"[40000000]"\n'
    )
    row = one(written(tmp_path, text, "sim.csv"))
    assert (row["ttft_s"], row["tpot_s"]) == (pytest.approx(0.3), pytest.approx(0.04))
    assert row["predicted_by"] == "llmservingsim"
    assert row["throughput_tok_s"] == pytest.approx(22 / 1.2)


@pytest.mark.parametrize("name", ["meta.json", "timeseries.csv"])
def test_llmservingsim_side_files(name: str) -> None:
    with pytest.raises(NotAResultError, match=r"not a result"):
        read_table(SERVINGSIM / name)


@pytest.mark.parametrize(
    ("content", "name"),
    [(LLM_PILOT, "llm-pilot"), ((SERVINGSIM / "requests.jsonl").read_text(), "llmservingsim")],
)
def test_cut_short_and_alien(tmp_path: Path, content: str, name: str) -> None:
    with pytest.raises(FormatError):
        read_table(written(tmp_path, content[: len(content) * 9 // 10 - 3]), name)
    for alien in ("{}", "[]", "a,b\n1,2\n"):
        for format_name in (name, "fmperf", "blis"):
            with pytest.raises(FormatError):
                read_table(written(tmp_path, alien), format_name)
