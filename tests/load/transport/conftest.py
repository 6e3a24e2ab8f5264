"""A server on real sockets that answers each request as the test says, in raw bytes, well or badly."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fewmark.load.client import run_load
from fewmark.load.endpoint import Endpoint
from fewmark.load.records import LoadResult, RequestPlan, RequestRecord
from fewmark.load.settings import LoadSettings

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
Piece = bytes | float  # what is sent, or seconds to wait


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str | None = None, *, usage: int | None = None, finish: str | None = None, **more: Any) -> bytes:
    """An event of the completions route, laid out as vLLM does."""
    value: dict[str, Any] = {"id": "cmpl-1", "object": "text_completion", "created": 1764000000, "model": "m"}
    value["choices"] = [] if text is None else [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]
    if usage is not None:
        value["usage"] = {"prompt_tokens": 5, "completion_tokens": usage, "total_tokens": 5 + usage}
    return b"data: " + json.dumps({**value, **more}, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"


def answer(n: int = 4, usage: int | None = None) -> list[bytes]:
    """The chunks of a good answer of `n` tokens, header first."""
    events = [event(f" t{i}", finish="length" if i == n - 1 else None) for i in range(n)]
    return [CHUNKED, *map(chunk, events), chunk(event(usage=n if usage is None else usage)), chunk(DONE), END]


class Server:
    """Answers with `script(request's path)`; keeps the heads and bodies of the requests."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.script: Callable[[str], list[Piece]] = lambda path: list(answer())
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.n_connections = 0
        self.close_after = False  # the connection, once an answer is sent
        self.reset = False  # with a reset
        self._context = context
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://localhost:{self.port}"
        self._run(self._accept)

    def _run(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.n_connections += 1
                self._sockets.append(sock)
                self._run(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            while self._serve_one(sock):
                pass
            if self.reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            else:
                sock.shutdown(socket.SHUT_WR)
        sock.close()

    def _serve_one(self, sock: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            got = sock.recv(1 << 16)
            if not got:
                return False
            data += got
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += sock.recv(1 << 16)
        self.heads.append(head)
        self.bodies.append(body)
        for piece in self.script(head.split()[1].decode()):
            if isinstance(piece, float):
                time.sleep(piece)
            else:
                sock.sendall(piece)
        return not self.close_after

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for sock in self._sockets:
            sock.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of localhost that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


@pytest.fixture
def tls_server(certificate: tuple[Path, Path]) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    made = Server(context)
    yield made
    made.close()


def plan(index: int = 0, **more: Any) -> RequestPlan:
    return RequestPlan(index, b'{"model":"m","prompt":"hi","stream":true}', **{"output_tokens": 4, **more})


@pytest.fixture
def load() -> Callable[..., LoadResult]:
    """Drive plans at a server with short limits, in this process unless told otherwise."""

    def drive(url: str, plans: Any, endpoint: dict[str, Any] | None = None, **more: Any) -> LoadResult:
        settings = {"concurrency": 4, "workers": 0, "stall_timeout_s": 20.0, "request_timeout_s": 30.0, **more}
        return run_load(plans, Endpoint(url, **(endpoint or {})), LoadSettings(**settings))

    return drive


@pytest.fixture
def ask(server: Server, load: Callable[..., LoadResult]) -> Callable[..., RequestRecord]:
    """One request, answered by these pieces; then a good one, which must not have suffered."""

    def one(
        pieces: list[Piece], *, close: bool = False, settings: dict[str, Any] | None = None, **more: Any
    ) -> RequestRecord:
        server.close_after = close
        server.script = lambda path: list(pieces) if path == "/bad" else list(answer())
        result = load(server.url, [plan(0, path="/bad", **more), plan(1)], **{"concurrency": 1, **(settings or {})})
        assert result.records[1].status == "ok", result.records[1]
        assert result.records[1].completion_tokens == 4
        return result.records[0]

    return one


@pytest.fixture
def wire() -> SimpleNamespace:
    """The pieces that answers are made of."""

    return SimpleNamespace(chunk=chunk, event=event, answer=answer, plan=plan, CHUNKED=CHUNKED, DONE=DONE, END=END)
