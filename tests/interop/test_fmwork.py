"""FMwork's log lines in three dialects, its script's CSV with two columns swapped, and its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fewmark.core import FormatError
from fewmark.interop import read_table

# Hand-made from FMwork's documented lines; the first of each kind stands in its documentation.
DEV = """FMWORK REP 1 / 5 : 1 2 0.9 7.1 140.0
FMWORK REP 5 / 5 : 1 2 0.9 7.1 140.0
FMWORK RES 1755063811.412279354 1755063816.115997318 meta-llama/Llama-3.1-8B-Instruct/main 1024 128 1 1 0.001 0.917 7.168 139.5
FMWORK GEN 1755063811.412279354 1755063816.115997318 meta-llama/Llama-3.1-8B-Instruct/main 1024 128 1 1 0.016 0.001 0.917 0.890 0.027 6.954 143.8
"""  # noqa: E501
MAIN = """some log line
outputs/m/exp.log:FMWORK RES 20240926-183953.009140 1024 1024 1 1 8.204 8.0 124.8
FMWORK GEN 20240926-183953.009140 512 128 4 2 1.000 0.872 0.128 6.8 587.2
"""
OLDER = "FMWORK GEN 20240926-183953.009140 512 128 4 2 0.010 0.002 1.000 0.872 0.128 6.8 587.2\n"
CSV = """work,user,host,btim,etim,hw,hwc,back,mm,prec,dp,ii,oo,bb,tp,med,ttft,gen,itl,thp,extraparams,vllmvars
w,u,h,1,2,H100,2,vllm,granite,fp16,1,512,128,4,2,1.000,0.872,0.128,6.8,587.2,,
w,u,h,1,2,H100,2,vllm,granite,fp16,1,512,128,4,2,1.000,0.128,0.872,6.8,587.2,,
w,u,h,1,2,H100,2,vllm,granite,fp16,1,512,1,4,2,0.128,,,128.0,31.2,,
"""


def read(folder: Path, value: Any, name: str = "exp.log") -> pd.DataFrame:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    frame = read_table(path)
    assert frame.attrs["format"] == "fmwork"
    return frame


def unknown(row: pd.Series, *names: str) -> bool:
    return all(name not in row or row[name] is None or row[name] != row[name] for name in names)


def test_gen_and_res_of_one_cell_are_one_row(tmp_path: Path) -> None:
    frame = read(tmp_path, DEV)
    assert len(frame) == 1
    row = frame.iloc[0]
    assert row["model"] == "meta-llama/Llama-3.1-8B-Instruct/main"
    assert (row["input_tokens"], row["output_tokens"], row["batch_size"], row["tensor_parallel_size"]) == (
        1024,
        128,
        1,
        1,
    )
    assert (row["e2e_latency_s"], row["ttft_s"]) == (0.917, 0.027)
    assert row["n_repeats"] == 4  # the first of five is dropped


def test_gen_itl_divides_by_all_tokens_and_thp_leaves_prefill_out(tmp_path: Path) -> None:
    row = read(tmp_path, DEV).iloc[0]
    assert row["tpot_s"] == pytest.approx(0.890 / 127)
    assert row["fmwork.itl_s"] == pytest.approx(0.006954)
    assert row["throughput_tok_s"] == pytest.approx(128 / 0.917)
    assert row["decode_throughput_tok_s"] == pytest.approx(127 / 0.890)
    assert row["fmwork.thp_tok_s"] == 143.8


def test_res_knows_no_first_token(tmp_path: Path) -> None:
    frame = read(tmp_path, MAIN)
    row = frame.iloc[0]
    assert (row["e2e_latency_s"], row["output_tokens"]) == (8.204, 1024)
    assert row["throughput_tok_s"] == pytest.approx(1024 / 8.204)
    assert unknown(row, "ttft_s", "tpot_s")


@pytest.mark.parametrize("text", [MAIN.splitlines()[-1] + "\n", OLDER])
def test_dialects_of_gen(tmp_path: Path, text: str) -> None:
    row = read(tmp_path, text).iloc[0]
    assert (row["ttft_s"], row["batch_size"], row["tensor_parallel_size"]) == (0.128, 4, 2)
    assert row["tpot_s"] == pytest.approx(0.872 / 127)
    assert "swapped" not in row["note"]


def test_csv_columns_ttft_and_gen_are_swapped(tmp_path: Path) -> None:
    frame = read(tmp_path, CSV, "results.csv")
    assert frame["ttft_s"].tolist() == [0.128, 0.128, 0.128]
    assert [("swapped" in note) for note in frame["note"].fillna("")] == [True, False, False]
    assert frame["accelerator"].tolist() == ["H100"] * 3
    assert (frame["engine"][0], frame["precision"][0], frame["accelerator_count"][0]) == ("vllm", "fp16", 2)
    assert frame["e2e_latency_s"].tolist() == [1, 1, 0.128]  # with one output token all is the first one


def test_json_of_its_process_script(tmp_path: Path) -> None:
    data = [
        {"timestamp": "1", "metadata_id": None, "engine": "fmwork/infer/vllm", "model": "org/m", "mode": "direct"}
        | {
            "precision": None,
            "input": 1024,
            "output": 128,
            "batch": 1,
            "tp": 1,
            "ttft": 0.027,
            "itl": 6.954,
            "thp": 143.8,
        }
    ]
    row = read(tmp_path, data, "results.json").iloc[0]
    assert row["e2e_latency_s"] == pytest.approx(0.027 + 0.006954 * 128)
    assert row["tpot_s"] == pytest.approx(0.006954 * 128 / 127)
    data[0]["mode"] = "server"
    row = read(tmp_path, data, "results.json").iloc[0]
    assert unknown(row, "ttft_s", "tpot_s")
    assert row["fmwork.ttft"] == 0.027


def test_json_of_a_run_that_failed(tmp_path: Path) -> None:
    data = {"metadata_id": None, "engine": "e", "input": 8, "output": 8, "batch": 1, "itl": 0, "status": "ERR_1"}
    assert read(tmp_path, [data], "results.json").iloc[0]["status"] == "crashed"


def test_nan_is_a_run_without_times(tmp_path: Path) -> None:
    row = read(tmp_path, "FMWORK GEN 20240926-183953.009140 512 128 4 2 nan nan nan nan nan\n").iloc[0]
    assert (row["status"], row["input_tokens"], row["batch_size"]) == ("crashed", 512, 4)


def test_unknown_dialect_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "exp.log"
    path.write_text(MAIN + "FMWORK GEN 20240926 512 128\n")
    with pytest.raises(FormatError, match="line 4: not a GEN line"):
        read_table(path)
    for alien in ("a,b\n1,2\n", "[]", "{}"):
        path.write_text(alien)
        with pytest.raises(FormatError):
            read_table(path, "fmwork")
