"""llama-bench in five outputs, llama-batched-bench, llama-benchy: what each test measures, and each trap by name."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fewmark.core import FormatError
from fewmark.interop import read_table

FIXTURES = Path(__file__).parent / "fixtures"
REAL = FIXTURES / "llama-bench" / "results.jsonl"

# Hand-made from the keys that llama-bench b11434 writes.
TEST: dict[str, Any] = {
    "build_commit": "83bc2f28",
    "build_number": 11434,
    "cpu_info": "Some CPU",
    "gpu_info": "NVIDIA X100, NVIDIA X100",
    "backends": "CUDA",
    "model_filename": "models/org/tiny-1b-F32.gguf",
    "model_type": "llama 1B all F32",
    "model_size": 3825065984,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_threads": 8,
    "type_k": "f16",
    "type_v": "f16",
    "n_gpu_layers": -1,
    "flash_attn": -1,
    "devices": "auto",
    "load_mode": "mmap",
    "lazy_mode": 0,
    "n_prompt": 512,
    "n_gen": 0,
    "n_depth": 0,
    "test_time": "2026-11-28T09:00:00Z",
    "avg_ns": 100_000_000,
    "stddev_ns": 1,
    "avg_ts": 5120.0,
    "stddev_ts": 0.1,
}
MARKDOWN = """ggml_cuda_init: found 1 CUDA devices:
  Device 0: NVIDIA GeForce RTX 4090, compute capability 8.9, VMM: yes
| model                  |     size |   params | backend | ngl | fa |          test |              t/s |
| ---------------------- | -------: | -------: | ------- | --: | -: | ------------: | ---------------: |
| llama 7B Q4_K - Medium | 3.80 GiB |   6.74 B | CUDA    |  99 |  1 |         pp512 | 12000.00 ± 30.10 |
| llama 7B Q4_K - Medium | 3.80 GiB |   6.74 B | CUDA    |  99 |  1 | tg128 @ d4096 |    160.00 ± 0.10 |
| llama 7B Q4_K - Medium | 3.80 GiB |   6.74 B | CUDA    |  99 |  1 |   pp512+tg128 |    640.00 ± 0.10 |

build: 83bc2f28 (6077)
"""
BATCHED = """main: n_kv_max = 4096, n_batch = 2048, is_pp_shared = 0, n_gpu_layers = -1

|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|   128 |     32 |    1 |    160 |    0.050 |  2560.00 |    0.320 |   100.00 |    0.370 |   432.43 |
|   128 |     32 |    4 |    640 |    0.160 |  3200.00 |    0.400 |   320.00 |    0.560 |  1142.86 |
"""


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


def test_real_lines_with_the_test_nested_in_another_scripts_record() -> None:
    frame = read_table(REAL)
    lines = [json.loads(line) for line in REAL.read_text().splitlines()]
    assert frame.attrs["format"] == "llama-bench"
    for (_, row), line in zip(frame.iterrows(), lines, strict=True):
        test = line["bench_raw"]
        assert (row["engine"], row["engine_version"], row["model"]) == (
            "llama.cpp",
            f"b{test['build_number']}",
            "llama-2-7b",
        )
        assert (row["precision"], row["accelerator"]) == ("Q4_0", test["gpu_info"])
        assert row["n_repeats"] == len(test["samples_ns"])
        assert row["e2e_latency_s"] == sorted(test["samples_ns"])[len(test["samples_ns"]) // 2] / 1e9
        assert row["power_w"] == line["avg_power_w"]
        if test["n_gen"] == 0:
            assert (row["input_tokens"], row["output_tokens"]) == (test["n_prompt"], 1)
            assert row["ttft_s"] == row["e2e_latency_s"]
            assert unknown(row, "tpot_s", "decode_throughput_tok_s")
        else:
            assert row["output_tokens"] == test["n_gen"]
            assert row["tpot_s"] == pytest.approx(1 / test["avg_ts"], rel=0.05)
            assert unknown(row, "ttft_s")


def test_what_a_script_varied_around_the_test_tells_rows_apart(tmp_path: Path) -> None:
    around = {
        "mode": "pp",
        "build": "llama.cpp-hip",
        "hipblaslt": "",
        "log": "/tmp/run 1",
        "at": "2025-08-04T10:37:05Z",
    }
    lines = [{"bench_raw": TEST, **around}, {"bench_raw": TEST, **around, "hipblaslt": "1"}]
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = read_table(path)
    assert list(table["option.build"]) == ["llama.cpp-hip"] * 2
    assert pd.isna(table["option.hipblaslt"][0]) and table["option.hipblaslt"][1] == "1"
    assert not {"option.mode", "option.log", "option.at"} & set(table.columns)


def test_chunk_size_is_no_batch(tmp_path: Path) -> None:
    row = one(written(tmp_path, [TEST]))
    assert (row["batch_size"], row["option.n_batch"]) == (1, 2048)


def test_layers_of_minus_one_are_left_to_the_engine(tmp_path: Path) -> None:
    row = one(written(tmp_path, [TEST]))
    assert unknown(row, "option.n_gpu_layers", "option.flash_attn")
    assert row["option.load_mode"] == "mmap"
    row = one(written(tmp_path, [{**TEST, "n_gpu_layers": 99}]))
    assert row["option.n_gpu_layers"] == 99


def test_cache_type_is_not_the_weights_precision(tmp_path: Path) -> None:
    row = one(written(tmp_path, [TEST]))
    assert (row["precision"], row["option.type_k"]) == ("F32", "f16")
    assert row["model"] == "tiny-1b"


def test_devices_are_counted(tmp_path: Path) -> None:
    row = one(written(tmp_path, [TEST]))
    assert (row["accelerator"], row["accelerator_count"]) == ("NVIDIA X100", 2)
    row = one(written(tmp_path, [{**TEST, "backends": "CPU", "gpu_info": ""}]))
    assert row["accelerator"] == "Some CPU"
    assert unknown(row, "accelerator_count")


def test_prompt_with_generation_counts_both_kinds(tmp_path: Path) -> None:
    row = one(written(tmp_path, [{**TEST, "n_gen": 128, "avg_ns": 1_000_000_000, "avg_ts": 640.0}]))
    assert (row["input_tokens"], row["output_tokens"], row["e2e_latency_s"]) == (512, 128, 1)
    assert (row["throughput_tok_s"], row["total_throughput_tok_s"]) == (128, 640)
    assert unknown(row, "ttft_s", "tpot_s")


def test_depth_is_an_axis_of_the_workload(tmp_path: Path) -> None:
    row = one(written(tmp_path, [{**TEST, "n_depth": 4096}]))
    assert (row["input_tokens"], row["workload.cached_tokens"]) == (4608, 4096)


def test_markdown(tmp_path: Path) -> None:
    frame = read_table(written(tmp_path, MARKDOWN, "bench.md"))
    assert frame["test"].tolist() == ["pp512", "tg128 @ d4096", "pp512+tg128"]
    assert frame["ttft_s"].tolist()[0] == pytest.approx(512 / 12000)
    assert frame["tpot_s"].tolist()[1] == pytest.approx(1 / 160)
    assert frame["total_throughput_tok_s"].tolist()[2] == pytest.approx(640)
    assert set(frame["precision"]) == {"Q4_K"}
    assert set(frame["accelerator"]) == {"NVIDIA GeForce RTX 4090"}
    old = MARKDOWN.replace("         pp512 |", "        pp 512 |").replace("Q4_K - Medium", "mostly Q4_K  ")
    frame = read_table(written(tmp_path, old, "bench.md"))
    assert (frame["test"][0], frame["model"][0], frame["precision"][0]) == ("pp512", "llama 7B", "Q4_K")
    with pytest.raises(FormatError, match="unknown test"):
        read_table(written(tmp_path, MARKDOWN.replace("pp512 |", "zz512 |"), "bench.md"))
    with pytest.raises(FormatError, match="cell for each column"):
        read_table(written(tmp_path, MARKDOWN.replace("|  1 |         pp512", "|         pp512"), "bench.md"))


def test_csv_json_lines_and_sql_say_the_same(tmp_path: Path) -> None:
    expected = one(written(tmp_path, [TEST]))
    text = io.StringIO()
    names = csv.writer(text, quoting=csv.QUOTE_ALL)
    names.writerow(TEST)
    names.writerow(TEST.values())
    values = ", ".join("'" + str(value).replace("'", "''") + "'" for value in TEST.values())
    sql = (
        "CREATE TABLE IF NOT EXISTS llama_bench (\n  build_commit TEXT\n);\n\n"
        f"INSERT INTO llama_bench ({', '.join(TEST)}) VALUES ({values});\n"
    )
    for content, name in ((text.getvalue(), "r.csv"), (json.dumps(TEST) + "\n", "r.jsonl"), (sql, "r.sql")):
        row = one(written(tmp_path, content, name))
        same = [
            "model",
            "precision",
            "accelerator",
            "ttft_s",
            "input_tokens",
            "option.n_batch",
            "option.type_k",
            "run_id",
        ]
        assert row[same].tolist() == expected[same].tolist(), name


def test_sql_quotes_within_values(tmp_path: Path) -> None:
    sql = (
        "INSERT INTO test (cpu_info, backends, n_prompt, n_gen, avg_ts, model_type) "
        "VALUES ('Maker''s CPU, 8 cores', 'CPU', '0', '128', '100.0', 'llama 7B Q8_0');"
    )
    row = one(written(tmp_path, sql, "r.sql"))
    assert (row["accelerator"], row["tpot_s"], row["precision"]) == ("Maker's CPU, 8 cores", 0.01, "Q8_0")


@pytest.mark.parametrize("changes", [{"n_prompt": 0}, {"n_prompt": "many"}, {"avg_ts": 0, "avg_ns": 0}])
def test_tests_that_say_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="test 1"):
        read_table(written(tmp_path, [{**TEST, **changes}]))


def test_batched_markdown_and_json_lines(tmp_path: Path) -> None:
    frame = read_table(written(tmp_path, BATCHED, "batched.md"))
    assert frame.attrs["format"] == "llama-batched-bench"
    row = frame.iloc[1]
    assert (row["batch_size"], row["input_tokens"], row["output_tokens"]) == (4, 128, 32)
    assert (row["ttft_s"], row["e2e_latency_s"]) == (0.16, pytest.approx(0.56))
    assert row["tpot_s"] == pytest.approx(0.4 / 32)
    assert row["throughput_tok_s"] == pytest.approx(4 * 32 / 0.56)
    assert row["decode_throughput_tok_s"] == pytest.approx(320)
    assert row["total_throughput_tok_s"] == pytest.approx(1142.86, rel=1e-4)
    line = {"n_kv_max": 4096, "n_batch": 2048, "flash_attn": -1, "is_pp_shared": 1, "n_gpu_layers": -1}
    line |= {"pp": 128, "tg": 32, "pl": 4, "n_kv": 640, "t_pp": 0.05, "t_tg": 0.4, "speed": 1.0}
    row = one(written(tmp_path, json.dumps(line) + "\n", "batched.jsonl"))
    assert bool(row["workload.shared_prompt"])
    assert row["total_throughput_tok_s"] == pytest.approx((4 * 32 + 128) / 0.45)  # the shared prompt counts once
    assert unknown(row, "option.n_gpu_layers", "option.flash_attn")


def test_benchy() -> None:
    frame = read_table(FIXTURES / "llama-benchy-0.3" / "sample.json")
    assert frame["concurrency"].tolist() == [1, 2]
    row = frame.iloc[0]
    assert (row["input_tokens"], row["output_tokens"], row["n_repeats"]) == (2048, 32, 2)
    assert row["ttft_s"] == pytest.approx(2.0760429790243506)  # milliseconds in the file
    assert row["tpot_s"] == pytest.approx((1 / 50.00830782969089 + 1 / 49.94739413736796) / 2)
    assert frame.iloc[1]["decode_throughput_tok_s"] == pytest.approx(98.70484912562281)
    assert frame.iloc[1]["n_requests"] == 4
    assert "lengths are those asked for" in row["note"]


def test_benchy_context_loaded_before(tmp_path: Path) -> None:
    data = json.loads((FIXTURES / "llama-benchy-0.3" / "sample.json").read_text())
    data["benchmarks"][0] |= {"context_size": 4096, "is_context_prefill_phase": True}
    data["benchmarks"][1] |= {"context_size": 4096}
    frame = read_table(written(tmp_path, data))
    assert frame["input_tokens"].tolist() == [4096, 6144]
    assert frame["workload.cached_tokens"].tolist()[1] == 4096


@pytest.mark.parametrize("name", ["r.json", "r.csv", "r.md"])
def test_benchy_in_three_formats_against_a_clocked_server(name: str) -> None:
    frame = read_table(FIXTURES / "llama-benchy-0.4.0" / name)
    assert frame.attrs["format"] == "llama-benchy"
    assert frame["concurrency"].tolist() == [1, 4, 1, 1, 4, 4]
    assert frame["input_tokens"].tolist() == [64, 64, 32, 96, 32, 96]
    assert frame["workload.cached_tokens"].fillna(0).tolist() == [0, 0, 0, 32, 0, 32]
    assert frame["ttft_s"].tolist() == pytest.approx([0.3] * 6, rel=0.2)  # the first token comes after 300 ms
    assert frame["tpot_s"].tolist() == pytest.approx([0.02] * 6, rel=0.1)
    known = frame["output_tokens"].dropna()
    assert set(known) == {8}
    assert len(known) == (6 if name == "r.json" else 4)


def test_benchy_peak_counts_a_token_too_many() -> None:
    row = read_table(FIXTURES / "llama-benchy-0.4.0" / "r.json").iloc[0]
    assert row["decode_throughput_tok_s"] == pytest.approx(50, rel=0.01)
    assert row["llama-benchy.peak_tok_s"] == pytest.approx(50 * 8 / 7, rel=0.01)


def test_benchy_tables_of_before(tmp_path: Path) -> None:  # hand-made
    text = (
        "| model | test | t/s | ttfr (ms) | est_ppt (ms) | e2e_ttft (ms) |\n|:--|--:|--:|--:|--:|--:|\n"
        "| m | pp2048 | 987.10 ± 1.08 | 2076.04 ± 2.26 | 2074.77 ± 2.26 | 2076.04 ± 2.26 |\n"
        "| m | tg32 | 49.98 ± 0.03 | | | |\n"
    )
    row = one(written(tmp_path, text, "r.md"))
    assert (row["ttft_s"], row["tpot_s"], row["concurrency"]) == (2.07604, pytest.approx(1 / 49.98), 1)
    with pytest.raises(FormatError, match="unknown test"):
        read_table(written(tmp_path, text.replace("pp2048", "zz2048"), "r.md"))


@pytest.mark.parametrize(
    ("content", "name"),
    [(MARKDOWN, "llama-bench"), (BATCHED, "llama-batched-bench"), (json.dumps([TEST]), "llama-bench")],
)
def test_cut_short_and_alien(tmp_path: Path, content: str, name: str) -> None:
    with pytest.raises(FormatError):
        read_table(written(tmp_path, content[: len(content) // 3]), name)
    for alien in ("{}", "[]", "a,b\n1,2\n", "| a | b |\n", '{"pp": 1}'):
        with pytest.raises(FormatError):
            read_table(written(tmp_path, alien), name)
