"""Reads of answers that flow: those whose header has come, so that reads need only be kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from select import POLLIN
from typing import Final

from fewmark.load.clock import realtime_ns
from fewmark.load.connection import BIG_READ, BLANK_LINE, READ_SIZE, STAMP_SPACE, Connection, Read, Receive
from fewmark.load.http1 import END_OF_CHUNKS

LEAST: Final = len(END_OF_CHUNKS)  # a read of no more may be the rest of an answer's end


class Flows:
    """The connections of one loop whose answers flow, by the number of their socket."""

    def __init__(self) -> None:
        self._flows: dict[int, tuple[Connection, Receive, Callable[[Read], None]]] = {}

    def add(self, connection: Connection, recvmsg: Receive) -> None:
        """From now on this connection's reads need only be kept."""
        self._flows[connection.fd] = (connection, recvmsg, connection.reads.append)

    def discard(self, connection: Connection) -> None:
        """The answer on this connection has ended."""
        self._flows.pop(connection.fd, None)

    def read(self, events: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Read what has come of answers that flow; the events of other sockets are given back."""
        flows, readable, size, space = self._flows, POLLIN, READ_SIZE, STAMP_SPACE
        big, last_bytes, least = BIG_READ, BLANK_LINE, LEAST
        rest = []
        for event in events:
            fd, mask = event
            if mask != readable or (flow := flows.get(fd)) is None:
                rest.append(event)
                continue
            connection, receive, keep = flow
            try:
                data, ancillary, _, _ = receive(size, space)
            except OSError as error:
                connection.failed(error)
                continue
            if ancillary and least < len(data) <= big and not data.endswith(last_bytes):
                keep((ancillary[0][2], data))
            elif data:
                connection.received(ancillary[0][2] if ancillary else realtime_ns(), data)
            else:
                connection.closed()
        return rest
