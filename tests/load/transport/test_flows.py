"""What is read of answers that flow: data, times, ends and errors; other events are left to others."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
from select import POLLIN, POLLOUT

import pytest

from fewmark.load.clock import realtime_ns
from fewmark.load.connection import stamp_ns, stamp_socket
from fewmark.load.flows import Flows
from fewmark.load.stamping import kernel_stamping


class Heard:
    """A connection that only notes what it is told."""

    def __init__(self, sock):
        self.sock, self.fd, self.reads, self.told = sock, sock.fileno(), [], []

    def received(self, stamp, data):
        self.told.append(("received", data))
        self.reads.append((stamp, data))

    def closed(self):
        self.told.append(("closed",))

    def failed(self, error):
        self.told.append(("failed", type(error)))


@pytest.fixture
def pairs():
    """Makes connections over TCP: what a server writes to, and what reads it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(kernel_stamping())
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=16))

        def make(stamped=True):
            client = stack.enter_context(socket.socket())
            if stamped:
                stamp_socket(client)
            client.connect(listener.getsockname())
            client.setblocking(False)
            server = stack.enter_context(listener.accept()[0])
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return server, Heard(client)

        yield make


def await_data(fd):
    """Wait until something can be read, which on a busy machine may be a moment after it was sent."""
    ready = select.poll()
    ready.register(fd, POLLIN)
    assert ready.poll(10_000)


def test_data_times_ends_and_other_events(pairs):
    flows = Flows()
    made = [pairs() for _ in range(8)] + [pairs(stamped=False)]
    for _, heard in made:
        flows.add(heard, heard.sock.recvmsg)
    large = bytes(range(256)) * 128
    sent = [*(b"data: %d\n\n" % j for j in range(6)), large, b"x0\r\n\r\n", b"without a time"]
    before_ns = realtime_ns()
    for (server, _), data in zip(made, sent, strict=True):
        server.sendall(data)
    events = [(heard.fd, POLLIN) for _, heard in made]
    for fd, _ in events:
        await_data(fd)
    others = [(10_000, POLLIN), (made[0][1].fd, POLLOUT)]
    assert list(flows.read([*events, *others])) == others
    slow = made[6][1]
    while len(b"".join(data for _, data in slow.reads)) < len(large):
        flows.read([(slow.fd, POLLIN)])
    after_ns = realtime_ns()
    for (_, heard), data in zip(made, sent, strict=True):
        assert b"".join(read for _, read in heard.reads) == data
        assert all(before_ns <= stamp_ns(stamp) <= after_ns for stamp, _ in heard.reads)
    assert [bool(heard.told) for _, heard in made] == [False] * 6 + [True] * 3  # ordinary reads are only kept
    assert isinstance(made[8][1].reads[0][0], int)
    assert all(isinstance(stamp, bytes) for stamp, _ in slow.reads) or sys.platform != "linux"

    made[0][0].close()
    made[1][0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made[1][0].close()
    for _, heard in made[:2]:
        await_data(heard.fd)
    flows.read(events[:6])
    told = [heard.told for _, heard in made[:6]]
    assert told == [[("closed",)], [("failed", ConnectionResetError)], *[[("failed", BlockingIOError)]] * 4]
