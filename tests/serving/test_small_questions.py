"""What is asked of a server beside the load ends in time, whatever the server does."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from fewmark.engines.openai.asking import ask, context_length, counters, served_models, server_version
from fewmark.load.cache_reset import reset_by_request
from fewmark.load.endpoint import Endpoint

GOOD = b'HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{"data":[{"id":"a"},{"id":2}]}'
BAD = [
    b"SSH-2.0-OpenSSH\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
    b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 200 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nless",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe not JSON",
    b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
    b"",
]


@pytest.fixture
def answering():
    """Serve these bytes to every connection, one at a time where they are to trickle."""
    with contextlib.ExitStack() as stack:

        def serve(raw, pause_s=0.0):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def answer():
                with contextlib.suppress(OSError):
                    while True:
                        sock, _ = listener.accept()
                        with sock, contextlib.suppress(OSError):
                            sock.recv(65_536)
                            for piece in [raw[i : i + 1] for i in range(len(raw))] if pause_s else [raw]:
                                sock.sendall(piece)
                                time.sleep(pause_s)

            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}")

        yield serve


@pytest.mark.parametrize("raw", BAD)
def test_a_bad_answer_is_no_answer(answering, raw):
    endpoint = answering(raw)
    assert served_models(endpoint) == []
    assert context_length(endpoint, "a") is None
    assert server_version(endpoint) is None
    assert not counters(endpoint, "/metrics")
    assert reset_by_request(endpoint.url, "vllm").detail.startswith("/reset_prefix_cache: ")


def test_what_is_not_a_name_is_no_model(answering):
    assert served_models(answering(GOOD)) == ["a"]


def test_a_trickle_ends_with_the_limit(answering):
    assert ask(answering(GOOD, 0.02), "/v1/models", timeout_s=0.2).status is None
