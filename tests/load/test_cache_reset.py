"""A prefix cache is emptied by the server's own route or a command; what fails is told, not raised."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fewmark.core.errors import InputError
from fewmark.load.cache_reset import CacheReset, reset_by_command, reset_by_request


class Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, str | None]]

    def do_POST(self) -> None:
        self.seen.append((self.path, self.headers["Authorization"]))
        status = {"/reset_prefix_cache": 200, "/flush_cache": 400, "/moved": 302}.get(self.path, 404)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/reset_prefix_cache")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    Handler.seen = []
    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", Handler.seen
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_servers_own_route_is_asked(server):
    url, seen = server
    assert reset_by_request(url + "/", "vllm", {"Authorization": "Bearer k"}).ok
    assert reset_by_request(url + "/v1", "vllm").ok
    assert seen == [("/reset_prefix_cache", "Bearer k"), ("/reset_prefix_cache", None)]


def test_a_refusal_is_told_with_advice(server):
    url, _ = server
    refused = reset_by_request(url, "sglang")
    assert not refused.ok
    assert "400" in refused.detail
    assert "running" in refused.detail
    assert not reset_by_request(url, "/nowhere").ok


def test_redirects_are_not_followed(server):
    url, seen = server
    assert not reset_by_request(url, "/moved", {"Authorization": "Bearer k"}).ok
    assert [path for path, _ in seen] == ["/moved"]


def test_a_server_that_is_not_there_is_told():
    assert not reset_by_request("http://127.0.0.1:9", "vllm", timeout_s=5).ok


def test_a_command_is_run_and_its_output_kept():
    assert reset_by_command([sys.executable, "-c", "print('flushed')"]).detail.endswith("exit code 0: flushed")
    failed = reset_by_command(f"{sys.executable} -c 'raise SystemExit(3)'")
    assert not failed.ok
    assert "exit code 3" in failed.detail
    assert not reset_by_command("/no/such/program").ok


def test_a_command_that_hangs_is_stopped():
    stopped = reset_by_command([sys.executable, "-c", "import time; time.sleep(600)"], timeout_s=0.3)
    assert stopped == CacheReset(False, f"{sys.executable}: stopped after 0.3 s")


@pytest.mark.parametrize("call", [lambda: reset_by_request("http://x", "tgi"), lambda: reset_by_request("x", "vllm")])
def test_unknown_servers_and_urls_are_refused(call):
    with pytest.raises(InputError):
        call()


@pytest.mark.parametrize("command", ["", "'", []])
def test_commands_that_are_none_are_refused(command):
    with pytest.raises(InputError):
        reset_by_command(command)
