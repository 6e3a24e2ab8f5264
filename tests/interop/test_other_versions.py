"""Results of versions of the tools that no fixture is of, and tables that a spreadsheet saved anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fewmark.core import FewmarkError, FormatError
from fewmark.interop import read_table
from fewmark.interop.base import NotAResultError
from fewmark.interop.text.decimal_mark import with_points

FIXTURES = Path(__file__).parent / "fixtures"
LLAMA_BENCH = {
    "build_commit": "8cf427ff", "build_number": "5163", "cpu_info": "AMD Ryzen 7", "gpu_info": "NVIDIA RTX 4080",
    "backends": "CUDA", "model_filename": "models/Qwen2.5-7B-Q4_K_M.gguf", "model_type": "qwen2 7B Q4_K - Medium",
    "n_batch": "2048", "n_gpu_layers": "99", "tensor_split": "0.00", "n_prompt": "0", "n_gen": "128", "n_depth": "0",
    "avg_ns": "1002066000", "avg_ts": "127.736000", "stddev_ts": "0.820000",
}  # fmt: skip
INFERENCE_BENCH = (
    "Hardware,Framework,Model,Input Output Length,Batch Size,Latency,Throughput\nA100,vLLM,L,128,1,1.5,170.67"
)
SPLITWISE = (
    "model,hardware,tensor_parallel,prompt_size,batch_size,token_size,prompt_time,token_time,e2e_time\n"
    "llama-70b,h100-80gb,8,512,1,128,58.5,28.5,3706.0"
)
FMWORK = (
    "back,mm,prec,hw,hwc,ii,oo,bb,tp,med,ttft,gen,itl,thp\nvllm,m,fp16,H100,1,1024,1024,1,1,8.204,8.1,0.104,7.91,126.4"
)
AICONFIGURATOR = (
    "model,isl,osl,concurrency,bs,ttft,tpot,seq/s,tokens/s,tokens/s/gpu,tokens/s/user,request_latency,num_total_gpus,"
    "tp,pp,backend,version,system\n"
    "QWEN3_32B,4000,500,8,8,700.5,10.5,0.5,250.5,125.25,95.2,5939.5,2,2,1,trtllm,1.0.0rc3,h200_sxm"
)
ADO = (
    "identifier,model,image,number_input_tokens,max_output_tokens,num_prompts,request_rate,max_concurrency,n_gpus,"
    "gpu_type,duration,completed,total_input_tokens,total_output_tokens,request_throughput,output_throughput,"
    "total_token_throughput,mean_ttft_ms,mean_tpot_ms,mean_itl_ms,mean_e2el_ms\n"
    "e1,m,quay.io/vllm:v0.9.1,1024,128,100,-1,8,1,A100,50.5,100,102400,12800,1.98,253.47,2281.2,100.5,20.5,20.5,2704.0"
)
TABLES = {
    "llama-bench": ",".join(LLAMA_BENCH) + "\n" + ",".join(LLAMA_BENCH.values()),
    "llm-inference-bench": INFERENCE_BENCH,
    "splitwise": SPLITWISE,
    "fmwork": FMWORK,
    "aiconfigurator": AICONFIGURATOR,
    "ado": ADO,
}


def one(folder: Path, value: Any, name: str = "result.json") -> pd.Series:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    frame = read_table(path)
    assert len(frame) == 1
    row = frame.iloc[0]
    row.attrs["format"] = frame.attrs["format"]
    return row


@pytest.mark.parametrize(("separator", "decimal"), [(";", ","), (";", "."), ("\t", ","), ("\t", ".")])
@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_a_spreadsheet_saved_anew(tmp_path: Path, name: str, separator: str, decimal: str) -> None:
    told = one(tmp_path, TABLES[name] + "\n", "as-written.csv")
    cells = [line.split(",") for line in TABLES[name].splitlines()]
    cells[1] = [cell.replace(".", decimal) if cell.replace(".", "").isdigit() else cell for cell in cells[1]]
    again = one(tmp_path, "\ufeff" + "\r\n".join(map(separator.join, cells)) + "\r\n", "anew.csv")
    assert told.attrs["format"] == again.attrs["format"] == name
    pd.testing.assert_series_equal(told, again)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_guidellms_table_that_a_spreadsheet_saved_anew(tmp_path: Path, separator: str) -> None:
    import csv

    source = FIXTURES / "guidellm-0.8.1" / "closed-c4.csv"
    path = tmp_path / "anew.csv"
    with source.open(newline="") as stream, path.open("w", newline="") as out:
        csv.writer(out, delimiter=separator).writerows(csv.reader(stream))
    pd.testing.assert_frame_equal(read_table(source), read_table(path))


@pytest.mark.parametrize(
    ("cells", "separator", "expected"),
    [
        (["1,5", "1.234,5", "x,y"], ";", ["1.5", "1234.5", "x,y"]),
        (["1,234"], ",", ["1234"]),  # as tools write it
        (["1,234", "1,5"], "\t", ["1.234", "1.5"]),
        (["1,234", "12.5"], ";", ["1234", "12.5"]),
        (["1,234", "0,5", "1.234"], ";", ["1.234", "0.5", "1234"]),
        (["1,234", "1,234.5"], "\t", ["1234", "1234.5"]),
        (["1,234,567"], ";", ["1234567"]),
        (["0,234"], ";", ["0.234"]),  # no thousands begin with a nought
        (["12.5", "1,5", "2,5"], ";", ["12.5", "1.5", "2.5"]),  # each says its own
        (["1,1", "3,1"], "\t", ["1,1", "3,1"]),
        (["1,1,1", "2,1"], ";", ["1,1,1", "2,1"]),
    ],
)
def test_decimal_marks(cells: list[str], separator: str, expected: list[str]) -> None:
    lists = {"device_ids": ["0,1"], "gpu": ["0,1"], "tensor_split": ["1,1", "3,1"], "version": ["0.23"]}
    assert with_points({"a": cells, **lists}, separator) == {"a": expected, **lists}


@pytest.mark.parametrize("others", [["128"], ["12.5", "1,5"]])
def test_a_comma_that_nothing_explains_is_asked_about(others: list[str]) -> None:
    with pytest.raises(FormatError, match="column a can be read in two ways"):
        with_points({"a": ["1,234"], "tensor_split": ["1,1"], "n": others}, ";")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("rate", ["1,234", "1,234 tok/s"])
def test_a_table_of_ones_own_is_asked_about_in_the_same_words(tmp_path: Path, separator: str, rate: str) -> None:
    names, cells = (
        ["model", "input_tokens", "output_tokens", "concurrency", "throughput_tok_s"],
        ["m", "512", "64", "8", rate],
    )
    with pytest.raises(FormatError, match="column throughput_tok_s can be read in two ways"):
        one(tmp_path, f"{separator.join(names)}\n{separator.join(cells)}\n", "own.csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# AIPerf Server Metrics Export\nEndpoint,Type,Metric,Unit,avg,min,max,p99\nhere,gauge,kv,ratio,1,1,1,1\n",
         "server's metrics"),
        ("Metric,avg,min,max,p99\nSpeed of light,1,1,1,1\n", "no known format"),
        (json.dumps({"successful_requests": 3, "total_latency": 2.0, "total_throughput": 9.0}), "no known format"),
    ],
)  # fmt: skip
def test_a_table_of_another_tool_is_not_taken_for_a_known_one(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / ("own.json" if text[0] == "{" else "own.csv")
    path.write_text(text)
    with pytest.raises(FewmarkError) as caught:
        read_table(path)
    assert says in str(caught.value)


def test_a_switch_is_no_degree_of_parallelism(tmp_path: Path) -> None:
    text = "engine,model,accelerator,input_tokens,output_tokens,batch_size,throughput_tok_s,expert_parallel,dp\n"
    row = one(tmp_path, text + "vllm,m,H100,128,128,1,100,True,2\n", "own.csv")
    assert row["expert_parallel"] and row["option.data_parallel_size"] == 2
    assert "option.expert_parallel_size" not in row


def test_ado_whose_columns_are_those_of_vllms_client(tmp_path: Path) -> None:
    row = one(tmp_path, ADO, "ado.csv")
    assert (row["tool"], row["model"], row["accelerator_count"], row["concurrency"]) == ("ado", "m", 1, 8)


def test_llama_bench_file_whose_name_says_nothing(tmp_path: Path) -> None:
    test = {**LLAMA_BENCH, "model_filename": "models/7B/ggml-model-q4_0.gguf", "model_type": "llama 7B mostly Q4_0"}
    row = one(tmp_path, test, "old.json")
    assert (row["model"], row["precision"]) == ("llama 7B", "Q4_0")


def test_batched_bench_prompt_that_is_shared_stands_above_the_table(tmp_path: Path) -> None:
    text = (
        "main: n_kv_max = 2048, n_batch = 2048, flash_attn = -1, is_pp_shared = 1, n_gpu_layers = 99, n_threads = 8\n\n"
        "|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |\n"
        "|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|\n"
        "|   128 |    128 |    2 |    384 |    0.200 |   640.00 |    5.000 |    51.20 |    5.200 |    73.85 |\n"
    )
    row = one(tmp_path, text, "bench.md")
    assert row["workload.shared_prompt"]
    assert row["option.n_gpu_layers"] == 99
    assert row["total_throughput_tok_s"] == pytest.approx((2 * 128 + 128) / 5.2)


def test_sglang_offline_without_the_last_throughput(tmp_path: Path) -> None:
    result = {
        "backend": "engine", "successful_requests": 10, "total_latency": 5.0, "total_input_tokens": 1000,
        "total_output_tokens": 500, "request_throughput": 2.0, "input_throughput": 200.0, "output_throughput": 100.0,
        "total_throughput": 300.0,
    }  # fmt: skip
    row = one(tmp_path, result)
    assert (row["batch_size"], row["throughput_tok_s"], row["e2e_latency_s"]) == (10, 100.0, 5.0)


def test_inference_perf_whose_median_is_called_p50(tmp_path: Path) -> None:
    def same(value: float) -> dict[str, float]:
        return {"mean": value, "min": value, "p10": value, "p50": value, "p90": value, "max": value}

    latency = {
        "request_latency": same(1.0), "time_per_output_token": same(0.029), "time_to_first_token": same(0.1),
        "inter_token_latency": same(0.029),
    }  # fmt: skip
    rates = {"output_tokens_per_sec": 64.0, "total_tokens_per_sec": 320.0, "requests_per_sec": 2.0}
    good = {"count": 20, "latency": latency, "throughput": rates, "prompt_len": same(128), "output_len": same(32)}
    load = {"count": 20, "send_duration": 9.5, "requested_rate": 2.0, "achieved_rate": 2.1}
    report = {"load_summary": load, "successes": good, "failures": {"count": 0}}
    row = one(tmp_path, report, "stage_0_lifecycle_metrics.json")
    assert (row["itl_s"], row["itl_p50_s"], row["request_rate"]) == (0.029, 0.029, 2.0)


def metric(value: float, unit: str = "ms") -> dict[str, Any]:
    return {"unit": unit, "avg": value, "p50": value, "p90": value, "p95": value, "p99": value, "std": 0.0}


REPORT = {
    "request_throughput": {"unit": "requests/sec", "avg": 2.0},
    "request_count": {"unit": "requests", "avg": 10},
    "request_latency": metric(1000.0),
    "time_to_first_token": metric(100.0),
    "inter_token_latency": metric(900 / 31),
    "output_sequence_length": metric(32.0, "tokens"),
    "input_sequence_length": metric(128.0, "tokens"),
    "output_token_throughput": {"unit": "tokens/sec", "avg": 64.0},
}


def test_genai_perf_with_a_list_of_models(tmp_path: Path) -> None:
    settings = {"model": ["m"], "formatted_model_name": "m", "concurrency": 2, "request_rate": None}
    row = one(tmp_path, {**REPORT, "input_config": settings})
    assert (row["tool"], row["model"], row["concurrency"]) == ("genai-perf", "m", 2)


@pytest.mark.parametrize(
    "settings", [{"loadgen": {"concurrency": 2}}, {"concurrency": 2, "cli_command": "aiperf profile"}]
)
def test_aiperf_before_it_named_its_version(tmp_path: Path, settings: dict[str, Any]) -> None:
    row = one(tmp_path, {**REPORT, "input_config": settings, "was_cancelled": False})
    assert (row["tool"], row["concurrency"], row["tpot_s"]) == ("aiperf", 2, pytest.approx(0.9 / 31))


def test_aiperf_report_of_a_run_without_a_success(tmp_path: Path) -> None:
    report = {
        "schema_version": "1.2",
        "aiperf_version": "0.8.0",
        "error_request_count": {"unit": "requests", "avg": 10.0},
        "input_config": {"loadgen": {"concurrency": 2}},
        "error_summary": [{"error_details": {"code": 500, "message": "CUDA out of memory"}, "count": 10}],
    }
    row = one(tmp_path, report)
    assert (row["status"], row["n_failed"], row["concurrency"]) == ("out_of_memory", 10, 2)


GENAI_CSV = (
    "Metric,avg,min,max,p99,p95,p90,p75,p50,p25\n"
    'Request Latency (ms),"1,000.00",990,1010,1010,1010,1010,1010,"1,000.00",1000\n'
    "Time To First Token (ms),100.00,90,110,109,108,107,105,100,95\n"
    "Inter Token Latency (ms),29.03,29,29,29,29,29,29,29,29\n"
    "Output Sequence Length (tokens),32.00,32,32,32,32,32,32,32,32\n"
    "Input Sequence Length (tokens),128.00,128,128,128,128,128,128,128,128\n\n"
    "Metric,Value\nOutput Token Throughput (tokens/sec),64.00\nRequest Throughput (per sec),2.00\n"
    "Request Count (count),10\n"
)


def test_the_rounded_table_alone_is_read(tmp_path: Path) -> None:
    row = one(tmp_path, GENAI_CSV, "m-openai-chat-concurrency2/profile_export_genai_perf.csv")
    assert (row["tool"], row["detail"], row["concurrency"], row["n_requests"]) == ("genai-perf", "console", 2, 10)
    assert (row["e2e_latency_s"], row["e2e_latency_p50_s"], row["ttft_s"]) == (1.0, 1.0, 0.1)
    assert (row["throughput_tok_s"], row["input_tokens"], row["output_tokens"]) == (64.0, 128.0, 32.0)


def test_the_rounded_table_says_what_the_report_says() -> None:
    table = read_table(FIXTURES / "aiperf-0.13.0-csv" / "profile_export_aiperf.csv").iloc[0]
    report = read_table(FIXTURES / "aiperf-0.13.0" / "closed-c4" / "profile_export_aiperf.json").iloc[0]
    names = [name for name in report.index if name.endswith(("_s", "tokens")) and report[name] == report[name]]
    assert len(names) > 20
    assert table[names].astype(float).to_numpy() == pytest.approx(report[names].astype(float).to_numpy(), rel=0.006)


def test_the_rounded_table_beside_its_report_is_no_second_run(tmp_path: Path) -> None:
    one(tmp_path, {**REPORT, "input_config": {}}, "profile_export_genai_perf.json")
    with pytest.raises(NotAResultError, match=r"rounded table"):
        one(tmp_path, GENAI_CSV, "profile_export_genai_perf.csv")


@pytest.mark.parametrize(
    "value",
    [
        {"experiments": [{"experiment": {"mode": "concurrency", "value": 2}, "requests": [], "window_boundaries": []}]},
        {"name": "b", "backend": {"name": "py"}, "scenario": {"name": "inference"}, "launcher": {"name": "process"}},
        [{
            "benchmark": {"name": "vLLM benchmark", "extra_info": {"args": {}}}, "model": {"name": "m"},
            "metric": {
                "name": "tokens_per_second", "benchmark_values": [64.0],
                "extra_info": {"elapsed_time": 10.0, "num_requests": 1000, "total_num_tokens": 640000},
            },
        }],
    ],
)  # fmt: skip
def test_what_lies_beside_results_is_none(tmp_path: Path, value: Any) -> None:
    with pytest.raises(NotAResultError):
        one(tmp_path, value)


def test_a_rounded_table_that_was_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="line 3: 10 fields are needed, not 4"):
        one(tmp_path, "\n".join(GENAI_CSV.splitlines()[:2]) + "\nTime To First Token (ms),100.00,90,110", "x.csv")


def early_guidellm(*, words: bool = False) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((FIXTURES / "guidellm-0.1-handmade" / "report.json").read_text())
    for benchmark in report["benchmarks"][0]["benchmarks"]:
        for result in benchmark["results"] if words else ():
            result |= {f"{kind}_token_count": result[f"{kind}_word_count"] for kind in ("prompt", "output")}
    return report


def test_guidellm_before_it_had_statistics(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(early_guidellm()))
    alone, paced, endless = (row for _, row in read_table(tmp_path / "report.json").iterrows())
    assert (alone["concurrency"], paced["request_rate"], paced["n_failed"]) == (1, 2.0, 1)
    assert (alone["input_tokens"], alone["output_tokens"], alone["ttft_s"]) == (128, 32, 0.3)
    assert alone["tpot_s"] == pytest.approx((1.541 - 0.3) / 31, rel=1e-4)
    assert alone["itl_s"] == pytest.approx(0.04, rel=1e-4)
    assert endless["status"] == "crashed"


def test_guidellm_that_counted_words_has_no_tokens(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(early_guidellm(words=True)))
    row = read_table(tmp_path / "report.json").iloc[0]
    assert row[["input_tokens", "output_tokens", "tpot_s", "throughput_tok_s"]].isna().all()
    assert row["ttft_s"] == 0.3
    assert "words" in row["note"]


def test_llmservingsim_whose_output_is_the_position_of_its_end(tmp_path: Path) -> None:
    """The tokens that the time leaves room for are those behind the input."""
    text = "instance id,request id,model,input,output,arrival,end_time,latency,queuing_delay,TTFT,TPOT,ITL\n"
    row = one(tmp_path, text + '0,7,m,16,25,0,1050000000,1050000000,0,150000000,112500000,"[112500000]"\n', "sim.csv")
    assert (row["input_tokens"], row["output_tokens"], row["tpot_s"]) == (16, 9, pytest.approx(0.1125))
    alone = '0,8,m,16,17,0,150000000,150000000,0,150000000,0,"[]"\n'  # one token, which took no time after the first
    both = one(
        tmp_path, text + '0,7,m,16,25,0,1050000000,1050000000,0,150000000,112500000,"[112500000]"\n' + alone, "sim.csv"
    )
    assert (both["input_tokens"], both["output_tokens"]) == (16, 5)
    later = one(tmp_path, text + '0,7,m,16,9,0,1050000000,1050000000,0,150000000,112500000,"[112500000]"\n', "sim.csv")
    assert (later["output_tokens"], later["tpot_s"]) == (9, pytest.approx(0.1125))


@pytest.mark.parametrize("key", ["99", "99.0", "99.00", "p99"])
def test_mlcommons_percentiles_however_they_are_spelled(tmp_path: Path, key: str) -> None:
    report = {
        "n_samples_completed": 150, "n_samples_failed": 0, "duration_ns": 10**10, "complete": True,
        "output_sequence_lengths": {"total": 12000, "avg": 80}, "input_sequence_lengths": {"total": 30000, "avg": 200},
        "ttft": {"avg": 12_000_000, "percentiles": {key: 20_000_000}},
    }  # fmt: skip
    assert one(tmp_path, report, "result_summary.json")["ttft_p99_s"] == pytest.approx(0.02)


BLIS = (
    "request_id,client_id,streaming,input_tokens,output_tokens,arrival_time_us,send_time_us,first_chunk_time_us,"
    "last_chunk_time_us,num_chunks\n"
    "0,c,true,512,128,0,1000,301000,5381000,128\n1,c,true,512,128,0,1001000,1301000,6381000,128\n"
    "2,c,true,512,128,0,2001000,2301000,7381000,128\n3,c,true,698,64,1590500,,,,\n"
)


@pytest.mark.parametrize("version", [2, 3])
def test_blis_trace_before_it_had_a_status(tmp_path: Path, version: int) -> None:
    (tmp_path / "trace.yaml").write_text(f"trace_version: {version}\ntime_unit: microseconds\nmode: real\n")
    row = one(tmp_path, BLIS, "trace.csv")
    assert (row["n_requests"], row["n_failed"], row["request_rate"]) == (3, 0, pytest.approx(1.0))
    assert (row["ttft_s"], row["tpot_s"]) == (pytest.approx(0.3), pytest.approx(5.08 / 127))


def test_aisimulate_report_of_estimates_alone(tmp_path: Path) -> None:
    """Without single requests there are neither counts of samples nor a time of the simulator."""
    summary = {
        "completed_requests": 4, "num_requests": 4, "duration_ms": 2000.0, "mean_ttft_ms": 100.0, "mean_tpot_ms": 10.0,
        "mean_e2e_latency_ms": 410.0, "output_throughput_tok_s": 64.0, "gpu_hours": 0.01,
    }  # fmt: skip
    row = one(tmp_path, {"metadata": {"total_gpus": 2, "model": "m"}, "summary": summary}, "prediction.json")
    assert (row["provenance"], row["model"], row["accelerator_count"]) == ("predicted", "m", 2)
    assert (row["ttft_s"], row["tpot_s"], row["e2e_latency_s"]) == (0.1, 0.01, pytest.approx(0.41))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("title", ["", "Table - Inference_Full Data_data\n"])
@pytest.mark.parametrize(("nodes", "count"), [(1, 8.0), (2, None)])
def test_mlperf_before_it_told_all_accelerators(
    tmp_path: Path, encoding: str, title: str, nodes: int, count: float | None
) -> None:
    """Of several nodes nobody says whether the number is of one or of all."""
    text = title + (
        "Public ID,Organization,Availability,System Name (click + for details),# of Nodes,Processor,Accelerator,"
        "# of Accelerators,Benchmark,Model MLC,Scenario,Units,Valid / Invalid,Division/Power,Software,Version,Result\n"
        f"5.0-0023,F,available,S (8x H100),{nodes},X 6530,NVIDIA H100-NVL-94GB,8,Inference,gptj-99.9,Server,Tokens/s,,"
        "Closed,TensorRT 10.8 CUDA 12.8,v5.0,14846.7\n"
    )
    (tmp_path / "mlperf.csv").write_bytes(text.encode(encoding))
    frame = read_table(tmp_path / "mlperf.csv")
    row = frame.iloc[0]
    assert frame.attrs["format"] == "mlperf"
    assert (row["model"], row["throughput_tok_s"], "H100" in row["accelerator"]) == ("gptj-99.9", 14846.7, True)
    assert row["accelerator_count"] == count if count else pd.isna(row["accelerator_count"])
