"""SGLang's benchmark results, made by hand from its documented keys, and the traps of the format by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fewmark.core import FormatError
from fewmark.interop import read_table

FIXTURES = Path(__file__).parent / "fixtures" / "sglang-0.5.23"
SERVING = {
    "backend": "sglang",
    "dataset_name": "random",
    "request_rate": float("inf"),
    "max_concurrency": 4,
    "random_input_len": 1024,
    "random_output_len": 32,
    "random_range_ratio": 1.0,
    "server_info": {
        "model_path": "org/m-8b",
        "tp_size": 2,
        "version": "0.5.2",
        "api_key": "sk-secret",
        "dtype": "auto",
    },
    "duration": 20.0,
    "completed": 40,
    "total_input_tokens": 40960,
    "total_output_tokens": 1280,
    "total_output_tokens_retokenized": 1275,
    "request_throughput": 2.0,
    "input_throughput": 2048.0,
    "output_throughput": 64.0,
    "total_throughput": 2112.0,
    "mean_e2e_latency_ms": 1540.0,
    "median_e2e_latency_ms": 1500.0,
    "p99_e2e_latency_ms": 2100.0,
    "mean_ttft_ms": 300.0,
    "median_ttft_ms": 290.0,
    "mean_tpot_ms": 40.0,
    "mean_itl_ms": 40.1,
    "p95_itl_ms": 61.0,
    "concurrency": 3.08,
    "accept_length": None,
}


def read(folder: Path, *lines: Any) -> pd.DataFrame:
    path = folder / "result.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    frame = read_table(path)
    assert frame.attrs["format"] == "sglang-bench"
    return frame


def unknown(row: pd.Series, *names: str) -> bool:
    return all(name not in row or row[name] is None or row[name] != row[name] for name in names)


def test_serving(tmp_path: Path) -> None:
    row = read(tmp_path, SERVING).iloc[0]
    assert (row["engine"], row["model"], row["engine_version"], row["tensor_parallel_size"]) == (
        "sglang",
        "org/m-8b",
        "0.5.2",
        2,
    )
    assert (row["input_tokens"], row["output_tokens"], row["concurrency"], row["n_requests"]) == (1024, 32, 4, 40)
    assert (row["ttft_s"], row["tpot_s"], row["e2e_latency_s"]) == pytest.approx((0.3, 0.04, 1.54))
    assert (row["throughput_tok_s"], row["total_throughput_tok_s"]) == (64, 2112)
    assert row["sglang.mean_concurrency"] == 3.08  # measured, beside the cap
    assert row["precision"] is None
    assert "sk-secret" not in row.to_json()


def test_heading_lines_between(tmp_path: Path) -> None:
    frame = read(tmp_path, "## tp 2", SERVING, "", "[2026-01-01 10:00:00] second", SERVING | {"max_concurrency": 8})
    assert frame["concurrency"].tolist() == [4, 8]


def test_not_streamed(tmp_path: Path) -> None:
    flat = {
        "mean_ttft_ms": 1539.9,
        "median_ttft_ms": 1499.9,
        "mean_tpot_ms": -0.0,
        "mean_itl_ms": 0.0,
        "p95_itl_ms": 0.0,
    }
    row = read(tmp_path, SERVING | flat).iloc[0]
    assert unknown(row, "ttft_s", "ttft_p50_s", "tpot_s", "itl_s", "itl_p95_s")
    assert row["e2e_latency_s"] == 1.54
    assert "not streamed" in row["note"]
    assert unknown(
        read(tmp_path, SERVING | flat | {"mean_ttft_ms": 0.0, "median_ttft_ms": 0.0}).iloc[0], "ttft_s", "tpot_s"
    )


def test_one_token_answers_keep_their_ttft(tmp_path: Path) -> None:
    one = {"total_output_tokens": 40, "mean_ttft_ms": 1540.0, "mean_tpot_ms": 0.0, "mean_itl_ms": 0.0}
    row = read(tmp_path, SERVING | one).iloc[0]
    assert row["ttft_s"] == 1.54
    assert unknown(row, "tpot_s", "itl_s")


def test_trace_and_rates(tmp_path: Path) -> None:
    trace = SERVING | {"request_rate": "trace", "max_concurrency": None}
    rate = SERVING | {"request_rate": 2.0, "max_concurrency": None}
    burst = SERVING | {"max_concurrency": None}
    frame = read(tmp_path, trace, rate, burst)
    assert unknown(frame.iloc[0], "request_rate", "concurrency")
    assert "not a rate" in frame.at[0, "note"]
    assert frame.at[1, "request_rate"] == 2
    assert frame.at[2, "concurrency"] == 40


def test_tokens_told_and_retokenised_apart(tmp_path: Path) -> None:
    row = read(tmp_path, SERVING | {"total_output_tokens_retokenized": 640}).iloc[0]
    assert "1280 as told and 640 re-tokenised" in row["note"]


def test_older_files_with_medians_only(tmp_path: Path) -> None:
    kept = ("backend", "request_rate", "total_input_tokens", "total_output_tokens", "total_output_tokens_retokenized")
    old = {
        key: SERVING[key] for key in (*kept, "median_e2e_latency_ms", "median_ttft_ms", "output_throughput", "duration")
    }
    row = read(tmp_path, old | {"completed": 40, "request_rate": 4}).iloc[0]
    assert unknown(row, "ttft_s")
    assert (row["ttft_p50_s"], row["request_rate"]) == (0.29, 4)
    assert row["total_throughput_tok_s"] == pytest.approx((40960 + 1280) / 20)


def test_run_without_a_success(tmp_path: Path) -> None:
    zeros = {
        key: 0 for key in SERVING if key.startswith(("total_", "mean_", "median_", "p9")) or key.endswith("throughput")
    }
    row = read(tmp_path, SERVING | zeros | {"completed": 0}).iloc[0]
    assert row["status"] == "crashed"
    assert unknown(row, "throughput_tok_s", "ttft_s", "output_tokens")


def test_one_batch(tmp_path: Path) -> None:
    batch = {
        "run_name": "default",
        "batch_size": 16,
        "input_len": 1024,
        "output_len": 8,
        "prefill_latency": 0.5,
        "prefill_throughput": 32768.0,
        "median_decode_latency": 0.02,
        "median_decode_throughput": 800.0,
        "total_latency": 0.64,
        "overall_throughput": 25800.0,
    }
    row = read(tmp_path, batch).iloc[0]
    assert (row["batch_size"], row["e2e_latency_s"], row["ttft_s"]) == (16, 0.64, 0.5)
    assert row["throughput_tok_s"] == pytest.approx(16 * 8 / 0.64)
    assert row["total_throughput_tok_s"] == pytest.approx(16 * 1032 / 0.64)
    assert row["tpot_s"] == pytest.approx(0.02)


def test_one_batch_server_leaves_the_prefill_out(tmp_path: Path) -> None:
    batch = {
        "run_name": "default",
        "batch_size": 4,
        "input_len": 512,
        "output_len": 64,
        "latency": 2.0,
        "input_throughput": 4096.0,
        "output_throughput": 170.67,
        "overall_throughput": 1152.0,
        "last_ttft": 0.5,
        "last_gen_throughput": 171.0,
        "acc_length": -1.0,
    }
    row = read(tmp_path, batch, batch | {"last_ttft": -1.0}).iloc[0]
    assert row["throughput_tok_s"] == 128
    assert row["decode_throughput_tok_s"] == pytest.approx(4 * 63 / 1.5)
    assert row["sglang.output_throughput_tok_s"] == 170.67
    assert unknown(read(tmp_path, batch | {"last_ttft": -1.0}).iloc[0], "ttft_s", "tpot_s")


def test_offline_throughput(tmp_path: Path) -> None:
    offline = {
        "backend": "engine",
        "successful_requests": 100,
        "total_latency": 10.0,
        "total_input_tokens": 51200,
        "total_output_tokens": 12800,
        "request_throughput": 10.0,
        "input_throughput": 5120.0,
        "output_throughput": 1280.0,
        "total_throughput": 6400.0,
        "last_gen_throughput": 900.0,
    }
    row = read(tmp_path, offline).iloc[0]
    assert (row["batch_size"], row["input_tokens"], row["output_tokens"]) == (100, 512, 128)
    assert (row["throughput_tok_s"], row["total_throughput_tok_s"]) == (1280, 6400)


def test_a_line_cut_in_the_middle(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="line 2: malformed JSON"):
        read(tmp_path, SERVING, json.dumps(SERVING)[:-40])


def test_details_are_made_anew(tmp_path: Path) -> None:
    lists = {
        "input_lens": [1024] * 4,
        "output_lens": [11] * 4,
        "ttfts": [0.2, 0.3, 0.4, 0.5],
        "itls": [[0.04] * 10] * 4,
        "errors": [""] * 4,
        "generated_texts": [""] * 4,
    }
    told = {"completed": 4, "total_input_tokens": 4096, "total_output_tokens": 44, "mean_ttft_ms": 350.0}
    row = read(tmp_path, SERVING | told | lists).iloc[0]
    assert (row["detail"], row["ttft_s"], row["ttft_p50_s"]) == ("requests", pytest.approx(0.35), 0.3)
    assert (row["tpot_s"], row["e2e_latency_s"]) == (pytest.approx(0.04), pytest.approx(0.75))
    assert row["throughput_tok_s"] == pytest.approx(44 / 20)


@pytest.mark.parametrize(
    ("name", "load", "tokens", "ttft_s", "tpot_s"),
    [
        ("closed-c3.jsonl", ("concurrency", 3), 16, 0.2, 0.02),
        ("closed-c3.log", ("concurrency", 3), 16, 0.2, 0.02),
        ("rate-10-details.jsonl", ("request_rate", 10), 16, 0.2, 0.02),
        ("no-stream.jsonl", ("concurrency", 3), 16, None, None),
        ("told-what-was-asked.jsonl", ("concurrency", 3), 8, 0.2, 0.02),
    ],
)
def test_real_runs_say_what_the_server_did(
    name: str, load: tuple[str, int], tokens: int, ttft_s: float | None, tpot_s: float | None
) -> None:
    """The server's first token came after 200 ms, then one each 20 ms; `tokens` of 16 each time."""
    row = read_table(FIXTURES / name).iloc[0]
    assert row[load[0]] == load[1] and row["input_tokens"] == 32 and row["output_tokens"] == tokens
    assert row["e2e_latency_s"] == pytest.approx(0.2 + 0.02 * (tokens - 1), rel=0.05)
    assert row["throughput_tok_s"] == pytest.approx(12 * tokens / row["duration_s"], rel=5e-3)  # the console rounds
    if ttft_s is None:
        assert unknown(row, "ttft_s", "tpot_s", "itl_s")
    else:
        assert row["ttft_s"] == pytest.approx(ttft_s, rel=0.07) and row["tpot_s"] == pytest.approx(tpot_s, rel=0.03)
