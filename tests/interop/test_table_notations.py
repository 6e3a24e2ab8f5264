"""Tables in anybody's spelling: names with units, cells with units, separators, words for failures, wide tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewmark.cli import main
from fewmark.core import FormatError
from fewmark.interop import read_table, require_values
from fewmark.interop.dialects.headers import meaning_of, near_names
from fewmark.interop.dialects.notation import Notation, parse_quantity, status_of
from fewmark.interop.text.decimal_mark import decimal_mark
from fewmark.screening import apply, screen

WORK = "vllm,m7b,H100,1,1024,128"
HEAD = "engine,model,accelerator,accelerator_count,input_tokens,output_tokens"


def notation(*cells: str, separator: str = ",") -> Notation:
    return Notation(decimal_mark({"x": cells}, separator))


def read(folder: Path, text: str | bytes, name: str = "table.csv") -> pd.DataFrame:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path)


@pytest.mark.parametrize(
    ("name", "column", "factor"),
    [
        ("ttft_ms", "ttft_s", 1e-3),
        ("Mean TTFT (ms)", "ttft_s", 1e-3),
        ("TTFT, ms", "ttft_s", 1e-3),
        ("time to first token [s]", "ttft_s", 1.0),
        ("p99_ttft_ms", "ttft_p99_s", 1e-3),
        ("ttft_p99_ms", "ttft_p99_s", 1e-3),
        ("P99 TTFT (ms)", "ttft_p99_s", 1e-3),
        ("ttft_ms_p99", "ttft_p99_s", 1e-3),
        ("latency_ms_avg", "e2e_latency_s", 1e-3),
        ("DP", "option.data_parallel_size", 1.0),
        ("ep_size", "option.expert_parallel_size", 1.0),
        ("median_itl_ms", "itl_p50_s", 1e-3),
        ("e2e_latency_ms", "e2e_latency_s", 1e-3),
        ("E2ELatency (us)", "e2e_latency_s", 1e-6),
        ("latency (s)", "e2e_latency_s", 1.0),
        ("latency", "e2e_latency_s", None),
        ("ms/token", None, None),
        ("tpot (ms/token)", "tpot_s", 1e-3),
        ("output_throughput", "throughput_tok_s", 1.0),
        ("Output token throughput (tok/s)", "throughput_tok_s", 1.0),
        ("output_tokens_per_second", "throughput_tok_s", 1.0),
        ("tokens/s", "throughput_tok_s", 1.0),
        ("total_token_throughput", "total_throughput_tok_s", 1.0),
        ("tokens_per_minute", "throughput_tok_s", 1 / 60),
        ("requests/s", "request_throughput_req_s", 1.0),
        ("avg_power_kw", "power_w", 1e3),
        ("batchSize", "batch_size", 1.0),
        ("ISL", "input_tokens", 1.0),
        ("num_gpus", "accelerator_count", 1.0),
        ("max_ttft_ms", None, None),
        ("ttft_std_ms", None, None),
        ("ttft_w", None, None),
        ("start_s", None, None),
        ("comment", None, None),
    ],
)
def test_names_say_what_and_in_which_unit(name: str, column: str | None, factor: float | None) -> None:
    found = meaning_of(name)
    assert (None if found is None else found.column) == column
    if found is not None:
        assert found.factor == factor


def test_names_that_are_nearly_known_get_near_names() -> None:
    assert near_names("thruoghput_tok_s")[0] == "throughput_tok_s"
    assert near_names("tpto_s")[0] == "tpot_s"
    assert near_names("colour of the rack") == []


@pytest.mark.parametrize(
    ("text", "kind", "factor", "value"),
    [
        ("35 ms", "time", None, 0.035),
        ("35ms", "time", 1.0, 0.035),
        ("41.2", "time", 1e-3, 0.0412),
        ("2 s", "time", 1e-3, 2.0),
        ("250 µs", "time", 1.0, 0.00025),
        ("1.2k", "token rate", 1.0, 1200.0),
        ("1.2k tok/s", "token rate", 1.0, 1200.0),
        ("1,234.5", "token rate", 1.0, 1234.5),
        ("1.234,5", "token rate", 1.0, 1234.5),
        ("1 234,5", "token rate", 1.0, 1234.5),
        ("1'234.5", "token rate", 1.0, 1234.5),
        ("1,234,567", "token rate", 1.0, 1234567.0),
        ("35.1 ± 0.4", "token rate", 1.0, 35.1),
        ("1,024", "count", 1.0, 1024.0),
        ("1024 tokens", "count", 1.0, 1024.0),
        ("1e3", "token rate", 1.0, 1000.0),
        ("0.7 kW", "power", 1.0, 700.0),
    ],
)
def test_cells_say_their_number(text: str, kind: str, factor: float | None, value: float) -> None:
    assert parse_quantity(text, "x", 1, kind, factor, notation(text))[0] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["35 W", "fast", "1,23,4", "~35", "35%", "1_000", "5 5", "inf", "1e999", "3.5.1"])
def test_cells_that_say_no_number_are_refused_by_row_and_column(text: str) -> None:
    with pytest.raises(FormatError, match="row 7: ttft_ms") as caught:
        parse_quantity(text, "ttft_ms", 7, "time", 1e-3, notation(text))
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("cells", "mark"),
    [
        (["1,234,567.5", "2,345"], "."),
        (["1.234.567,5", "2.345"], ","),
        (["1,234,567", "2,345"], "."),
        (["0,1,2.5", "2,345"], None),  # a list, whose column says nothing
    ],
)
def test_thousands_with_a_fraction_are_no_list(cells: list[str], mark: str | None) -> None:
    assert decimal_mark({"tokens": cells}, "\t") == mark


def test_one_clear_number_settles_how_the_others_are_read() -> None:
    assert notation("1,234", "0,5").decimal == ","
    assert notation("1,234", "0.5").decimal == "."
    assert notation("0,55", "0.5").decimal is None
    with pytest.raises(FormatError, match="two ways"):
        parse_quantity("1,234", "x", 1, "time", 1.0, notation("1,234", separator="\t"))


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("OOM", "out_of_memory"),
        ("failed: OOM", "out_of_memory"),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", "out_of_memory"),
        ("success", "ok"),
        ("FAILED", "crashed"),
        ("failed: exit code 1", "crashed"),
        ("Timed out", "timeout"),
        ("not supported", "unsupported"),
        ("fine", None),
    ],
)
def test_words_say_the_status(text: str, status: str | None) -> None:
    assert status_of(text) == status


@pytest.mark.parametrize(("separator", "point"), [(";", ","), ("\t", "."), (";", "."), ("|", ".")])
def test_separators_and_decimal_marks(tmp_path: Path, separator: str, point: str) -> None:
    text = separator.join(["model", "input_tokens", "output_tokens", "concurrency", "ttft_s", "throughput_tok_s"])
    row = separator.join(["m", "1024", "128", "1", f"0{point}04", f"119{point}625"])
    frame = read(tmp_path, f"{text}\n{row}\n")
    assert frame.loc[0, ["input_tokens", "ttft_s", "throughput_tok_s"]].tolist() == [1024, 0.04, 119.625]


def test_spreadsheets_text_is_read(tmp_path: Path) -> None:
    text = "sep=;\nmodel;input_tokens;output_tokens;batch_size;e2e_latency_s\nm;1.024;128;8;1,5\n"
    frame = read(tmp_path, text.encode("utf-16"))
    assert frame.loc[0, ["input_tokens", "batch_size", "e2e_latency_s"]].tolist() == [1024, 8, 1.5]


def test_milliseconds_in_the_names(tmp_path: Path) -> None:
    frame = read(
        tmp_path,
        f"{HEAD},concurrency,ttft_ms,tpot_ms,e2e_latency_ms,output_throughput\n"
        f"{WORK},1,41.2,8.1,1069.9,119.6\n{WORK},8,88.0,9.9,1345.3,761.2\n",
    )
    assert frame["ttft_s"].tolist() == [0.0412, 0.088]
    assert frame["tpot_s"].tolist() == [0.0081, 0.0099]
    assert frame["e2e_latency_s"].tolist() == [1.0699, 1.3453]
    assert frame["throughput_tok_s"].tolist() == [119.6, 761.2]
    assert "ttft_s from ttft_ms" in frame.at[0, "note"]
    assert "ttft_ms" not in frame


def test_a_canonical_column_keeps_its_place_before_other_spellings(tmp_path: Path) -> None:
    frame = read(tmp_path, f"{HEAD},batch_size,e2e_latency_s,latency_ms\n{WORK},1,2.5,17\n")
    assert frame.at[0, "e2e_latency_s"] == 2.5
    assert frame.at[0, "latency_ms"] == 17
    assert "latency_ms" in frame.attrs["understanding"].unknown


def test_times_without_a_unit_are_settled_by_the_throughput(tmp_path: Path) -> None:
    rows = [(1, 1069.9, 41.2, 119.6), (8, 1345.3, 88.0, 761.2)]
    for scale in (1.0, 1e-3):
        text = "\n".join(f"{WORK},{b},{e * scale},{f * scale},{r}" for b, e, f, r in rows)
        frame = read(tmp_path, f"{HEAD},batch_size,latency,ttft,output_throughput\n{text}\n")
        assert frame["e2e_latency_s"].tolist() == pytest.approx([1.0699, 1.3453])
        assert frame["ttft_s"].tolist() == pytest.approx([0.0412, 0.088])
        assert "latency" in " ".join(frame.attrs["understanding"].notes)


def test_a_time_that_nothing_settles_is_not_guessed(tmp_path: Path) -> None:
    frame = read(tmp_path, f"{HEAD},batch_size,latency,throughput_tok_s\n{WORK.replace('128', '30')},1,12,\n")
    assert np.isnan(frame.at[0, "e2e_latency_s"])
    assert frame.at[0, "latency"] == 12
    assert "latency" in frame.attrs["understanding"].unknown
    with pytest.raises(FormatError, match="no row has a value") as caught:
        require_values(frame)
    assert "seconds from milliseconds" in str(caught.value)


def test_a_throughput_of_decoding_alone_is_told_by_the_latencies(tmp_path: Path) -> None:
    # As SGLang's one-batch benchmark counts: batch × output tokens / (latency - TTFT).
    frame = read(
        tmp_path,
        "engine,model,batch_size,input_len,output_len,latency,ttft,input_throughput,output_throughput\n"
        "sglang,m,1,1024,128,2.41,0.11,9309.1,55.7\nsglang,m,8,1024,128,3.02,0.52,15753.8,409.6\n"
        "sglang,m,32,1024,128,5.55,1.98,16549.5,1147.3\n",
    )
    assert np.isnan(frame["throughput_tok_s"]).all()
    ours = [b * 127 / (e - f) for b, e, f in ((1, 2.41, 0.11), (8, 3.02, 0.52), (32, 5.55, 1.98))]
    assert frame["decode_throughput_tok_s"].tolist() == pytest.approx(ours, rel=2e-3)


@pytest.mark.parametrize(("tokens", "column"), [(128, "throughput_tok_s"), (1152, "total_throughput_tok_s")])
def test_a_vague_throughput_is_told_by_the_latency(tmp_path: Path, tokens: int, column: str) -> None:
    rows = "\n".join(f"{WORK},{b},{1 + b / 8},{b * tokens / (1 + b / 8)}" for b in (1, 8, 32))
    frame = read(tmp_path, f"{HEAD},batch_size,latency (s),throughput (tokens/s)\n{rows}\n")
    assert frame[column].tolist() == pytest.approx([b * tokens / (1 + b / 8) for b in (1, 8, 32)])


def test_values_per_accelerator_become_the_systems(tmp_path: Path) -> None:
    frame = read(tmp_path, f"{HEAD},concurrency,output tok/s/GPU\n{WORK.replace('H100,1', 'H100,4')},8,100\n")
    assert frame.at[0, "throughput_tok_s"] == 400
    unknown = read(tmp_path, "model,input_tokens,output_tokens,concurrency,output tok/s/GPU\nm,1,1,8,100\n")
    assert np.isnan(unknown.at[0, "throughput_tok_s"])
    assert "output tok/s/GPU" in unknown.attrs["understanding"].unknown


def test_words_for_failures_and_the_unknown(tmp_path: Path) -> None:
    frame = read(
        tmp_path,
        f"{HEAD},concurrency,ttft_s,throughput_tok_s,status\n{WORK},1,0.04,119.6,success\n{WORK},256,OOM,OOM,\n"
        f"{WORK},128,N/A,900,\n{WORK},512,-,-,failed\n{WORK},1024,,,OOM\n",
    )
    assert frame["status"].tolist() == ["ok", "out_of_memory", "ok", "crashed", "out_of_memory"]
    assert frame["ttft_s"].isna().tolist() == [False, True, True, True, True]
    assert frame.at[2, "throughput_tok_s"] == 900
    assert "ttft_s said 'OOM'" in frame.at[1, "note"]


def test_rows_without_any_value_are_marked_and_a_file_of_them_is_refused(tmp_path: Path) -> None:
    text = f"{HEAD},concurrency,ttft_s,throughput_tok_s\n{WORK},1,0.04,119.6\n{WORK},8,,\n{WORK},16,0,0\n"
    frame = require_values(read(tmp_path, text))
    assert frame["status"].tolist() == ["ok", "invalid", "invalid"]
    assert frame.at[1, "note"] == "no value in the row"
    with pytest.raises(FormatError, match="no row has a value") as caught:
        require_values(read(tmp_path, f"{HEAD},concurrency,thruput_of_it\n{WORK},1,119.6\n"))
    assert "thruput_of_it" in str(caught.value)


@pytest.mark.parametrize("verb", [["import"], ["screen", "--data"]])
def test_what_has_no_value_is_refused_alike_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text(f"{HEAD},concurrency,tokens_of_all_kinds\n{WORK},1,119.6\n")
    assert main([*verb, "table.csv"]) == 2
    told = capsys.readouterr().err
    assert "table.csv: no row has a value" in told
    assert "tokens_of_all_kinds" in told
    assert not Path("fewmark.db").exists()


def test_an_unlimited_rate_is_a_closed_loop(tmp_path: Path) -> None:
    frame = read(tmp_path, f"{HEAD},request_rate,max_concurrency,ttft_ms\n{WORK},inf,8,41.2\n{WORK},4,,41.2\n")
    assert frame["concurrency"].tolist()[0] == 8
    assert frame["request_rate"].isna().tolist() == [True, False]
    assert "request_rate inf" in frame.at[0, "note"]
    capped = read(tmp_path, f"{HEAD},request_rate,max_concurrency,ttft_ms\n{WORK},4,8,41.2\n")
    assert (capped.at[0, "request_rate"], capped.at[0, "max_concurrency"]) == (4, 8)


def test_two_loads_in_a_row_are_named_plainly(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        read(tmp_path, f"{HEAD},batch_size,concurrency,throughput_tok_s\n{WORK},8,8,700\n")
    assert "float64" not in str(caught.value)
    assert "batch_size 8" in str(caught.value)


def test_one_zero_drops_that_value_alone(tmp_path: Path) -> None:
    frame = read(
        tmp_path, f"{HEAD},concurrency,e2e_latency_s,ttft_s,throughput_tok_s\n{WORK},1,1.071,0.0,119.5\n"
        f"{WORK},4,1.19,0,430.1\n{WORK},8,1.345,-1,761.2\n"
    )  # fmt: skip
    seen = apply(frame, screen(frame))
    assert seen["throughput_tok_s"].tolist() == [119.5, 430.1, 761.2]
    assert seen["ttft_s"].isna().all()


WIDE = "model,accelerator,input_tokens,output_tokens"


@pytest.mark.parametrize(
    ("header", "load"),
    [
        ("throughput_tok_s batch_size=1,throughput_tok_s batch_size=8", "batch_size"),
        ("output_throughput_bs1,output_throughput_bs8", "batch_size"),
        ("tok/s @ concurrency 1,tok/s @ concurrency 8", "concurrency"),
        ("bs=1: tokens/s,bs=8: tokens/s", "batch_size"),
    ],
)
def test_wide_tables_become_long(tmp_path: Path, header: str, load: str) -> None:
    frame = read(tmp_path, f"{WIDE},{header}\norg/m,H100,1024,128,119.6,787.7\norg/m,A100,1024,128,60.1,OOM\n")
    assert frame[load].tolist() == [1, 8, 1, 8]
    assert frame["throughput_tok_s"].tolist()[:3] == [119.6, 787.7, 60.1]
    assert frame["status"].tolist() == ["ok", "ok", "ok", "out_of_memory"]
    assert frame["accelerator"].tolist() == ["H100", "H100", "A100", "A100"]


def test_a_wide_table_with_a_column_of_metrics(tmp_path: Path) -> None:
    frame = read(
        tmp_path,
        f"{WIDE},metric,batch_size=1,batch_size=8\nm,H100,1024,128,TTFT (ms),41.2,88\n"
        "m,H100,1024,128,tokens/s,119.6,787.7\n",
    )
    assert frame["batch_size"].tolist() == [1, 8]
    assert frame["ttft_s"].tolist() == [0.0412, 0.088]
    assert frame["throughput_tok_s"].tolist() == [119.6, 787.7]


def test_a_wide_table_of_nobody_knows_what_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="batch_size=1") as caught:
        read(tmp_path, f"{WIDE},batch_size=1,batch_size=8\nm,H100,1024,128,119.6,787.7\n")
    assert "nothing says of what" in str(caught.value)
    with pytest.raises(FormatError, match="are numbers"):
        read(tmp_path, f"{WIDE},1,8\nm,H100,1024,128,119.6,787.7\n")


def test_errors_in_wide_tables_name_the_place(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="row 1, column ttft_ms bs=8: ttft_ms must be"):
        read(tmp_path, f"{WIDE},ttft_ms bs=1,ttft_ms bs=8\nm,H100,1024,128,119.6,fast\n")


ROWS = [
    {"model": "m", "isl": 1024, "osl": "128", "batch_size": b, "ttft_ms": "41.2", "tags": ["a"], "at": {"x": 1}}
    for b in (1, 8)
]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        "\n".join(map(json.dumps, ROWS)),
        json.dumps({"results": ROWS, "date": "today"}),
        json.dumps({"columns": list(ROWS[0]), "data": [list(row.values()) for row in ROWS]}),
        json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}),
    ],
)
def test_tables_as_json(tmp_path: Path, text: str) -> None:
    frame = read(tmp_path, text, "table.json")
    assert frame.attrs["format"] == "json"
    assert frame["batch_size"].tolist() == [1, 8]
    assert frame["output_tokens"].tolist() == [128, 128]
    assert frame["ttft_s"].tolist() == [0.0412, 0.0412]


@pytest.mark.parametrize(
    "text",
    [
        '[{"input_tokens": 1, "output_tokens": 1, "batch_size": 1',
        '[{"input_tokens": 1, "output_tokens": 1, "batch_size": Infinity}]',
        '[{"input_tokens": 1, "output_tokens": 1, "batch_size": ' + "9" * 5000 + "}]",
        '[{"input_tokens": 1, "output_tokens": 1, "batch_size": [1]}]',
        '{"input_tokens": 1, "output_tokens": 1, "batch_size": 1, "x": ' + "[" * 100_000,
    ],
)
def test_broken_json_gives_one_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(tmp_path, text, "table.json")
    assert len(str(caught.value)) < 2000


def test_columns_that_nobody_understood_are_no_values(tmp_path: Path) -> None:
    """Names that end as a metric's do."""
    frame = read(tmp_path, f"{HEAD},concurrency,throughput_ktok_s,e2e_latency_min\n{WORK},8,0.7,0.2\n")
    with pytest.raises(FormatError, match="no row has a value") as caught:
        require_values(frame)
    assert "throughput_ktok_s" in str(caught.value.got)
