"""One connection to the server, and the answer that is coming over it.

Receive times are the kernel's: `SO_TIMESTAMPNS` is set before connecting, and each `recvmsg` brings the time at which
the last segment of what it returns came to this machine. They do not depend on when the process came to read. Where the
kernel says when it passed a request on (`SO_TIMESTAMPING`, through the error queue), that is the send time: a process
that is put aside between looking at the clock and sending would have sent earlier than it did.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from select import POLLERR, POLLIN, POLLOUT
from typing import Final, Protocol

from fewmark.load.clock import realtime_ns
from fewmark.load.decoding import Decoder, Sent
from fewmark.load.http1 import END_OF_CHUNKS, State
from fewmark.load.records import RequestStatus

SO_TIMESTAMPING: Final = 37
STAMP_SENDS: Final = 2 | 1 << 11  # SOF_TIMESTAMPING_TX_SOFTWARE, _OPT_TSONLY
MSG_ERRQUEUE: Final = getattr(socket, "MSG_ERRQUEUE", 0)
ERROR_SPACE: Final = 256
READ_SIZE: Final = 1 << 16
STAMP_SPACE: Final = socket.CMSG_SPACE(16) if hasattr(socket, "CMSG_SPACE") else 0
STAMP: Final = struct.Struct("@ll")
SO_TIMESTAMPNS: Final = 35  # of Linux, but on four rare architectures; not among Python's constants
EVENTS_END: Final = b"data: [DONE]\n\n\r\n0\r\n\r\n"  # cannot stand inside a chunk of JSON events
BLANK_LINE: Final = b"\r\n\r\n"
CRLF_EVENT: Final = b"\r\n\r\n\r\n"  # the end of a chunk with an event that has line ends of its own
BIG_READ: Final = 1 << 14  # of which none waits
MAX_READS: Final = 256  # waiting to be decoded, of one answer

Read = tuple[bytes | int, bytes]
Receive = Callable[..., tuple[bytes, list[tuple[int, int, bytes]], int, object]]


class Owner(Protocol):
    """The loop, as a connection sees it."""

    def watch(self, connection: Connection, mask: int) -> None:
        """Wait for this from now on."""

    def ready(self, connection: Connection) -> None:
        """The connection is made."""

    def flows(self, connection: Connection, recvmsg: Receive) -> None:
        """From now on reads need only be kept, in `connection.reads`, but for ends of chunks, large or empty ones."""

    def ended(self, connection: Connection, status: RequestStatus | None, error: str | None) -> None:
        """The request has ended; a status of None leaves it to the answer."""


def stamp_socket(sock: socket.socket) -> None:
    """Ask the kernel for receive times; where it has none, the reader's own are taken."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return


def _stamp_sends(sock: socket.socket) -> bool:
    """Ask the kernel for the times at which it passes on what is sent; whether it will say them."""
    if not MSG_ERRQUEUE:
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, STAMP_SENDS)
    except OSError:
        return False
    return True


def stamp_ns(stamp: bytes | int) -> int:
    """A read's time in ns of the real-time clock."""
    if isinstance(stamp, int):
        return stamp
    seconds, nanoseconds = STAMP.unpack(stamp)
    return int(seconds * 1_000_000_000 + nanoseconds)


class Connection:
    """A plain connection. The loop calls `on_event` whenever the socket is ready."""

    is_encrypted = False

    def __init__(self, owner: Owner, family: int, address: tuple[object, ...]) -> None:
        self.owner = owner
        self.sent: Sent | None = None
        self.decoder: Decoder | None = None
        self.reads: list[Read] = []
        self._n_decoded = 0
        self.n_served = 0
        self.is_made = False
        self._is_closed = False  # by the server
        self._stamps_sends = False
        self._awaits_stamp = False
        self.is_eager = True
        self.made_ns: int | None = None
        self.began_ns = 0  # monotonic, of the request; the loop's
        self.seen_ns = 0
        self.seen_reads = -1
        self._request: list[bytes] = []
        self._out = memoryview(b"")
        self._mask = 0
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.fd = self.sock.fileno()
        self.recvmsg: Receive = self.sock.recvmsg
        try:
            self.sock.setblocking(False)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stamp_socket(self.sock)
            code = self.sock.connect_ex(address)
        except OSError:
            self.sock.close()
            raise
        if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            self.sock.close()
            raise OSError(code, errno.errorcode.get(code, "error"))
        self._want(POLLIN | POLLOUT)

    def start(self, sent: Sent, decoder: Decoder, head: bytes) -> None:
        """Send a request; at once if the connection is made."""
        self.sent = sent
        self.decoder = decoder
        self._n_decoded = 0
        self.seen_reads = -1
        self.is_eager = True
        body = sent.plan.body
        self._request = [b"%b%d\r\n\r\n%b" % (head, len(body), body)]
        sent.reused = self.n_served > 0
        if self.is_made:
            self._write_request()

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def on_event(self, mask: int) -> None:
        """The socket is ready for what `mask` says."""
        if mask == POLLIN and self.is_made:
            self._on_readable()
        elif not self.is_made:
            self._on_connected()
        elif mask & POLLERR and self._stamps_sends and self._read_send_stamp():
            if mask & POLLIN:
                self._on_readable()
        elif mask & ~POLLOUT:
            self._on_readable()
            if mask & POLLOUT and self._out:
                self._flush()
        elif self._out:
            self._flush()
        else:
            self._want(POLLIN)

    def _on_connected(self) -> None:
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.owner.ended(self, RequestStatus.REFUSED, f"{errno.errorcode.get(code, code)}: {_reason(code)}")
            return
        self._want(POLLIN)
        self._made()

    def _made(self) -> None:
        self.is_made = True
        self.made_ns = realtime_ns()
        self._stamps_sends = _stamp_sends(self.sock)
        self.owner.ready(self)
        if self.sent is not None:
            self.sent.connect_ns = self.made_ns
            self._write_request()

    def _write_request(self) -> None:
        assert self.sent is not None
        data = b"".join(self._request)
        self._request = []
        self.sent.send_ns = realtime_ns()
        self._awaits_stamp = self._stamps_sends
        self._write(data)
        if self._awaits_stamp:
            self._read_send_stamp()

    def _read_send_stamp(self) -> bool:
        """Take the kernel's times of what was sent; the first one after a request is begun is that of the request."""
        found = False
        try:
            while True:
                _, ancillary, _, _ = self.recvmsg(0, ERROR_SPACE, MSG_ERRQUEUE)
                found = True
                for level, kind, stamp in ancillary:
                    if self._awaits_stamp and (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                        at_ns = stamp_ns(stamp)
                        if self.sent is not None and self.sent.send_ns is not None and at_ns > self.sent.send_ns:
                            self.sent.send_ns = at_ns
                            self._awaits_stamp = False
        except OSError:
            return found

    def _write(self, data: bytes) -> None:
        try:
            size = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            size = 0
        except OSError as error:
            self._lost(error)
            return
        if size < len(data):
            self._out = memoryview(data)[size:]
            self._want(POLLIN | POLLOUT)

    def _flush(self) -> None:
        try:
            self._out = self._out[self.sock.send(self._out) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(error)
            return
        if not self._out:
            self._out = memoryview(b"")
            self._want(POLLIN)

    def _on_readable(self) -> None:
        try:
            data, ancillary, _, _ = self.recvmsg(READ_SIZE, STAMP_SPACE)
        except OSError as error:
            self.failed(error)
            return
        if not data:
            self.closed()
            return
        stamp = ancillary[0][2] if ancillary else realtime_ns()
        self.received(stamp, data)

    def failed(self, error: OSError) -> None:
        """A read failed: there is nothing yet, or the connection is lost."""
        if not isinstance(error, BlockingIOError | InterruptedError):
            self._lost(error)

    def received(self, stamp: bytes | int, data: bytes) -> None:
        """Keep a read; decode where that shows how the answer goes on, or whether this is its end."""
        reads = self.reads
        reads.append((stamp, data))
        if self.is_eager or len(reads) >= MAX_READS or len(data) > BIG_READ:
            self._look()
        elif data.endswith(EVENTS_END):
            self._finish(None)
        elif len(data) <= len(END_OF_CHUNKS) or (data.endswith(BLANK_LINE) and not data.endswith(CRLF_EVENT)):
            self._look()  # the end, trailers after it, or its last bytes come apart

    def _look(self) -> None:
        """Decode what has come: the header, which says how the answer ends, or the end itself."""
        decoder = self.decoder
        if decoder is None or self.sent is None:  # nothing was asked
            self.owner.ended(self, None, None)
            return
        self.decode()
        if decoder.failure is not None or decoder.complete:
            self._finish(None)
        elif decoder.parser.status == 200 and decoder.parser.state in (State.CHUNK_SIZE, State.CHUNK, State.CHUNK_END):
            self.is_eager = False
            if not self.is_encrypted:
                self.owner.flows(self, self.recvmsg)

    @property
    def n_reads(self) -> int:
        """How many reads the answer has brought."""
        return self._n_decoded + len(self.reads)

    def decode(self) -> None:
        """Decode the reads that have come."""
        assert self.sent is not None
        assert self.decoder is not None
        drain(self.sent, self.decoder, self.reads)
        self._n_decoded += len(self.reads)
        self.reads.clear()  # the loop appends to this very list

    def _finish(self, status: RequestStatus | None, error: str | None = None) -> None:
        assert self.sent is not None
        if self.reads:
            self.sent.end_ns = stamp_ns(self.reads[-1][0])
        self.n_served += 1
        self.owner.ended(self, status, error)

    def may_be_reused(self) -> bool:
        """Whether another request may follow on this connection."""
        decoder = self.decoder
        if decoder is None or self._is_closed or self._out or decoder.failure is not None:
            return False
        parser = decoder.parser
        return parser.keep_alive and (parser.complete or bool(self.reads))

    def _lost(self, error: OSError) -> None:
        self._finish_closed(f"{errno.errorcode.get(error.errno or 0, 'error')}: {error.strerror or error}")

    def closed(self) -> None:
        """The server closed the connection."""
        self._finish_closed(None)

    def _finish_closed(self, reason: str | None) -> None:
        self._is_closed = True
        if self.sent is None or self.decoder is None:
            self.owner.ended(self, None, None)
            return
        self.sent.end_ns = self.sent.end_ns or realtime_ns()
        self.decode()
        whole = self.decoder.parser.end() if reason is None else self.decoder.complete
        self.owner.ended(
            self,
            None if whole or self.decoder.failure else RequestStatus.CUT,
            None if whole else reason or "the connection closed before the answer's end",
        )

    def _want(self, mask: int) -> None:
        if mask != self._mask:
            self._mask = mask
            self.owner.watch(self, mask)


def drain(sent: Sent, decoder: Decoder, reads: list[Read]) -> None:
    """Decode reads; the first of an answer gives the time of its first byte."""
    if reads and sent.first_byte_ns is None:
        sent.first_byte_ns = stamp_ns(reads[0][0])
    try:
        together = b"".join([stamp for stamp, _ in reads])  # type: ignore[misc]
        stamps = [seconds * 1_000_000_000 + rest for seconds, rest in STAMP.iter_unpack(together)]
    except TypeError:
        sent.kernel_stamps = False
        stamps = [stamp_ns(stamp) for stamp, _ in reads]
    decoder.feed(stamps, [data for _, data in reads])
    if reads:
        sent.end_ns = stamp_ns(reads[-1][0])


def _reason(code: int) -> str:
    return os.strerror(code)
