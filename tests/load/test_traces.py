"""Traces are read in their own units, bounded, and refused with the number of the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewmark.core.errors import FormatError, InputError
from fewmark.load import traces
from fewmark.load.traces import TraceOptions, read_trace

MOONCAKE = [
    {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48]},
    {"timestamp": 10535, "input_length": 1024, "output_length": 26, "hash_ids": [46, 47, 99]},
    {"timestamp": 30535, "input_length": 500, "output_length": 1},
]
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
118,GPT-4,417,0,417,API log
120,GPT-4,417,276,693,API log
"""
OWN = "output_tokens,time_s,input_tokens,model\n8,0.5,100,base\n16,0.25,200,\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "trace.txt"
    path.write_text(text, encoding="utf-8")
    return path


def mooncake(folder: Path, *lines: object) -> Path:
    return write(folder, "".join(json.dumps(line) + "\n" for line in lines))


def test_mooncake_is_in_milliseconds_sorted_and_keeps_its_blocks(tmp_path):
    trace = read_trace(mooncake(tmp_path, *MOONCAKE))
    assert [r.time_s for r in trace.requests] == pytest.approx([0.0, 16.947, 20.0])
    assert [(r.input_tokens, r.output_tokens) for r in trace.requests] == [(1024, 26), (6955, 52), (500, 1)]
    assert [r.blocks for r in trace.requests] == [(46, 47), (46, 47, 48), ()]  # 1024 tokens have two blocks
    assert trace.mean_request_rate == pytest.approx(0.1)


def test_burstgpt_is_in_seconds_and_its_failures_are_left_out(tmp_path):
    trace = read_trace(write(tmp_path, BURSTGPT))
    assert [(r.time_s, r.input_tokens, r.output_tokens, r.model) for r in trace.requests] == [
        (0.0, 472, 18, "ChatGPT"),
        (40.0, 1087, 230, "ChatGPT"),
        (115.0, 417, 276, "GPT-4"),
    ]
    assert trace.left_out == {"recorded as failed": 1}


def test_a_csv_of_ones_own_may_have_its_columns_in_any_order(tmp_path):
    trace = read_trace(write(tmp_path, "\ufeff" + OWN))
    assert [(r.time_s, r.input_tokens, r.output_tokens, r.model) for r in trace.requests] == [
        (0.0, 200, 16, None),
        (0.25, 100, 8, "base"),
    ]


def test_a_part_of_a_trace_faster(tmp_path):
    options = TraceOptions(speed=10.0, start_s=30.0, duration_s=100.0)
    trace = read_trace(write(tmp_path, BURSTGPT), options=options)
    assert [r.time_s for r in trace.requests] == [0.0, 7.5]
    assert trace.left_out == {"recorded as failed": 1, "outside the chosen time": 1}
    whole = read_trace(write(tmp_path, BURSTGPT), options=TraceOptions(speed=10.0))
    assert [r.time_s for r in whole.requests] == [0.0, 4.0, 11.5]


def test_what_is_too_long_is_left_out_and_counted(tmp_path):
    options = TraceOptions(max_input_tokens=500, max_total_tokens=600)
    trace = read_trace(write(tmp_path, BURSTGPT), options=options)
    assert [r.input_tokens for r in trace.requests] == [472]
    assert trace.left_out["with more than 500 input tokens"] == 1
    assert trace.left_out["with more than 600 tokens in all"] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a trace"),
        ("a,b,c\n1,2,3\n", "not a trace"),
        ('{"timestamp": 1, "input_length": 5}\n', "output_length"),
        ('{"timestamp": 1, "input_length": 0, "output_length": 5}\n', "input_length"),
        ('{"timestamp": -1, "input_length": 5, "output_length": 5}\n', "timestamp"),
        ('{"timestamp": "NaN", "input_length": 5, "output_length": 5}\n', "timestamp"),
        ('{"timestamp": 1, "input_length": 1e99, "output_length": 5}\n', "input_length"),
        ('{"timestamp": 1, "input_length": true, "output_length": 5}\n', "input_length"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": ["a"]}\n', "hash_ids"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 5}\nnonsense\n', "line 2"),
        ("{" * 100_000, "JSON object"),
        ("time_s,input_tokens,output_tokens\n1,2\n", "line 2"),
        ("time_s,input_tokens,output_tokens\n1,2.5,3\n", "input_tokens"),
        ("time_s,input_tokens,output_tokens\n", "nothing of the trace"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        read_trace(write(tmp_path, text))


def test_the_format_that_was_asked_for_must_be_the_files(tmp_path):
    with pytest.raises(FormatError, match="lacks time_s"):
        read_trace(write(tmp_path, BURSTGPT), "csv")


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path):
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe\x00x" * 10)
    with pytest.raises(FormatError, match="UTF-8"):
        read_trace(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(tmp_path / "missing")


def test_a_line_or_a_file_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(traces, "MAX_LINE_CHARS", 100)
    with pytest.raises(FormatError, match="100 characters"):
        read_trace(mooncake(tmp_path, MOONCAKE[2], {**MOONCAKE[0], "hash_ids": list(range(100))}))
    monkeypatch.setattr(traces, "MAX_REQUESTS", 2)
    with pytest.raises(InputError, match="at most 2"):
        read_trace(mooncake(tmp_path, *[MOONCAKE[2]] * 3), options=TraceOptions(max_requests=1))


@pytest.mark.parametrize("options", [{"speed": 0.0}, {"start_s": -1.0}, {"max_requests": 0}, {"duration_s": 0.0}])
def test_options_without_meaning_are_refused(options):
    with pytest.raises(InputError):
        TraceOptions(**options)
