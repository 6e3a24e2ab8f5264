"""Foreign formats: their columns, units and definitions in canonical terms, their values untouched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewmark.core import FormatError
from fewmark.interop import read_table

MAIN = """Hardware,Num of Hardware,Framework,Model,Input Output Length,Batch Size,Latency,Throughput
Chip A GPU,1,vLLM,org/m-7b,128,1,2.728496789932251,93.82455605627724
Chip A GPU,2,vLLM,org/m-7b,256,16,4.0,2048
Chip A GPU,1,llama.cpp,org/m-7b,128,16,2.0,128
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "results.csv"
    path.write_text(text)
    return path


def test_llm_inference_bench(tmp_path: Path) -> None:
    frame = read_table(write(tmp_path, MAIN))
    assert frame.attrs["format"] == "llm-inference-bench"
    first = frame.iloc[0]
    assert (first["accelerator"], first["accelerator_count"], first["engine"]) == ("Chip A GPU", 1, "vLLM")
    assert first["input_tokens"] == first["output_tokens"] == 128
    assert first["e2e_latency_s"] == 2.728496789932251
    assert first["total_throughput_tok_s"] == 93.82455605627724  # it counts input and output tokens
    assert first["throughput_tok_s"] == pytest.approx(93.82455605627724 / 2)
    assert frame["throughput_tok_s"].isna().tolist() == [False, False, True]  # batch 16, but 1/16 of its throughput
    assert frame.at[2, "total_throughput_tok_s"] == 128
    assert "counts input and output tokens" in frame.at[0, "note"]
    assert "contradict" in frame.at[2, "note"]
    assert frame["tensor_parallel_size"].isna().all()


def test_its_parallelism_file(tmp_path: Path) -> None:
    header = MAIN.splitlines()[0].replace("Latency", "Parallelism Type,Latency")
    kinds = [
        ("Tensor Parallelism", 4, (4, np.nan, np.nan)),
        ("PP", 2, (1, 2, np.nan)),
        ("Pipeline Parallelism", 1, (1, np.nan, np.nan)),
        ("Hybird Tensor (2) and Pipeline (2) Parallelism", 4, (2, 2, np.nan)),
        ("Hybrid TP = 2 and EP = 2", 4, (2, np.nan, 2)),
        ("EP", 4, (np.nan, np.nan, 4)),
    ]
    rows = [f"Chip A GPU,{count},vLLM,m,128,1,{kind},2.0,128" for kind, count, _ in kinds]
    frame = read_table(write(tmp_path, "\n".join([header, *rows])))
    degrees = frame[["tensor_parallel_size", "option.pipeline_parallel_size", "option.expert_parallel_size"]]
    np.testing.assert_array_equal(degrees.to_numpy(), np.array([expected for *_, expected in kinds]))
    assert frame["Parallelism Type"].tolist() == [kind for kind, *_ in kinds]


def test_its_power_first_token_and_heat_map_files(tmp_path: Path) -> None:
    power = read_table(
        write(tmp_path, MAIN.splitlines()[0] + ",avg_power\nChip A GPU,1,vLLM,m,128,1,2.0,128,222122.5\n")
    )
    assert power.at[0, "power_w"] == pytest.approx(222.1225)
    assert power.at[0, "avg_power"] == 222122.5
    header = (
        "Hardware,Num of Hardware,Framework,Model,Input Length,Output Length,Batch Size,TTFT Latency,end_latency \n"
    )
    first = read_table(write(tmp_path, header + "Chip A GPU,1,vLLM,m,1024,1,16,2.5,22.5\n"))
    assert first.loc[0, ["ttft_s", "e2e_latency_s", "output_tokens", "end_latency"]].tolist() == [2.5, 2.5, 1, 22.5]
    header = (
        "model_name,tp_size,precision,max_input_length,max_output_len,batch_size,int8_kv_cache,latency,throughput\n"
    )
    heat = read_table(write(tmp_path, header + "m,1,float16,128,256,1,False,3.0,128\n"))
    assert heat.loc[0, ["input_tokens", "output_tokens", "tensor_parallel_size"]].tolist() == [128, 256, 1]
    assert heat.at[0, "engine"] is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2.0,128", "slow,128"),
        ("128,16", "-1,16"),
        ("Batch Size", "Latency"),
        ("Model", "Modell"),
        ("128,16,2.0", "128,16"),
    ],
)
def test_its_malformed_files(tmp_path: Path, old: str, new: str) -> None:
    assert old in MAIN
    with pytest.raises(FormatError):
        read_table(write(tmp_path, MAIN.replace(old, new)), "llm-inference-bench")


def test_splitwise_is_in_milliseconds(tmp_path: Path) -> None:
    text = (
        "model,hardware,prompt_size,batch_size,token_size,peak_power,average_power,prompt_time,token_time,e2e_time,"
        "tensor_parallel\nm-70b,chip,512,2,128,1.0,0.7,200,50,6550,4\n"
    )
    frame = read_table(write(tmp_path, text))
    assert frame.attrs["format"] == "splitwise"
    assert frame.loc[0, ["ttft_s", "tpot_s", "e2e_latency_s"]].tolist() == pytest.approx([0.2, 0.05, 6.55])
    assert frame.loc[0, ["input_tokens", "output_tokens", "accelerator_count", "average_power"]].tolist() == [
        512,
        128,
        4,
        0.7,
    ]
    with pytest.raises(FormatError, match="row 1: e2e_time"):
        read_table(write(tmp_path, text.replace("6550", "x")), "splitwise")
