"""What the offline benchmarks of vLLM and SGLang print: lengths that the numbers bear out, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from fewmark.core import FormatError
from fewmark.interop import read_table

FIXTURES = Path(__file__).parent / "fixtures" / "offline-console-handmade"
ONE_BATCH = (
    "Prefill. latency: 0.37183 s, throughput:  11015.86 token/s\n"
    "Decode.  median latency: 0.01178 s, median throughput:    339.57 token/s\n"
    "Total. latency:  1.112 s, throughput:   3981.76 token/s\n"
)


def read(folder: Path, text: str) -> pd.DataFrame:
    (folder / "run.log").write_text(text)
    return read_table(folder / "run.log")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("throughput", {"batch_size": 1000, "input_tokens": 255.648, "output_tokens": 256, "throughput_tok_s": 8739.16,
                        "total_throughput_tok_s": 17466.3, "e2e_latency_s": 256000 / 8739.16, "precision": "bfloat16"}),
        ("latency", {"batch_size": 8, "input_tokens": 256, "output_tokens": 128, "e2e_latency_s": 1.4751}),
        ("one-batch", {"batch_size": 4, "input_tokens": 1024, "output_tokens": 83, "ttft_s": 0.37183,
                       "throughput_tok_s": 4 * 83 / 1.112}),
    ],
)  # fmt: skip
def test_what_was_printed(name: str, expected: dict[str, float | str]) -> None:
    frame = read_table(FIXTURES / f"{name}.log")
    assert frame.attrs["format"] == "offline-console"
    assert len(frame) == 1  # no warm-up
    for column, value in expected.items():
        assert frame.iloc[0][column] == (value if isinstance(value, str) else pytest.approx(value)), column


def test_a_log_with_a_time_before_each_line(tmp_path: Path) -> None:
    lines = (FIXTURES / "one-batch.log").read_text().splitlines()
    frame = read(tmp_path, "".join(f"2026-02-26T10:25:21Z \x1b[36m{line}\x1b[0m\r\n" for line in lines))
    told = read_table(FIXTURES / "one-batch.log")
    pd.testing.assert_frame_equal(frame, told)


def test_lengths_follow_from_the_numbers_where_those_leave_one(tmp_path: Path) -> None:
    row = read(tmp_path, ONE_BATCH).iloc[0]
    assert (row["batch_size"], row["input_tokens"], row["output_tokens"]) == (4, 1024, 83)


def test_a_command_line_that_the_numbers_contradict_is_of_another_run(tmp_path: Path) -> None:
    command = "python -m sglang.bench_one_batch --model-path m --batch-size 8 --input-len 200 --output-len 16\n"
    row = read(tmp_path, command + ONE_BATCH).iloc[0]
    assert (row["batch_size"], row["input_tokens"], row["output_tokens"]) == (4, 1024, 83)


@pytest.mark.parametrize(
    "text",
    [
        "Throughput: 1.84 requests/s, 2124.55 total tokens/s, 236.06 output tokens/s\nTotal num output tokens: 25600\n",
        "Throughput: 2.13 requests/s, 2458.73 tokens/s\n",
        "Avg latency: 1.47 seconds\n10% percentile latency: 1.46 seconds\n",
        "Prefill. latency: 3.736 s, throughput: 1096.2 token/s\nTotal. latency: 3.736 s, throughput: 1097.31 token/s\n",
    ],
)  # fmt: skip
def test_what_was_asked_for_is_not_guessed(tmp_path: Path, text: str) -> None:
    frame = read(tmp_path, text)
    assert frame[["batch_size", "output_tokens"]].isna().all(axis=None)
    assert "does not say" in frame.iloc[0]["note"]


def test_a_latency_that_any_log_may_hold_is_none_of_vllm(tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        read(tmp_path, "epoch 3: loss 0.1\nAvg latency: 0.52 seconds\n")
    told = read(tmp_path, "python benchmark_latency.py --batch-size 4\nAvg latency: 0.52 seconds\n").iloc[0]
    assert (told["batch_size"], told["e2e_latency_s"]) == (4, 0.52)


def test_the_engine_that_a_throughput_is_of_and_a_last_line_without_its_end(tmp_path: Path) -> None:
    asked = "Namespace(backend='hf', model='m', num_prompts=10, input_len=4, attention_backend='x')\n"
    row = read(tmp_path, asked + "Throughput: 2.00 requests/s, 24.00 tokens/s\nDone.").iloc[0]
    assert (row["engine"], row["tool"], row["e2e_latency_s"]) == ("transformers", "vllm", 5.0)


def test_of_two_results_in_a_row_each_has_its_own_lines(tmp_path: Path) -> None:
    rates = "Throughput: 1.00 requests/s, {0}.00 total tokens/s, {1}.00 output tokens/s\n"
    totals = "Total num prompt tokens:  {2}\nTotal num output tokens:  {3}\n"
    runs = "".join((rates + totals).format(*numbers) for numbers in ((12, 8, 40, 80), (24, 16, 80, 160)))
    frame = read(tmp_path, "vllm bench throughput --num-prompts 10\n" + runs)
    assert frame[["batch_size", "input_tokens", "output_tokens"]].to_numpy().tolist() == [[10, 4, 8], [10, 8, 16]]
    times = "Avg latency: {0}.0 seconds\n50% percentile latency: {0}.1 seconds\n"
    assert read(tmp_path, times.format(1) + times.format(2))["e2e_latency_s"].tolist() == [1.1, 2.1]


def test_a_log_that_breaks_off_within_a_number(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="breaks off"):
        read(tmp_path, "Throughput: 2.13 requests/s, 2458.73 tokens/s\nTotal num output tokens:  256")


def test_a_batch_and_what_it_printed_are_one_run(tmp_path: Path) -> None:
    result = {
        "run_name": "default", "batch_size": 4, "input_len": 1024, "output_len": 83, "prefill_latency": 0.3718312,
        "prefill_throughput": 11015.9, "median_decode_latency": 0.0117796, "median_decode_throughput": 339.57,
        "total_latency": 1.1121, "overall_throughput": 3981.76,
    }  # fmt: skip
    (tmp_path / "result.jsonl").write_text(json.dumps(result) + "\n")
    assert read_table(tmp_path / "result.jsonl")["run_id"].tolist() == read(tmp_path, ONE_BATCH)["run_id"].tolist()
