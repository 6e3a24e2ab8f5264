"""A mock of an OpenAI-compatible server, standard library only, that serves as it is told, well or badly.

    python mock_server.py --port 8000 [--ttft-ms 5] [--gap-ms 2] [--slots 64] [--growth 0.0] …

A request waits for one of `slots`, then for its first token, then for each further one, a gap that grows by `growth`
of itself for each request that is in flight. It counts what it does as vLLM's `/metrics` do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(("127.0.0.1", options.port), Handler)
        self.options = options
        self.slots = threading.Semaphore(options.slots)
        self.lock = threading.Lock()
        self.n_active = self.n_seen = self.n_done = self.tokens_in = self.tokens_out = 0
        self.born = time.monotonic()
        self.resets = 0
        self.prompts: list[object] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        options = self.server.options
        if self.path == "/health":
            late = time.monotonic() - self.server.born < options.ready_after_s
            self.say(503 if late else 200, b"{}")
        elif self.path == "/v1/models":
            room = {"max_model_len": options.room} if options.tells == "models" else {}
            self.say(200, json.dumps({"data": [{"id": options.model, **room}]}).encode())
        elif self.path == "/props" and options.tells == "props":
            self.say(200, json.dumps({"default_generation_settings": {"n_ctx": options.room}}).encode())
        elif self.path == "/version":
            self.say(200, b'{"version": "0.0.mock"}')
        elif self.path == "/metrics" and not options.no_metrics:
            self.say(200, self.metrics().encode(), "text/plain")
        else:
            self.say(404, b"{}")

    def metrics(self) -> str:
        held = self.server
        return (
            f"vllm:generation_tokens_total {held.tokens_out}\nvllm:prompt_tokens_total {held.tokens_in}\n"
            f"vllm:request_success_total {held.n_done}\n"
            f"vllm:num_requests_running {held.n_active}\nvllm:num_requests_waiting 0\n"
        )

    def do_POST(self) -> None:
        options, held = self.server.options, self.server
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/reset_prefix_cache":
            held.resets += 1
            self.say(200, b"{}")
            return
        body = json.loads(raw)
        key = os.environ.get(options.key_variable, "") if options.key_variable else ""
        if options.key_variable and self.headers.get("Authorization") != f"Bearer {key}":
            self.refuse(401, f"bad key, not {key}")
            return
        with held.lock:
            held.n_seen += 1
            number = held.n_seen
            held.prompts.append(body.get("prompt", body.get("messages")))
        if options.die_after is not None and number > options.die_after:
            print(f"fatal error: the engine died, key {key}", flush=True)
            os._exit(9)
        if options.hang_after is not None and number > options.hang_after:
            time.sleep(600)
        if options.status and number > options.good:
            self.refuse(options.status, options.says)
            return
        for name in filter(None, options.refuse.split(",")):
            if name == "ids" and isinstance(body.get("prompt"), list):
                self.refuse(400, "prompt must be a string.")
                return
            if name in body:
                self.refuse(422, f"Unexpected fields in the request: {{'{name}'}}")
                return
        self.answer(body)

    def answer(self, body: dict[str, object]) -> None:
        options, held = self.server.options, self.server
        chat = "messages" in body
        n_in = count(body) + (3 if chat else 0)
        n_out = max(int(str(body["max_tokens"])) - options.short, 1)
        if options.room:  # what does not fit is cut, with a 200
            n_out = max(min(n_out, options.room - n_in), 1)
        with held.lock:
            held.n_active += 1
        try:
            with held.slots:
                self.stream(chat, n_in, n_out) if body.get("stream") else self.whole(n_in, n_out)
        finally:
            with held.lock:
                held.n_active -= 1
                held.n_done += 1
                held.tokens_in += n_in
                held.tokens_out += n_out

    def stream(self, chat: bool, n_in: int, n_out: int) -> None:
        options, held = self.server.options, self.server
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if chat:
            self.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        due = time.monotonic() + options.ttft_ms / 1e3
        for number in range(n_out):
            time.sleep(max(due - time.monotonic(), 0))
            finish = "length" if number == n_out - 1 else None
            part = {"delta": {"content": f" w{number}"}} if chat else {"text": f" w{number}"}
            self.event({"choices": [{"index": 0, "finish_reason": finish, **part}]})
            due += options.gap_ms / 1e3 * (1 + options.growth * held.n_active)
        if not options.no_usage:
            self.event({"choices": [], "usage": {"prompt_tokens": n_in, "completion_tokens": n_out}})
        if not options.no_done:
            self.chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def whole(self, n_in: int, n_out: int) -> None:
        time.sleep((self.server.options.ttft_ms + self.server.options.gap_ms * (n_out - 1)) / 1e3)
        usage = {"prompt_tokens": n_in, "completion_tokens": n_out}
        choice = {"index": 0, "text": " w" * n_out, "finish_reason": "length"}
        self.say(200, json.dumps({"choices": [choice], "usage": usage}).encode())

    def event(self, value: dict[str, object]) -> None:
        self.chunk(b"data: " + json.dumps({"object": "chunk", **value}).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        try:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        except OSError:
            if not self.server.options.deaf:
                raise

    def refuse(self, status: int, says: str) -> None:
        self.say(status, json.dumps({"error": {"message": says}}).encode())

    def say(self, status: int, content: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def count(body: dict[str, object]) -> int:
    """Tokens of a prompt: ids, or words."""
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        return len(prompt)
    if isinstance(prompt, str):
        return len(prompt.split())
    return sum(len(message["content"].split()) for message in body["messages"])  # type: ignore[attr-defined,misc]


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="toy")
    for name, default in (("ttft-ms", 5.0), ("gap-ms", 2.0), ("growth", 0.0), ("ready-after-s", 0.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    for name in ("die-after", "hang-after"):
        parser.add_argument(f"--{name}", type=int)
    for name, number in (("slots", 64), ("short", 0), ("status", 0), ("good", 0), ("room", 0)):
        parser.add_argument(f"--{name}", type=int, default=number)
    for name in ("refuse", "says", "key-variable", "fail", "child", "once", "tells"):
        parser.add_argument(f"--{name}", default="")
    for name in ("no-usage", "no-metrics", "no-done", "deaf"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args(words)


def main() -> None:
    options = parse()
    if options.once and Path(options.once).exists():  # it dies in its first life alone
        options.die_after = None
    elif options.once:
        Path(options.once).touch()
    if options.fail:
        print(options.fail, file=sys.stderr, flush=True)
        sys.exit(1)
    if options.child:  # in a session of its own, as servers' workers are
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        Path(options.child).write_text(str(child.pid))
    print("serving", flush=True)
    Server(options).serve_forever()


if __name__ == "__main__":
    main()
