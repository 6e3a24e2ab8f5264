"""The key goes to the server, and to no other place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from fewmark.core.errors import FewmarkError, InputError
from fewmark.load.endpoint import Endpoint, Mask

KEY = "sk-verysecret-0123456789abcdef"
DRIVE = """
import dataclasses, glob, json, os, sys
from fewmark.load.client import run_load
from fewmark.load.endpoint import Endpoint
from fewmark.load.records import RequestPlan
from fewmark.load.settings import LoadSettings

def look(record):
    print("record", record)
    for name in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            print(open(name, "rb").read())
        except OSError:
            pass

url, workers, transport = sys.argv[1], int(sys.argv[2]), sys.argv[3]
source = {"key_env": "SERVER_KEY"} if sys.argv[4] == "env" else {"key_file": sys.argv[4]}
endpoint = Endpoint(url, **source)
plans = [RequestPlan(i, b"{}", path=f"/{name}", output_tokens=4) for i, name in enumerate(sys.argv[5:])]
settings = LoadSettings(concurrency=1, workers=workers, transport=transport)
print(endpoint, settings, plans)
result = run_load(plans, endpoint, settings, on_record=look)
print(result, dataclasses.asdict(result))
print([str(record.status) for record in result.records])
"""


def echoes(wire):
    """Answers that say the key, each in its own way."""

    def with_body(status, body, kind="application/json"):
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return (head + "\r\n").encode() + body.encode()

    stream = [
        wire.CHUNKED,
        wire.chunk(wire.event(" a")),
        wire.chunk(b'data: {"error":{"message":"key %b"}}\n\n' % KEY.encode()),
    ]
    return {
        "/401": [with_body("401 Unauthorized", json.dumps({"error": {"message": f"Incorrect API key {KEY}"}}))],
        "/html": [with_body("500 Oops", f"<p>Bearer {KEY}</p>" * 40, "text/html")],
        "/redirect": [
            f"HTTP/1.1 302 Found\r\nLocation: http://other.invalid/?key={KEY}\r\nContent-Length: 0\r\n\r\n".encode()
        ],
        "/event": [*stream, wire.chunk(wire.DONE), wire.END],
        "/bad-event": [wire.CHUNKED, wire.chunk(b"data: not json %b\n\n" % KEY.encode()), wire.END],
        "/bad-chunk": [wire.CHUNKED + KEY.encode() + b"\r\n"],
        "/bad-head": [f"HTTP/1.1 {KEY}\r\n\r\n".encode()],
        "/coding": [f"HTTP/1.1 200 OK\r\nContent-Encoding: {KEY}\r\nContent-Length: 0\r\n\r\n".encode()],
        "/finish": [wire.CHUNKED, wire.chunk(wire.event(" a", finish=KEY, usage=4)), wire.chunk(wire.DONE), wire.END],
    }


@pytest.mark.parametrize("source", ["env", "file"])
@pytest.mark.parametrize(("workers", "transport"), [(0, "sockets"), (1, "sockets"), (1, "aiohttp")])
def test_the_key_is_in_nothing_that_is_written(server, wire, tmp_path, workers, transport, source):
    if transport == "aiohttp":
        pytest.importorskip("aiohttp")
    answers = echoes(wire)
    server.script = lambda path: answers.get(path, wire.answer())
    server.close_after = True
    (tmp_path / "key").write_text(KEY + "\n")
    where = "env" if source == "env" else str(tmp_path / "key")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", DRIVE, server.url, str(workers), transport, where]
        + [path.strip("/") for path in [*answers, "/good"]],
        env={**os.environ, "SERVER_KEY": KEY if source == "env" else ""},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("'ok']"), done.stdout[-300:]
    assert all(f"Authorization: Bearer {KEY}".encode() in head for head in server.heads)
    assert len(server.heads) == len(answers) + 1
    assert KEY not in done.stdout
    assert KEY not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("said", [KEY, KEY.upper(), KEY[:12], f"a{KEY}{KEY[:9]}", KEY[:8] + KEY])
def test_what_a_key_begins_with_is_masked(said):
    masked = Mask(KEY)(f"before {said} after")
    assert masked.replace("[key]", "").replace("a ", " ") == "before  after"
    assert "[key]" in masked
    assert Mask("EMPTY")("the key is EMPTY") == "the key is [key]"


def test_no_key_is_sent_where_none_is_named(server, load, wire):
    load(server.url, [wire.plan()])
    assert b"authorization" not in server.heads[0].lower()


def test_a_missing_key_is_a_wrong_request(server, load, wire, monkeypatch, tmp_path):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(InputError, match="NO_SUCH_KEY"):
        load(server.url, [wire.plan()], {"key_env": "NO_SUCH_KEY"})
    with pytest.raises(InputError, match="cannot be read"):
        load(server.url, [wire.plan()], {"key_file": str(tmp_path / "none")})


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "naïve", "tab\tkey"])
def test_a_key_that_cannot_stand_in_a_header_is_refused_unsaid(server, load, wire, monkeypatch, key):
    monkeypatch.setenv("SERVER_KEY", key)
    with pytest.raises(InputError) as caught:
        load(server.url, [wire.plan()], {"key_env": "SERVER_KEY"})
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (f"http://user:{KEY}@localhost:1", {}),
        (f"http://localhost:1/?key={KEY}", {}),
        (f"ftp://user:{KEY}@localhost", {}),
        (f"http://user:{KEY}@localhost:port", {}),
        ("http://localhost:1", {"Authorization": f"Bearer {KEY}"}),
        ("http://localhost:1", {"X-Key": f"{KEY}\r\nX: y"}),
    ],
)
def test_a_key_in_the_wrong_place_is_refused_unsaid(url, headers):
    with pytest.raises(FewmarkError) as caught:
        Endpoint(url, headers=headers)
    assert KEY not in str(caught.value)


def test_the_endpoint_holds_where_the_key_is_and_not_what_it_is(monkeypatch):
    monkeypatch.setenv("SERVER_KEY", KEY)
    endpoint = Endpoint("https://example.org/v1", key_env="SERVER_KEY")
    assert endpoint.read_key() == KEY
    assert KEY not in repr(endpoint) + str(asdict(endpoint))
    assert endpoint.path("/v1/completions") == "/v1/completions"
    assert Endpoint("http://h/base/").path("/v1/completions") == "/base/v1/completions"
    assert Path("/") / endpoint.host == Path("/example.org")
