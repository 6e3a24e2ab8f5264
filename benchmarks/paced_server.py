"""A mock of an OpenAI-compatible server that keeps a schedule and says when it sent: the truth for `client.py`.

Each event's text is the time (ns of the real-time clock) read right before the event was handed to the kernel; the
first event's text also has the kernel's own time of the request's arrival. A request's body says how it is answered:

    {"max_tokens": 100, "mock": {"ttft_s": 0.05, "gap_s": 0.01}}     paced
    {"max_tokens": 100000, "mock": {"flat": true}}      as fast as the connection takes it, a multiple of 250

One process, one loop; nothing but the standard library, so that it can be given a core of its own.

    python benchmarks/paced_server.py      prints its port
"""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import struct
import sys
import time
from typing import Any

HEADER = (
    b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
LEAD = (
    'data: {{"id":"cmpl-{:032x}","object":"text_completion","created":1764000000,"model":"mock",'
    '"choices":[{{"index":0,"text":"'
)
TAIL = b'","logprobs":null,"finish_reason":null,"stop_reason":null}],"usage":null}\n\n'
LAST = b'","logprobs":null,"finish_reason":"length","stop_reason":null}],"usage":null}\n\n'
USAGE = (
    'data: {{"id":"x","object":"text_completion","created":1764000000,"model":"mock","choices":[],'
    '"usage":{{"prompt_tokens":8,"total_tokens":{},"completion_tokens":{}}}}}\n\n'
)
DONE = b"data: [DONE]\n\n"
N_WORDS = 250  # an unpaced answer is made of so many different events, over and over


def chunk(data: bytes) -> bytes:
    """One chunk of HTTP/1.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Stream:
    """A connection and the answer that is being sent on it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.arrived_ns = 0
        self.lead = b""
        self.left = 0
        self.total = 0
        self.gap_ns = 0
        self.out = self.current = memoryview(b"")
        self.count = 0


class Server:
    """Serves until its process is ended."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setsockopt(socket.SOL_SOCKET, 35, 1)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.epoll = select.epoll()
        self.epoll.register(self.listener.fileno(), select.EPOLLIN)
        self.streams: dict[int, Stream] = {}
        self.due: list[tuple[int, int]] = []
        self.n_requests = 0
        draw = random.Random(0)
        self.words = [bytes(draw.choices(b"abcdefghijklmnopqrstuvwxyz", k=draw.randint(1, 9))) for _ in range(N_WORDS)]

    def run(self) -> None:
        """The loop."""
        while True:
            wait_s = 0.5
            if self.due:
                wait_s = (self.due[0][0] - time.time_ns()) / 1e9
            if 0 < wait_s < 0.003:
                select.select([self.epoll], (), (), wait_s)
                wait_s = 0.0
            for fd, mask in self.epoll.poll(max(wait_s - 0.0015, 0.0), 256):
                if fd == self.listener.fileno():
                    self.accept()
                elif mask & select.EPOLLOUT:
                    self.pour(self.streams[fd])
                else:
                    self.read(self.streams[fd])
            now_ns = time.time_ns()
            while self.due and self.due[0][0] <= now_ns:
                due_ns, fd = heapq.heappop(self.due)
                stream = self.streams.get(fd)
                if stream is not None and stream.left:
                    self.send_event(stream, due_ns)
                    now_ns = time.time_ns()

    def accept(self) -> None:
        """Take every connection that waits."""
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, 35, 1)
            self.streams[sock.fileno()] = Stream(sock)
            self.epoll.register(sock.fileno(), select.EPOLLIN)

    def drop(self, stream: Stream) -> None:
        """Forget a connection."""
        del self.streams[stream.sock.fileno()]
        stream.sock.close()

    def read(self, stream: Stream) -> None:
        """Read a request; answer it when it is whole."""
        try:
            data, ancillary, _, _ = stream.sock.recvmsg(1 << 20, 64)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        if not data:
            self.drop(stream)
            return
        if not stream.buffer and ancillary:
            seconds, nanoseconds = struct.unpack("@ll", ancillary[0][2])
            stream.arrived_ns = seconds * 10**9 + nanoseconds
        stream.buffer += data
        end = stream.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = stream.buffer[:end].lower()
        length = 0
        if b"content-length:" in head:
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        if len(stream.buffer) < end + 4 + length:
            return
        body = stream.buffer[end + 4 : end + 4 + length]
        stream.buffer = b""
        if head.startswith(b"get"):
            text = b'{"object":"list","data":[{"id":"mock","object":"model"}]}'
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            stream.sock.send(head % len(text) + text)
            return
        self.answer(stream, json.loads(body))

    def answer(self, stream: Stream, body: dict[str, Any]) -> None:
        """Begin an answer."""
        self.n_requests += 1
        mock = body.get("mock") or {}
        stream.lead = LEAD.format(self.n_requests).encode()
        stream.total = stream.left = int(body.get("max_tokens", 16))
        stream.sock.send(HEADER)
        if mock.get("flat"):
            events = [chunk(stream.lead + b" " + word + TAIL) for word in self.words]
            stream.out = memoryview(b"".join(events))
            self.epoll.modify(stream.sock.fileno(), select.EPOLLOUT)
            return
        stream.gap_ns = int(mock.get("gap_s", 0.01) * 1e9)
        heapq.heappush(self.due, (time.time_ns() + int(mock.get("ttft_s", 0.05) * 1e9), stream.sock.fileno()))

    def send_event(self, stream: Stream, due_ns: int) -> None:
        """The next event of a paced answer."""
        stream.left -= 1
        now_ns = time.time_ns()
        text = b" %d %d" % (now_ns, stream.arrived_ns) if stream.left + 1 == stream.total else b" %d" % now_ns
        try:
            if stream.left:
                stream.sock.send(chunk(stream.lead + text + TAIL))
                heapq.heappush(self.due, (due_ns + stream.gap_ns, stream.sock.fileno()))
            else:
                self.finish(stream, chunk(stream.lead + text + LAST))
        except OSError:
            self.drop(stream)

    def finish(self, stream: Stream, last: bytes = b"") -> None:
        """The end of an answer: usage, [DONE], the last chunk."""
        usage = USAGE.format(stream.total + 8, stream.total).encode()
        stream.sock.send(last + chunk(usage) + chunk(DONE) + b"0\r\n\r\n")

    def pour(self, stream: Stream) -> None:
        """Go on with an answer that is sent as fast as possible."""
        try:
            for _ in range(4):
                if not stream.left:
                    self.epoll.modify(stream.sock.fileno(), select.EPOLLIN)
                    self.finish(stream)
                    return
                if not stream.count:
                    stream.count = min(stream.left, len(self.words))
                    stream.current = stream.out
                size = stream.sock.send(stream.current)
                stream.current = stream.current[size:]
                if not stream.current:
                    stream.left -= stream.count
                    stream.count = 0
        except BlockingIOError:
            return
        except OSError:
            self.drop(stream)


if __name__ == "__main__":
    server = Server()
    print(server.port, flush=True)
    try:
        server.run()
    except KeyboardInterrupt:
        sys.exit(0)
