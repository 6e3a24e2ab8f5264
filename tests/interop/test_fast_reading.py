"""What is read faster than one value at a time is read as if one value at a time."""

import json
import random

import numpy as np
import pytest

from fewmark.core import FormatError
from fewmark.interop import read_table
from fewmark.interop.formats.aiperf import requests as aiperf
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.text import csv_text, json_text

TEXTS = [
    *('{"a": 1}', '\n\n {"a": 1, "a": 2}\n', '{"a": NaN}', '{"a": 1e999}', '{"a": -0}', '{"a": "\\ud800"}', "[]"),
    *(
        '[{"a": 1}]',
        '{"a": 1}{"b": 2}\n{"c": 3}',
        'a heading\n{"a":\n 1}\n[INFO] a log\n{"b": 12345678901234567890123}',
    ),
    *('{"a": 1}\n{"b": 2}\n\n{"c": 3}', '[true]\n{"a": 1}', "\ufeff{}", '{"a": 1.0}\n{"a": 0.1}'),
    *('{"a": 01}', '{"a": [1,]}', '{"a": 1', "[" * 100_000, '{"a": "b\tc"}', "{'a': 1}", '{"a": 1} trailing'),
]


def _outcome(path):
    try:
        return repr(json_text.read_documents(path))
    except FormatError as error:
        return error.what


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_json_is_what_the_standard_library_makes_of_it(tmp_path, monkeypatch, text):
    path = tmp_path / "file.json"
    path.write_text(text)
    fast = _outcome(path)
    monkeypatch.setattr(json_text, "fast_decode", None)
    assert fast == _outcome(path)


STREAMS = [
    *([0.01, 0.02], [], [1, 2.5], None, "text", [True, 0.5], ["0.25", 0.5], [None, 0.5], [-1.0, 0.5], [1e7, 0.5]),
    *([float("nan"), 0.5], [10**400], [[0.1]], 3.0),
]


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_streams_together_are_streams_one_by_one(scale):
    draw = random.Random(0)
    plain = [[draw.uniform(0.001, 0.1) for _ in range(draw.randrange(200))] for _ in range(50)]
    for streams in (plain, plain + STREAMS, STREAMS, []):
        together, alone = RequestRecords(), RequestRecords()
        together.keep_gaps(streams, scale)
        sums = [alone.add_gaps(stream, scale) for stream in streams]
        assert together.gaps_s == alone.gaps_s
        if scale == 1.0:
            summed = RequestRecords()
            assert summed.add_streams(streams) == sums
            assert summed.gaps_s == alone.gaps_s


def _line(**changes):
    metrics = {
        "time_to_first_token": {"value": 200.5, "unit": "ms"},
        "request_latency": {"value": 1, "unit": "s"},
        "inter_chunk_latency": {"value": [9.5, 10], "unit": "ms"},
        "output_sequence_length": {"value": 3, "unit": "tokens"},
        "input_sequence_length": {"value": 512, "unit": "tokens"},
    }
    metadata = {"benchmark_phase": "profiling", "request_start_ns": 1_700_000_000_000_000_001, "request_end_ns": 2e18}
    return {
        "metadata": metadata | changes.pop("metadata", {}),
        "metrics": metrics | changes.pop("metrics", {}),
        **changes,
    }


LINES = [
    _line(),
    _line(metrics={"request_latency": {"value": "0.5", "unit": "s"}}),
    _line(metrics={"request_latency": {"value": None}}),
    _line(metrics={"request_latency": {"value": [1.0]}}),
    _line(metrics={"time_to_first_token": {"value": 1.0, "unit": "parsec"}}),
    _line(metrics={"usage_completion_tokens": {"value": 7}, "usage_prompt_tokens": {"value": 0}}),
    _line(metrics={"inter_chunk_latency": {"value": 3.0}}),
    _line(metrics={"inter_chunk_latency": [1.0]}),
    _line(metadata={"phase_kind": "warmup"}),
    _line(metadata={"was_cancelled": True}),
    _line(metadata={"request_start_ns": None, "request_end_ns": "17"}),
    _line(error={"message": "no"}),
    _line(error=""),
    {"metadata": {}, "metrics": None},
]


@pytest.mark.parametrize("item", LINES, ids=range(len(LINES)))
def test_a_request_is_the_same_by_either_decoder(item):
    line = json.dumps(item).encode()
    slow = aiperf._of_json(line, 1)
    fast = aiperf._fast(line)
    assert fast is None or fast == slow
    if item is LINES[0]:
        assert fast is not None


def test_lists_of_requests_with_odd_entries(tmp_path):
    """One entry that is no plain number leaves the others what they are."""
    n = 20
    run = {
        "date": "20261101-120000", "backend": "vllm", "model_id": "org/m", "request_rate": "inf", "max_concurrency": 2,
        "duration": 5.0, "num_prompts": n, "completed": n - 2, "total_input_tokens": 512 * n, "failed": 2,
        "total_output_tokens": 4 * n, "request_throughput": 4.0, "output_throughput": 16.0,
        "total_token_throughput": 2064.0, "input_lens": [512] * n, "output_lens": [4] * n,
        "ttfts": [0.2 + i / 100 for i in range(n)], "itls": [[0.01, 0.02, 0.03]] * n, "errors": [""] * (n - 1) + ["no"],
    }  # fmt: skip
    plain, odd = tmp_path / "plain.json", tmp_path / "odd.json"
    run["ttfts"][0] = 0.0
    plain.write_text(json.dumps(run))
    run["ttfts"][1], run["itls"][2] = str(run["ttfts"][1]), [0.01, None, 0.02, 0.03]
    odd.write_text(json.dumps(run))
    first, second = read_table(plain).iloc[0], read_table(odd).iloc[0]
    assert "recomputed" in first["note"] and first["n_requests"] == n - 2
    for name in ("ttft_s", "e2e_latency_s", "tpot_s", "itl_s", "ttft_p99_s"):
        assert np.isclose(first[name], second[name], rtol=1e-12), name


HEADER = "engine,model,input_tokens,output_tokens,batch_size,e2e_latency_s,status,note,option.block"
ROWS = ["vllm,m,128,64,4,1.25,ok,,16", "vllm,m,128,64,8,,out_of_memory,,", "n/a, m ,1e2,64,1,.5e1,OK,a remark,true"]
TABLE_TEXTS = {
    "plain": [HEADER, *ROWS[:2]],
    "blank lines, CRLF": "\r\n".join([HEADER, "", *ROWS[:2], ""]).split("\n"),
    "odd labels": [HEADER, ROWS[0], "n/a, m ,100,64,1,5,OK,a remark,true", "NULL,-,100.0,64,2,6.,,,1.50"],
    "a point first": [HEADER, *ROWS],
    "words for numbers": [HEADER, "vllm,m,128,64,4,OOM,,,16", "vllm,m,1_000,64,4,nan,,,16"],
    "zero load": [HEADER, "vllm,m,128,64,0,1,,,16"],
    "negative": [HEADER, "vllm,m,128,64,1,-1,,,16"],
    "too large": [HEADER, "vllm,m,128,64,1,1e999,,,16"],
    "ragged": [HEADER, "vllm,m,128,64,1,1,,16"],
    "quoted": [HEADER, 'vllm,"m, n",128,64,1,1,,,16'],
    "unknown status": [HEADER, "vllm,m,128,64,1,1,perhaps,,16"],
    "two loads": [HEADER.replace("note", "concurrency"), "vllm,m,128,64,1,1,ok,2,16"],
    "other names": [HEADER.replace("e2e_latency_s", "Latency (ms)"), *ROWS[:2]],
    "twice the same name": [HEADER.replace("note", "model"), *ROWS[:2]],
    "a column for each load": [HEADER.replace("note", "option.batch 8,option.batch 16"), "v,m,1,1,1,1,ok,3,4,5"],
}


@pytest.mark.parametrize("lines", TABLE_TEXTS.values(), ids=TABLE_TEXTS)
def test_a_plain_table_is_what_its_single_cells_say(tmp_path, monkeypatch, lines):
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n", newline="")

    def outcome():
        try:
            frame = read_table(path)
        except FormatError as error:
            return str(error)
        cells = [(name, str(frame[name].dtype), list(map(repr, frame[name]))) for name in frame]
        return cells, frame.attrs["understanding"], frame.attrs.get("records") == "as stored"

    slow = outcome()
    monkeypatch.setattr(csv_text, "MIN_PLAIN", 0)
    assert outcome() == slow
    assert lines is not TABLE_TEXTS["plain"] or csv_text.read_plain_table(path) is not None
