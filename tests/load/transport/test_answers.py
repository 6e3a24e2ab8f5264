"""What servers send when all is well, in every form that they use."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from dataclasses import replace

import pytest

from fewmark.load.records import RequestStatus


def test_tokens_are_counted_by_usage_not_by_events(ask, wire):
    events = [wire.event(" a b c"), wire.event(" d e f", finish="length"), wire.event(usage=6)]
    record = ask([wire.CHUNKED, *map(wire.chunk, events), wire.chunk(wire.DONE), wire.END], output_tokens=6)
    assert (record.status, record.completion_tokens, record.n_chunks) == (RequestStatus.OK, 6, 2)


def test_fewer_tokens_than_asked_for_are_short(ask, wire):
    record = ask(wire.answer(4), output_tokens=100)
    assert (record.status, record.completion_tokens, record.output_tokens_asked) == (RequestStatus.SHORT, 4, 100)


NONSENSE = [{"completion_tokens": n} for n in ("4", -1, 3.7, 10**30, math.nan, math.inf)]


@pytest.mark.parametrize("usage", [None, "many", [], 7, True, *NONSENSE])
def test_missing_or_wrong_usage_is_unknown_not_zero(ask, wire, usage):
    last = wire.event() if usage is None else b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
    record = ask([*wire.answer(4)[:5], wire.chunk(last), wire.chunk(wire.DONE), wire.END])
    assert record.status is RequestStatus.OK
    assert record.completion_tokens is None
    assert record.n_chunks == 4


def test_the_role_of_the_chat_route_is_no_token(ask, wire):
    def delta(delta, finish=None):
        value = {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        return wire.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    parts = [wire.CHUNKED, delta({"role": "assistant", "content": ""}), 0.1, delta({"content": "a"})]
    parts += [delta({"content": "b"}), delta({"content": ""}, "length"), wire.chunk(wire.event(usage=2))]
    record = ask([*parts, wire.chunk(wire.DONE), wire.END], output_tokens=2)
    assert (record.n_chunks, record.completion_tokens) == (2, 2)
    assert record.first_chunk_s - record.first_byte_s > 0.05


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_comes_before_the_first_output(ask, wire, key):
    def delta(**delta):
        value = {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        return wire.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    thoughts = [piece for word in ("hm", "so", "well") for piece in (delta(**{key: word}), 0.05)]
    usage = {"prompt_tokens": 5, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 3}}
    last = wire.chunk(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
    record = ask([wire.CHUNKED, *thoughts, delta(content="42"), last, wire.chunk(wire.DONE), wire.END])
    assert record.n_chunks == 4
    assert record.reasoning_tokens == 3
    assert record.first_output_s - record.first_chunk_s > 0.1
    assert record.first_output_s == record.last_token_s


def test_usage_with_every_event_tells_of_tokens_without_text(ask, wire):
    events = [wire.event(" a", usage=1), wire.event("", usage=2), wire.event("", usage=2), wire.event(" c", usage=3)]
    record = ask([wire.CHUNKED, *map(wire.chunk, events), wire.chunk(wire.DONE), wire.END], output_tokens=3)
    assert (record.n_chunks, record.completion_tokens) == (3, 3)


def test_what_python_takes_for_the_end_of_a_line_ends_no_event(ask, wire):
    def event(text):
        value = {"id": "1", "choices": [{"index": 0, "text": text, "finish_reason": None}]}
        return wire.chunk(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n")

    texts = [" a\u2028b", "\u2029", "\u0085c"]  # JSON holds them unescaped, and httpx's aiter_lines cuts there
    last = [wire.chunk(wire.event(usage=3)), wire.chunk(wire.DONE), wire.END]
    record = ask([wire.CHUNKED, *map(event, texts), *last], output_tokens=3)
    assert (record.status, record.n_chunks, record.completion_tokens) == (RequestStatus.OK, 3, 3)


def test_a_tool_call_is_output(ask, wire):
    call = {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}}]}
    parts = [wire.chunk(b"data: " + json.dumps(call).encode() + b"\n\n")] * 2
    record = ask([wire.CHUNKED, *parts, wire.chunk(wire.event(usage=4)), wire.chunk(wire.DONE), wire.END])
    assert record.n_chunks == 2


def mixed_forms(wire):
    """One answer of five tokens as a body, with everything that a stream of events may hold."""
    events = [
        b"\xef\xbb\xbf: a comment after a byte order mark\n\n",
        b"data: null\n\n",
        b"event: message\r\nid: 7\r\nretry: 10\r\n" + wire.event(" naïve ☃").replace(b"\n\n", b"\r\n\r\n"),
        wire.event(" 日本語"),
        wire.event(' "quoted\\" \n'),
        wire.event(" " + "x" * 1_000_000),
        wire.event(" last", finish="stop"),
        wire.event(usage=5),
        b"data:[DONE]\n\n",
        wire.DONE,
        b"data: anything\n\n",
    ]
    return b"".join(events)


def headers(*lines):
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + b"".join(b"%b\r\n" % x for x in lines) + b"\r\n"


@pytest.mark.parametrize("size", [1 << 30, 65_536, 1000, 7])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_any_cut_of_any_form_gives_the_same(ask, wire, size, framing):
    body = mixed_forms(wire)
    if size == 7:
        body = body.replace(b"x" * 1_000_000, b"x" * 100)
    if framing == "chunked":
        parts = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
        raw = headers(b"Transfer-Encoding: chunked") + b"".join(map(wire.chunk, parts)) + b"0\r\nTrailer: x\r\n\r\n"
    elif framing == "length":
        raw = headers(b"Content-Length: %d" % len(body)) + body
    else:
        raw = headers() + body
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    record = ask(pieces, close=framing == "close", output_tokens=5)
    assert record.status is RequestStatus.OK, record.error
    assert (record.n_chunks, record.completion_tokens, record.finish_reason) == (5, 5, "stop")
    assert record.n_coalesced + len(record.chunk_gaps_s) == 4


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_compressed_answers(ask, wire, pack):
    name = b"gzip" if pack is gzip.compress else b"deflate"
    body = pack(mixed_forms(wire))
    record = ask([headers(b"Content-Encoding: " + name, b"Content-Length: %d" % len(body)) + body], output_tokens=5)
    assert (record.status, record.n_chunks, record.completion_tokens) == (RequestStatus.OK, 5, 5)


def test_many_events_in_one_segment_share_one_time(ask, wire):
    events = [wire.chunk(wire.event(f" t{i}")) for i in range(10)]
    rest = [wire.chunk(wire.event(" z", finish="length")), wire.chunk(wire.event(usage=11)), wire.chunk(wire.DONE)]
    record = ask([wire.CHUNKED, 0.1, b"".join(events), 0.1, *rest, wire.END], output_tokens=11)
    assert record.n_chunks == 11
    assert record.n_coalesced == 9
    assert len(record.chunk_gaps_s) == 1
    assert record.chunk_gaps_s[0] > 0.05
    assert record.second_token_s is None  # when it came is not known


def test_gaps_are_those_between_the_chunks(ask, wire):
    parts = [p for i in range(4) for p in (wire.chunk(wire.event(f" t{i}")), 0.1)]
    record = ask([wire.CHUNKED, *parts, wire.chunk(wire.event(usage=4)), wire.chunk(wire.DONE), wire.END])
    assert all(gap > 0.09 for gap in record.chunk_gaps_s)
    assert sum(record.chunk_gaps_s) == pytest.approx(record.last_token_s - record.first_chunk_s, abs=1e-5)
    assert record.second_token_s - record.first_chunk_s == pytest.approx(record.chunk_gaps_s[0], abs=1e-5)


def test_an_answer_that_is_not_streamed(ask):
    body = json.dumps(
        {
            "choices": [{"text": "all at once", "finish_reason": "length"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 4},
        }
    ).encode()
    raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for stream in False, True:  # a server may answer so though a stream was asked for
        record = ask([raw[:40], 0.02, raw[40:]], stream=stream)
        assert (record.status, record.completion_tokens, record.prompt_tokens) == (RequestStatus.OK, 4, 7)
        assert record.finish_reason == "length"
        assert record.first_chunk_s is None
        assert record.n_chunks == 0
        assert record.end_s > record.first_byte_s


def test_half_of_a_surrogate_pair_is_a_chunk(ask, wire):
    parts = [wire.chunk(b'data: {"choices":[{"text":"\\ud83d"}]}\n\n'), wire.chunk(wire.event(usage=1))]
    record = ask([wire.CHUNKED, *parts, wire.chunk(wire.DONE), wire.END], output_tokens=1)
    assert (record.status, record.n_chunks) == (RequestStatus.OK, 1)


def test_a_null_finish_reason_and_no_done(ask, wire):
    events = [wire.event(f" t{i}") for i in range(4)]
    record = ask([wire.CHUNKED, *map(wire.chunk, events), wire.chunk(wire.event(usage=4)), wire.END])
    assert (record.status, record.finish_reason, record.completion_tokens) == (RequestStatus.OK, None, 4)


def test_a_prompt_of_many_tokens_arrives_whole(load, server, wire):
    body = json.dumps({"prompt": list(range(50_000)), "stream": True}).encode()
    (record,) = load(server.url, [replace(wire.plan(), body=body)]).records
    assert record.status is RequestStatus.OK
    assert server.bodies == [body]
