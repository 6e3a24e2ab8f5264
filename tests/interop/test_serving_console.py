"""The console block of vLLM's and SGLang's serving clients, as people keep it in logs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from fewmark.core import FormatError
from fewmark.interop import read_table

RUNS = Path(__file__).parent / "fixtures" / "vllm-bench-0.32.0"
VLLM = """INFO 11-28 09:17:39 starting
Namespace(backend='openai', model='org/m-8b', request_rate=inf, max_concurrency=4)
Traffic request rate: inf
Burstiness factor: 1.0 (Poisson process)
Maximum request concurrency: 4
100%|##########| 8/8 [00:27<00:00]\r============ Serving Benchmark Result ============
Successful requests:                     8
Failed requests:                         0
Maximum request concurrency:             4
Benchmark duration (s):                  27.87
Total input tokens:                      1024
Total generated tokens:                  256
Request throughput (req/s):              0.29
Output token throughput (tok/s):         9.19
Peak output token throughput (tok/s):    24.00
Peak concurrent requests:                8.00
Total Token throughput (tok/s):          45.93
---------------Time to First Token----------------
Mean TTFT (ms):                          3030.40
Median TTFT (ms):                        3013.91
P99 TTFT (ms):                           3124.16
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          351.21
Median TPOT (ms):                        351.07
P99 TPOT (ms):                           386.06
---------------Inter-token Latency----------------
Mean ITL (ms):                           351.21
Median ITL (ms):                         313.26
P99 ITL (ms):                            860.00
==================================================
"""
SGLANG = """============ Serving Benchmark Result ============
Backend:                                 sglang
Traffic request rate:                    inf
Max request concurrency:                 not set
Successful requests:                     200
Benchmark duration (s):                  33.06
Total input tokens:                      25437
Total input text tokens:                 25437
Total generated tokens:                  6453
Total generated tokens (retokenized):    6434
Request throughput (req/s):              6.05
Input token throughput (tok/s):          769.39
Output token throughput (tok/s):         195.18
Total token throughput (tok/s):          964.57
Concurrency:                             56.51
----------------End-to-End Latency----------------
Mean E2E Latency (ms):                   9341.16
Median E2E Latency (ms):                 9641.10
---------------Time to First Token----------------
Mean TTFT (ms):                          6194.29
---------------Inter-Token Latency----------------
Mean ITL (ms):                           0.00
==================================================
"""


def read(folder: Path, text: str, name: str = "run.log") -> pd.DataFrame:
    path = folder / name
    path.write_bytes(text.encode())
    frame = read_table(path)
    assert frame.attrs["format"] == "serving-console"
    return frame


def unknown(row: pd.Series, *names: str) -> bool:
    return all(name not in row or row[name] is None or row[name] != row[name] for name in names)


def test_the_block_of_vllm(tmp_path: Path) -> None:
    row = read(tmp_path, VLLM).iloc[0]
    assert (row["model"], row["concurrency"], row["n_requests"], row["n_failed"]) == ("org/m-8b", 4, 8, 0)
    assert (row["input_tokens"], row["output_tokens"]) == (128, 32)
    assert (row["ttft_s"], row["tpot_s"], row["itl_p99_s"]) == pytest.approx((3.0304, 0.35121, 0.86))
    assert (row["throughput_tok_s"], row["total_throughput_tok_s"]) == (9.19, 45.93)
    assert row["detail"] == "console"
    assert "rounded" in row["note"]


def test_the_block_and_the_file_of_one_run_are_known_as_one(tmp_path: Path) -> None:
    assert read(tmp_path, VLLM).at[0, "run_id"] == read_table(RUNS / "closed-c4.json").at[0, "run_id"]


def test_the_block_of_sglang(tmp_path: Path) -> None:
    row = read(tmp_path, SGLANG).iloc[0]
    assert (row["engine"], row["concurrency"], row["n_requests"]) == ("sglang", 200, 200)
    assert row["e2e_latency_s"] == pytest.approx(9.34116)
    assert row["sglang.mean_concurrency"] == 56.51
    assert unknown(row, "itl_s", "request_rate")


def test_several_blocks_in_one_log_with_prefixes_and_colours(tmp_path: Path) -> None:
    second = (
        VLLM.replace("inf", "2.5")
        .replace("Maximum request concurrency: 4\n", "")
        .replace("Maximum request concurrency:             4\n", "")
    )
    coloured = "\n".join(f"\x1b[32m# {line}\x1b[0m" for line in second.splitlines())
    frame = read(tmp_path, VLLM + "noise: 3\n" + coloured.replace("max_concurrency=4", "max_concurrency=None"))
    assert len(frame) == 2
    assert frame.at[1, "request_rate"] == 2.5
    assert unknown(frame.iloc[1], "concurrency")


def test_an_old_block_alone_says_no_load(tmp_path: Path) -> None:
    block = (
        VLLM[VLLM.index("====") :]
        .replace("Maximum request concurrency:             4\n", "")
        .replace("Failed requests:                         0\n", "")
    )
    row = read(tmp_path, block, "kept.txt").iloc[0]
    assert unknown(row, "concurrency", "request_rate", "batch_size")


def test_a_rate_in_the_block(tmp_path: Path) -> None:
    block = VLLM[VLLM.index("====") :].replace(
        "Maximum request concurrency:             4\n", "Request rate configured (RPS):           4.00\n"
    )
    assert read(tmp_path, block).at[0, "request_rate"] == 4


def test_a_run_that_failed_whole(tmp_path: Path) -> None:
    zeros = "\n".join(
        line
        if "concurrency" in line or "=" in line or "duration" in line
        else line.rstrip("0123456789.") + ("0.00" if "." in line else "0")
        for line in VLLM[VLLM.index("====") :].splitlines()
    )
    row = read(
        tmp_path,
        zeros.replace("Failed requests:                         0", "Failed requests:                         8"),
    ).iloc[0]
    assert (row["status"], row["n_failed"]) == ("crashed", 8)
    assert unknown(row, "ttft_s", "throughput_tok_s")


def test_a_block_that_breaks_off_within_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="breaks off"):
        read(tmp_path, VLLM[: VLLM.index("3030.40") + 3])
    with pytest.raises(FormatError, match="no duration"):
        read(tmp_path, VLLM[: VLLM.index("Benchmark duration")])


def test_a_block_far_down_a_log_is_found(tmp_path: Path) -> None:
    assert len(read(tmp_path, "line of a log\n" * 10_000 + VLLM)) == 1


def test_the_result_of_a_server_log_is_not_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("INFO: 127.0.0.1 POST /v1/completions 200 OK\n" * 50 + json.dumps({"a": 1}))
    with pytest.raises(FormatError, match="no known format"):
        read_table(path)


def test_the_offline_block_of_sglang(tmp_path: Path) -> None:
    block = """====== Offline Throughput Benchmark Result =======
Backend:                                 engine
Successful requests:                     100
Benchmark duration (s):                  10.00
Total input tokens:                      51200
Total generated tokens:                  12800
Last generation throughput (tok/s):      900.00
Request throughput (req/s):              10.00
Input token throughput (tok/s):          5120.00
Output token throughput (tok/s):         1280.00
Total token throughput (tok/s):          6400.00
==================================================
"""
    row = read(tmp_path, block).iloc[0]
    assert (row["engine"], row["batch_size"], row["input_tokens"], row["output_tokens"]) == ("sglang", 100, 512, 128)
    assert (row["throughput_tok_s"], row["total_throughput_tok_s"], row["detail"]) == (1280, 6400, "console")


def test_a_ramp_above_the_block_is_no_load(tmp_path: Path) -> None:
    text = VLLM.replace("Traffic request rate: inf\n", "Traffic ramp-up strategy: linear.\n")
    row = read(tmp_path, re.sub(r"Namespace.*\n|Maximum request concurrency.*\n", "", text)).iloc[0]
    assert "concurrency" not in row or row["concurrency"] != row["concurrency"]
    assert "the load ramps up" in row["note"]


LOGGED = {
    "a logger": lambda text: re.sub("(?m)^", "2025-01-01 12:00:00,123 INFO ", text),
    "kubectl": lambda text: re.sub("(?m)^", "2025-11-28T12:00:00.123456789Z stdout F ", text),
    "docker compose": lambda text: re.sub("(?m)^", "bench-1  | ", text),
    "colours": lambda text: re.sub("(?m)^(.*)$", "\x1b[32m\\1\x1b[0m", text),
    "bars": lambda text: re.sub("(?m)$", " |", text),
    "decimal commas": lambda text: re.sub(r"(\d)\.(\d\d)(?=\s)", r"\1,\2", text),
    "thousands": lambda text: re.sub(r"(: +)(\d+)(\.\d\d)(?=\s)", lambda m: f"{m[1]}{int(m[2]):,}{m[3]}", text),
}


@pytest.mark.parametrize("change", LOGGED.values(), ids=LOGGED)
def test_a_block_as_logs_and_locales_keep_it(tmp_path: Path, change) -> None:
    """The same numbers, whatever stands around them."""
    rows = []
    for number, text in enumerate((VLLM, change(VLLM))):
        path = tmp_path / f"{number}.log"
        path.write_text(text, encoding="utf-8")
        rows.append(read_table(path))
    pd.testing.assert_frame_equal(*rows)
