"""TLS over memory: the same records with the kernel's times, and certificates that are looked at."""

from __future__ import annotations

import json
import sys

import pytest

from fewmark.core.errors import InputError
from fewmark.load.endpoint import Endpoint
from fewmark.load.records import RequestStatus


def test_answers_over_tls(tls_server, load, wire, certificate):
    tls_server.script = lambda path: [piece for part in wire.answer(20) for piece in (part, 0.002)]
    body = json.dumps({"prompt": "x" * 300_000}).encode()
    plans = [wire.plan(i, output_tokens=20) for i in range(6)]
    plans[2] = type(plans[2])(2, body, output_tokens=20)
    result = load(tls_server.url, plans, {"ca_file": str(certificate[0])}, concurrency=2)
    assert [r.status for r in result.records] == [RequestStatus.OK] * 6
    assert all(r.n_chunks == 20 and r.completion_tokens == 20 for r in result.records)
    assert [r.reused for r in result.records].count(False) == tls_server.n_connections == 2
    assert body in tls_server.bodies
    assert all(r.kernel_stamps for r in result.records) or sys.platform != "linux"


def test_a_certificate_that_nobody_vouches_for(tls_server, load, wire):
    (record,) = load(tls_server.url, [wire.plan()]).records
    assert record.status is RequestStatus.TLS_ERROR
    assert record.send_s is None
    assert not tls_server.heads
    (record,) = load(tls_server.url, [wire.plan()], {"verify": False}).records
    assert record.status is RequestStatus.OK


def test_a_certificate_of_another_host(tls_server, load, wire, certificate):
    url = tls_server.url.replace("localhost", "127.0.0.1")
    (record,) = load(url, [wire.plan()], {"ca_file": str(certificate[0])}).records
    assert record.status is RequestStatus.TLS_ERROR
    assert "127.0.0.1" in record.error


def test_a_plain_server_where_tls_was_expected(server, load, wire):
    (record,) = load(
        server.url.replace("http:", "https:"), [wire.plan()], stall_timeout_s=2.0, connect_timeout_s=2.0
    ).records
    assert record.status in (RequestStatus.TLS_ERROR, RequestStatus.TIMEOUT)
    assert record.send_s is None


def test_a_tls_server_where_a_plain_one_was_expected(tls_server, load, wire):
    (record,) = load(tls_server.url.replace("https:", "http:"), [wire.plan()]).records
    assert record.status in (RequestStatus.CUT, RequestStatus.MALFORMED)


def test_cut_in_mid_stream(tls_server, load, wire, certificate):
    tls_server.script = lambda path: wire.answer(8)[:4]
    tls_server.close_after = True
    (record,) = load(tls_server.url, [wire.plan()], {"ca_file": str(certificate[0])}).records
    assert (record.status, record.n_chunks) == (RequestStatus.CUT, 3)


def test_a_missing_file_of_certificates(load, wire, tmp_path):
    with pytest.raises(InputError, match="certificates"):
        load("https://localhost:1", [wire.plan()], {"ca_file": str(tmp_path / "none.pem")})
    assert Endpoint("https://localhost:1").is_tls
