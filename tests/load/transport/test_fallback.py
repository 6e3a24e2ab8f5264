"""The transport on aiohttp gives the same records, with times of its own."""

from __future__ import annotations

import gzip
import json

import pytest

from fewmark.load.records import RequestStatus

pytest.importorskip("aiohttp")
FALLBACK = {"transport": "aiohttp"}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_closed_loop(server, load, wire, workers):
    server.script = lambda path: [p for part in wire.answer(6) for p in (part, 0.01)]
    plans = [wire.plan(i, output_tokens=6) for i in range(12)]
    result = load(server.url, plans, concurrency=3, workers=workers, **FALLBACK)
    assert [r.index for r in result.records] == list(range(12))
    assert all((r.status, r.n_chunks, r.completion_tokens) == (RequestStatus.OK, 6, 6) for r in result.records)
    assert not any(r.kernel_stamps for r in result.records)
    assert result.transport == "aiohttp"
    assert server.n_connections == 3
    for r in result.records:
        assert r.planned_send_s <= r.send_s <= r.first_byte_s <= r.first_chunk_s <= r.last_token_s <= r.end_s
        assert r.reused == (r.connect_s is None)


def test_bad_answers(server, load, wire, tls_server):
    gz = gzip.compress(b"".join(wire.event(" a", usage=i + 1) for i in range(4)) + wire.DONE)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    error = json.dumps({"error": {"message": "slow down"}}).encode()
    scripts = {
        "/gzip": ([head % len(gz) + gz], RequestStatus.OK),
        "/short": (wire.answer(2), RequestStatus.SHORT),
        "/429": ([b"HTTP/1.1 429 No\r\nContent-Length: %d\r\n\r\n" % len(error) + error], RequestStatus.HTTP_ERROR),
        "/cut": (wire.answer(8)[:4], RequestStatus.CUT),
        "/none": ([], RequestStatus.CUT),
        "/bad": ([wire.CHUNKED, wire.chunk(b"data: {no\n\n"), wire.END], RequestStatus.MALFORMED),
        "/ssh": ([b"SSH-2.0-OpenSSH\r\n\r\n"], RequestStatus.MALFORMED),
        "/hang": ([*wire.answer(8)[:3], 1.5], RequestStatus.TIMEOUT),
        "/moved": (
            [b"HTTP/1.1 302 Found\r\nLocation: %b/\r\nContent-Length: 0\r\n\r\n" % tls_server.url.encode()],
            RequestStatus.REDIRECT,
        ),
        "/flood": ([wire.CHUNKED, wire.chunk(wire.event("x" * 400_000)), wire.END], RequestStatus.TOO_LARGE),
        "/good": (wire.answer(4), RequestStatus.OK),
    }
    server.script = lambda path: list(scripts[path][0])
    server.close_after = True
    plans = [wire.plan(i, path=path) for i, path in enumerate(scripts)]
    result = load(server.url, plans, concurrency=1, stall_timeout_s=0.4, max_answer_bytes=200_000, **FALLBACK)
    assert {plan.path: r.status for plan, r in zip(plans, result.records, strict=True)} == {
        path: status for path, (_, status) in scripts.items()
    }
    assert not tls_server.n_connections


@pytest.mark.parametrize("pause_s", [0.0, 0.02])
def test_a_connection_closed_while_idle_is_made_anew(server, load, wire, pause_s):
    server.script = lambda path: [*wire.answer(), pause_s]
    server.close_after = True  # without saying so in a header
    result = load(server.url, [wire.plan(i) for i in range(12)], concurrency=1, **FALLBACK)
    assert [r.status for r in result.records] == [RequestStatus.OK] * 12
    assert len(server.heads) == 12


def test_no_connection(load, wire, tls_server):
    (record,) = load("http://127.0.0.1:9", [wire.plan()], **FALLBACK).records
    assert (record.status, record.send_s) == (RequestStatus.REFUSED, None)
    (record,) = load(tls_server.url, [wire.plan()], **FALLBACK).records
    assert (record.status, record.send_s) == (RequestStatus.TLS_ERROR, None)


def test_an_open_loop_ends_in_time(server, load, wire):
    server.script = lambda path: [*wire.answer()[:3], 2.0]
    plans = [wire.plan(i, planned_send_s=0.05 * i) for i in range(40)]
    result = load(server.url, plans, concurrency=None, duration_s=0.4, drain_s=0.1, **FALLBACK)
    assert 4 <= len(result.records) <= 10
    assert all(r.status is RequestStatus.CANCELLED for r in result.records)
