"""Each bad answer ends as a record with a status, and the next request goes well."""

from __future__ import annotations

import gzip
import json
import socket

import pytest

from fewmark.load.decoding import Decoder, Sent, make_record
from fewmark.load.records import RequestStatus

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
JSON_HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def json_answer(status: bytes, value: object) -> bytes:
    body = json.dumps(value).encode()
    return JSON_HEAD % (status, len(body)) + body


def test_a_good_answer(ask, wire):
    record = ask(wire.answer(4))
    assert record.status is RequestStatus.OK
    assert (record.prompt_tokens, record.completion_tokens, record.finish_reason) == (5, 4, "length")
    assert record.n_chunks == 4
    assert len(record.chunk_gaps_s) == record.n_chunks - record.n_coalesced - 1
    times = [record.planned_send_s, record.connect_s, record.send_s, record.first_byte_s, record.first_chunk_s]
    times += [record.last_token_s, record.end_s]
    assert times == sorted(times)
    assert record.first_output_s == record.first_chunk_s
    assert not record.reused


def test_connection_refused(load, wire):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    records = load(f"http://127.0.0.1:{port}", [wire.plan(i) for i in range(6)]).records
    assert [r.status for r in records] == [RequestStatus.REFUSED] * 6
    assert all("refused" in r.error.lower() and r.send_s is None and r.end_s is not None for r in records)


def test_no_such_host(load, wire):
    (record,) = load("http://no-such-host.invalid", [wire.plan()]).records
    assert record.status is RequestStatus.REFUSED
    assert "no such host" in record.error


def test_death_in_mid_stream(ask, wire):
    record = ask(wire.answer(8)[:4], close=True)
    assert record.status is RequestStatus.CUT
    assert record.n_chunks == 3
    assert record.completion_tokens is None
    assert record.last_token_s is not None


def test_a_reset_in_mid_stream(ask, server, wire):
    server.reset = True
    record = ask([*wire.answer(8)[:4], 0.1], close=True)
    assert record.status is RequestStatus.CUT


@pytest.mark.parametrize("closes", [False, True])
def test_an_end_whose_bytes_come_apart(load, server, wire, closes, monkeypatch):
    """As llama-server sends it, which closes after each answer whatever its header says."""
    monkeypatch.setattr("fewmark.load.loop.QUIET_S", 600.0)
    *answer, _ = wire.answer(4)
    server.script = lambda path: [*answer, 0.03, b"0\r\n", 0.03, b"\r\n"]
    server.close_after = closes
    records = load(server.url, [wire.plan(i) for i in range(6)], concurrency=1).records
    assert [r.status for r in records] == [RequestStatus.OK] * 6
    assert [r.reused for r in records] == [False] + [not closes] * 5
    assert records[-1].end_s - records[0].send_s < 30


@pytest.mark.parametrize("end", [b"0\r\nServer-Timing: all;dur=3\r\n\r\n", b"0;last=1\r\n\r\n"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_other_ends_of_chunks_are_seen_at_once(load, server, wire, end, newline, monkeypatch):
    monkeypatch.setattr("fewmark.load.loop.QUIET_S", 600.0)
    events = [wire.event(" a").replace(b"\n", newline) for _ in range(6)] + [wire.event(usage=6), wire.DONE]
    server.script = lambda path: [wire.CHUNKED, *(piece for e in events for piece in (wire.chunk(e), 0.003)), end]
    records = load(server.url, [wire.plan(i) for i in range(4)], concurrency=1).records
    assert [r.status for r in records] == [RequestStatus.OK] * 4
    assert [r.n_chunks for r in records] == [6] * 4
    assert [r.reused for r in records] == [False, True, True, True]


def test_closed_before_an_answer(ask):
    record = ask([], close=True)
    assert record.status is RequestStatus.CUT
    assert record.first_byte_s is None
    assert record.http_status is None


@pytest.mark.parametrize("n_pieces", [0, 1, 4])
def test_a_hang_ends_by_the_limit(ask, wire, n_pieces):
    record = ask([*wire.answer(8)[:n_pieces], 1.5], settings={"stall_timeout_s": 0.3}, close=True)
    assert record.status is RequestStatus.TIMEOUT
    assert record.end_s - (record.last_token_s or record.send_s) >= 0.29  # its stream was not idle meanwhile
    assert record.n_chunks == max(n_pieces - 1, 0)


def test_a_trickle_ends_by_the_limit(ask, wire):
    body = b"".join(wire.answer(8))
    trickle = [piece for at in range(0, 40) for piece in (body[at : at + 1], 0.05)]
    record = ask(trickle, settings={"request_timeout_s": 0.5}, close=True)
    assert record.status is RequestStatus.TIMEOUT


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (b"429 Too Many Requests", {"error": {"message": "slow down", "type": "rate"}}),
        (b"500 Internal Server Error", {"detail": "slow down"}),
        (b"400 Bad Request", {"object": "error", "message": "slow down"}),
        (b"503 Service Unavailable", "slow down"),
    ],
)
def test_an_error_status_is_kept_with_its_message(ask, status, said):
    record = ask([json_answer(status, said)])
    assert record.status is RequestStatus.HTTP_ERROR
    assert record.http_status == int(status[:3])
    assert record.error == f"HTTP {record.http_status}: slow down"


def test_an_early_error_to_a_long_prompt(ask):
    record = ask([json_answer(b"413 Content Too Large", {"error": "too long"})], close=True)
    assert (record.status, record.http_status) == (RequestStatus.HTTP_ERROR, 413)


def test_html_with_an_error_and_without(ask):
    page = b"<html><body>" + b"Bad gateway " * 500 + b"</body></html>"
    for status, expected in (b"502 Bad Gateway", RequestStatus.HTTP_ERROR), (b"200 OK", RequestStatus.MALFORMED):
        head = b"HTTP/1.1 %b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
        record = ask([head % (status, len(page)) + page])
        assert record.status is expected
        assert len(record.error) <= 400


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {not json}\n\n",
        b'data: ["a", "list"]\n\n',
        b'data: {"choices": "none"}\n\n',
        b'data: {"choices": ["none"]}\n\n',
        b"{}\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        b'data: {"choices":[{"text":"\xff\xfe"}]}\n\n',
    ],
)
def test_malformed_events(ask, wire, bad):
    record = ask([wire.CHUNKED, wire.chunk(wire.event(" a")), wire.chunk(bad), wire.chunk(wire.DONE), wire.END])
    assert record.status is RequestStatus.MALFORMED
    assert record.n_chunks == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 2xx OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 2000,
    ],
)
def test_what_is_not_http(ask, raw):
    assert ask([raw], close=True).status is RequestStatus.MALFORMED


def test_events_without_choices_or_usage_are_no_answer(ask, wire):
    record = ask([wire.CHUNKED, wire.chunk(wire.event()), wire.chunk(wire.DONE), wire.END])
    assert (record.status, record.error) == (RequestStatus.MALFORMED, "an answer without choices")


def test_another_protocol_is_not_waited_for(ask):
    record = ask([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"])
    assert (record.status, record.http_status) == (RequestStatus.HTTP_ERROR, 101)


def test_an_answer_that_came_before_its_request(wire):
    decoder = Decoder(stream=True)
    sent = Sent(wire.plan(), 0, send_ns=2_000, first_byte_ns=1_000)
    decoder.feed([1_000], [b"".join(wire.answer())])
    assert make_record(sent, decoder, None, None).status is RequestStatus.MALFORMED


def test_an_error_inside_the_stream(ask, wire):
    error = b'data: {"error":{"message":"engine died","code":500}}\n\n'
    record = ask([wire.CHUNKED, wire.chunk(wire.event(" a")), wire.chunk(error), wire.chunk(wire.DONE), wire.END])
    assert (record.status, record.error) == (RequestStatus.HTTP_ERROR, "engine died")


def test_a_redirect_is_not_followed(ask, server, tls_server, monkeypatch):
    to = f"Location: http://127.0.0.1:{tls_server.port}/v1/completions".encode()
    record = ask([b"HTTP/1.1 307 Temporary Redirect\r\n" + to + b"\r\nContent-Length: 0\r\n\r\n"])
    assert record.status is RequestStatus.REDIRECT
    assert record.http_status == 307
    assert str(tls_server.port) in record.error
    assert not tls_server.n_connections


def test_an_answer_over_the_limit(ask, wire):
    flood = wire.chunk(wire.event(" a" * 4000)) * 50
    record = ask([wire.CHUNKED, flood, flood], settings={"max_answer_bytes": 200_000}, close=True)
    assert record.status is RequestStatus.TOO_LARGE


def test_a_small_answer_that_unpacks_to_much(ask):
    body = gzip.compress(b"data: " + b" " * 3_000_000 + b"\n\n")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    record = ask([head % len(body) + body], settings={"max_answer_bytes": 1_000_000})
    assert record.status is RequestStatus.TOO_LARGE


def test_broken_gzip(ask):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n"
    assert ask([head + b"not gzip!"]).status is RequestStatus.MALFORMED


def test_closed_without_a_length_is_whole_if_the_events_say_so(ask, wire):
    events = wire.event(" a") + wire.event(" b", finish="length") + wire.event(usage=2)
    assert ask([PLAIN + events + wire.DONE], close=True, output_tokens=2).status is RequestStatus.OK
    assert ask([PLAIN + events], close=True, output_tokens=2).status is RequestStatus.OK  # no [DONE]
    assert ask([PLAIN + wire.event(" a")], close=True, output_tokens=2).status is RequestStatus.CUT


def test_done_and_then_nothing(ask, wire):
    record = ask([*wire.answer(4)[:-1], 2.5], close=True)
    assert record.status is RequestStatus.OK
    assert record.end_s - record.last_token_s < 1.0


def test_bytes_after_the_answer(ask, wire):
    assert ask([b"".join(wire.answer(4)) + b"HTTP/1.1 200 OK\r\n\r\n"]).status is RequestStatus.OK


def test_an_interim_answer(ask, wire):
    assert ask([b"HTTP/1.1 100 Continue\r\n\r\n", 0.05, *wire.answer(4)]).status is RequestStatus.OK
