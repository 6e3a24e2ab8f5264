"""The canonical table from and to files: tolerant of spelling, exact in values, strict about everything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fewmark.core import CANONICAL_COLUMNS, FormatError, InputError
from fewmark.core.columns import NUMERIC_COLUMNS
from fewmark.interop import format_names, get_format, read_table, write_table
from fewmark.interop.base import Format

HEADER = "engine,model,input_tokens,output_tokens,batch_size,e2e_latency_s"
GOOD = f"{HEADER}\nvllm,m,128,128,1,2.5\nvllm,m,128,128,16,3.5\n"


def write(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_every_canonical_column_is_there_typed_and_in_order(tmp_path: Path) -> None:
    frame = read_table(write(tmp_path, GOOD))
    assert tuple(frame.columns) == CANONICAL_COLUMNS
    assert frame.index.tolist() == [0, 1]
    assert frame.attrs["format"] == "csv"
    for name in CANONICAL_COLUMNS:
        assert (frame[name].dtype == "float64") == (name in NUMERIC_COLUMNS)
    assert frame["accelerator"].tolist() == [None, None]
    assert frame["status"].tolist() == ["ok", "ok"]
    assert np.isnan(frame["ttft_s"]).all()


def test_spelling_of_names_order_blank_lines_and_marks_do_not_matter(tmp_path: Path) -> None:
    text = (
        "\ufeff E2E-Latency s ,Batch Size,INPUT_TOKENS,output tokens,Model,my column\r\n\r\n2.5,1,128,64,m, x\r\n\r\n"
    )
    frame = read_table(write(tmp_path, text))
    assert frame.loc[0, ["e2e_latency_s", "batch_size", "input_tokens", "output_tokens"]].tolist() == [2.5, 1, 128, 64]
    assert frame.at[0, "my column"] == " x"


def test_a_table_written_with_its_index_is_read(tmp_path: Path) -> None:
    read_table(write(tmp_path, GOOD)).to_csv(tmp_path / "out.csv")
    again = read_table(tmp_path / "out.csv")
    assert tuple(again.columns) == CANONICAL_COLUMNS


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_values_survive_exactly(tmp_path: Path, suffix: str) -> None:
    frame = read_table(write(tmp_path, GOOD))
    frame["e2e_latency_s"] = [0.1 + 0.2, 5e-324]
    frame["option.mixed"] = pd.Series([True, "true"], dtype=object)
    frame["option.text"] = pd.Series(["007", '"quoted"'], dtype=object)
    frame["option.number"] = [1.5, float("nan")]
    frame["option.big"] = pd.Series([2**70, None], dtype=object)
    frame["comment, with comma"] = pd.Series(["a\nb ", ""], dtype=object)
    path = tmp_path / f"out{suffix}"
    write_table(frame, path)
    again = read_table(path)
    pd.testing.assert_frame_equal(again, frame, check_exact=True)
    assert [type(value) for value in again["option.mixed"]] == [bool, str]
    assert not list(tmp_path.glob(".*part"))


def test_a_foreign_parquet_file_is_typed(tmp_path: Path) -> None:
    table = pa.table(
        {
            "Model": pa.array(["m", "m"]).dictionary_encode(),
            "Input Tokens": pa.array([128, 256], pa.int32()),
            "output_tokens": pa.array([1, None], pa.int64()),
            "concurrency": [4.0, float("nan")],
            "tags": [["a"], ["b", "c"]],
            "note": ["123", None],
        }
    )
    pq.write_table(table, tmp_path / "foreign.parquet")
    frame = read_table(tmp_path / "foreign.parquet")
    assert frame["input_tokens"].tolist() == [128, 256]
    assert frame["concurrency"].isna().tolist() == [False, True]
    assert frame["note"].tolist() == ["123", None]
    assert json.loads(frame.at[1, "tags"]) == ["b", "c"]


MALFORMED = {
    "empty": b"",
    "blank": b"\n \n",
    "only a header": f"{HEADER}\n",
    "no header": "vllm,m,128,128,1,2.5\n",
    "other columns": "a,b\n1,2\n",
    "binary": bytes(range(256)) * 8,
    "zero bytes": GOOD.replace("vllm", "v\0llm"),
    "utf-16 without its mark": GOOD.encode("utf-16-le"),
    "latin-1": GOOD.replace("vllm", "vllé").encode("latin-1"),
    "short row": GOOD + "vllm,m,128\n",
    "long row": GOOD + "vllm,m,128,128,1,2.5,9\n",
    "truncated": GOOD[:-14],
    "open quote": GOOD + '"vllm,m,128,128,1,2.5\n',
    "two columns of one name": GOOD.replace("engine", "model"),
    "two spellings of one name": GOOD.replace("engine", "Batch Size"),
    "unnamed column": GOOD.replace("engine", ""),
    "text for a number": GOOD.replace("3.5", "fast"),
    "number with another unit": GOOD.replace("3.5", "3.5 W"),
    "number with an unknown unit": GOOD.replace("3.5", "3.5 fortnights"),
    "a bound": GOOD.replace("3.5", "< 3.5"),
    "a percentage": GOOD.replace("3.5", "35%"),
    "two decimal marks": GOOD.replace("3.5", '"3.5,1.2"'),
    "groups of four": GOOD.replace("3.5", '"1,2345,678"'),
    "underscores": GOOD.replace("3.5", "3_5"),
    "inf": GOOD.replace("3.5", "-inf"),
    "overflow": GOOD.replace("3.5", "1e999"),
    "negative tokens": GOOD.replace("128,16", "-128,16"),
    "no tokens": GOOD.replace("128,16", "0,16"),
    "half a batch": GOOD.replace("128,16", "128,1.5"),
    "huge batch": GOOD.replace("128,16", f"128,{'9' * 400}"),
    "long number": GOOD.replace("128,16", f"128,{'9' * 5000}"),
    "both loads": GOOD.replace("e2e_latency_s", "concurrency").replace("2.5", "").replace("3.5", "4"),
    "unknown status": GOOD.replace("e2e_latency_s", "status").replace("2.5", "ok").replace("3.5", "fine"),
}


@pytest.mark.parametrize("kind", MALFORMED)
@pytest.mark.parametrize("format_name", ["auto", "csv"])
def test_malformed_csv_gives_one_clear_error(tmp_path: Path, kind: str, format_name: str) -> None:
    content = MALFORMED[kind]
    with pytest.raises(FormatError) as caught:
        read_table(write(tmp_path, content), format_name)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    "kind", ["text for a number", "negative tokens", "half a batch", "both loads", "unknown status", "inf"]
)
def test_the_error_names_the_data_row(tmp_path: Path, kind: str) -> None:
    with pytest.raises(FormatError, match=r"table\.csv: row 2"):
        read_table(write(tmp_path, MALFORMED[kind]))


@pytest.mark.parametrize("cut", [4, 100, -1])
def test_truncated_parquet_gives_one_clear_error(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "table.parquet"
    write_table(read_table(write(tmp_path, GOOD)), path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FormatError):
        read_table(path)


def test_a_folder_a_missing_file_and_an_unknown_format_are_refused(tmp_path: Path) -> None:
    for path, name in ((tmp_path, "auto"), (tmp_path / "no.csv", "auto"), (write(tmp_path, GOOD), "excel")):
        with pytest.raises(InputError):
            read_table(path, name)


def test_an_unknown_kind_of_file_is_told_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        read_table(write(tmp_path, "a,b\n1,2\n"))
    assert all(name in str(caught.value) for name in ("csv", "parquet", "llm-inference-bench", "splitwise"))


def test_writing_refuses_other_suffixes_and_leaves_no_pieces(tmp_path: Path) -> None:
    frame = read_table(write(tmp_path, GOOD))
    with pytest.raises(InputError):
        write_table(frame, tmp_path / "out.xlsx")
    with pytest.raises(InputError):
        write_table(frame, tmp_path / "no such folder" / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv"]


@pytest.mark.parametrize("name", format_names())
def test_every_format_keeps_the_interface(name: str, tmp_path: Path) -> None:
    chosen = get_format(name)
    assert isinstance(chosen, Format)
    assert chosen.name == name
    for head in (b"", b"\0\xff\xfe", b'"', "ä,ö".encode(), b"PAR", GOOD.encode()[:11]):
        assert 0 <= chosen.sniff(tmp_path / "x", head) <= 1
    with pytest.raises(FormatError):
        chosen.read(write(tmp_path, b"\x00\x01"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_serving_columns_are_typed_and_written_where_they_say_something(tmp_path: Path, suffix: str) -> None:
    text = (
        "model,input_tokens,output_tokens,request-rate,TTFT p99 s,Goodput req s,n_requests,statistic,note,own\n"
        "m,512,128,2.5,0.75,2.25,500,Mean,converted from ms,1\nm,512,128,0.5,,,,,,2\n"
    )
    frame = read_table(write(tmp_path, text))
    write_table(frame, tmp_path / f"out{suffix}")
    again = read_table(tmp_path / f"out{suffix}")
    for table in (frame, again):
        assert table["request_rate"].tolist() == [2.5, 0.5]
        assert table["ttft_p99_s"].dtype == table["goodput_req_s"].dtype == table["n_requests"].dtype == "float64"
        assert table.loc[0, ["ttft_p99_s", "goodput_req_s", "n_requests", "statistic"]].tolist() == [
            0.75,
            2.25,
            500,
            "mean",
        ]
        assert table["note"].tolist() == ["converted from ms", None]
        assert np.isnan(table["ttft_p99_s"][1]) and table["statistic"][1] is None
    own = ["ttft_p99_s", "goodput_req_s", "n_requests", "statistic", "note", "own"]
    assert list(again.columns) == [*CANONICAL_COLUMNS, *own]
    bare = frame.drop(columns=["note"]).assign(itl_s=np.nan)
    write_table(bare, tmp_path / f"bare{suffix}")
    assert {"itl_s", "note"}.isdisjoint(read_table(tmp_path / f"bare{suffix}").columns)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("8,8,,", "row 1: a row has one of"),
        ("8,,2.5,", "row 1: a row has one of"),
        (",8,2.5,", "row 1: a row has one of"),
        (",,0,", "request_rate must be a positive number"),
        (",,-1,", "request_rate must be a positive number"),
        (",8,,mode", "unknown statistic"),
    ],
)
def test_two_loads_impossible_rates_and_unknown_statistics_are_refused(
    tmp_path: Path, cells: str, message: str
) -> None:
    header = "input_tokens,output_tokens,batch_size,concurrency,request_rate,statistic"
    with pytest.raises(FormatError, match=message):
        read_table(write(tmp_path, f"{header}\n128,128,{cells}\n"))
