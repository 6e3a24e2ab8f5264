"""The answer's half of HTTP/1.1: status and header, body by length, by chunks or until the connection closes.

Incremental and bounded: what arrives is consumed at once; at most a header or a chunk's size line waits for its end.
"""

from __future__ import annotations

import zlib
from enum import Enum
from typing import Final

MAX_HEAD: Final = 65_536
MAX_SIZE_LINE: Final = 1_024
MAX_TRAILER: Final = 16_384
END_OF_CHUNKS: Final = b"0\r\n\r\n"


class ProtocolError(Exception):
    """What arrived is not an answer by HTTP/1.1."""


class TooLargeError(Exception):
    """A body, decompressed, is larger than its limit."""


class State(Enum):
    """What the parser is waiting for."""

    HEAD = 0
    LENGTH = 1
    CHUNK_SIZE = 2
    CHUNK = 3
    CHUNK_END = 4
    TRAILER = 5
    UNTIL_CLOSE = 6
    DONE = 7


class ResponseParser:
    """Parses one answer to a POST.

    `feed` takes what was read and returns the part of the body in it, without its transfer and content encoding;
    `end` says that the connection was closed. `complete` tells whether the answer is whole, `leftover` holds what
    came after it.
    """

    __slots__ = (
        "_buffer",
        "_inflate",
        "_inflated",
        "_limit",
        "_remaining",
        "complete",
        "content_type",
        "headers",
        "keep_alive",
        "leftover",
        "state",
        "status",
    )

    def __init__(self, limit: int = 1 << 28) -> None:
        self._limit = limit
        self._buffer = b""
        self._remaining = 0
        self._inflate: zlib._Decompress | None = None
        self._inflated = 0
        self.state = State.HEAD
        self.complete = False
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.content_type = ""
        self.keep_alive = False
        self.leftover = b""

    @property
    def at_chunk(self) -> bool:
        """Whether a chunk's size comes next, nothing of it has been seen, and the content is not compressed."""
        return self.state is State.CHUNK_SIZE and not self._buffer and self._inflate is None

    @property
    def rest_of_chunk(self) -> int:
        """Bytes up to the next chunk's size, of a chunk of which something has come."""
        if self.state is State.CHUNK:
            return self._remaining + 2
        return 2 - len(self._buffer) if self.state is State.CHUNK_END else 0

    def feed(self, data: bytes) -> bytes:
        """Take what was read; the part of the body in it. Raises `ProtocolError` or `TooLargeError`."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if self.state is State.HEAD:
            data = self._read_head(data)
        if self.state is State.LENGTH:
            body = self._read_length(data)
        elif self.state is State.UNTIL_CLOSE:
            body = data
        elif self.state is State.DONE:
            self.leftover += data
            body = b""
        elif self.state is State.HEAD:
            body = b""
        else:
            body = self._read_chunks(data)
        return body if self._inflate is None else self._decompress(body)

    def end(self) -> bool:
        """The connection was closed: whether the answer is whole."""
        if self.state is State.UNTIL_CLOSE:
            self.state = State.DONE
            self.complete = True
        return self.complete

    def _read_head(self, data: bytes) -> bytes:
        while True:
            if data[:5] != b"HTTP/"[: len(data[:5])]:
                raise ProtocolError("the answer does not begin as HTTP/1.1")
            end = data.find(b"\r\n\r\n")
            gap = 4
            if end < 0 or (bare := data.find(b"\n\n", 0, end)) >= 0:
                bare = data.find(b"\n\n") if end < 0 else bare
                end, gap = bare, 2
            if end > MAX_HEAD or (end < 0 and len(data) > MAX_HEAD):
                raise ProtocolError(f"a header of more than {MAX_HEAD} bytes")
            if end < 0:
                self._buffer = data
                return b""
            head, data = data[:end], data[end + gap :]
            self._parse_head(head)
            if self.status is not None and 100 <= self.status < 200 and self.status != 101:
                self.status = None
                if data:
                    continue
                return b""
            self._choose_framing()
            return data

    def _parse_head(self, head: bytes) -> None:
        lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
        version, _, rest = lines[0].partition(" ")
        code = rest[:3]
        if version not in ("HTTP/1.1", "HTTP/1.0") or not (code.isascii() and code.isdigit() and len(code) == 3):
            raise ProtocolError("the answer's status line is not HTTP/1.1's")
        self.status = int(code)
        self.headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise ProtocolError("the answer's header has a line that is not one")
            name, value = name.lower(), value.strip()
            if name in self.headers:
                if name == "content-length" and self.headers[name] != value:
                    raise ProtocolError("the answer has two lengths")
                value = f"{self.headers[name]}, {value}" if name != "content-length" else value
            self.headers[name] = value
        connection = self.headers.get("connection", "").lower()
        self.keep_alive = "close" not in connection and (version == "HTTP/1.1" or "keep-alive" in connection)
        self.content_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def _choose_framing(self) -> None:
        coding = self.headers.get("content-encoding", "").strip().lower()
        if coding in ("gzip", "x-gzip", "deflate"):
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
        elif coding not in ("", "identity"):
            raise ProtocolError(f"the answer is encoded as {coding[:40]!r}, which was not asked for")
        transfer = self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length")
        if self.status in (101, 204, 304):
            self.keep_alive = self.keep_alive and self.status != 101
            self._finish(b"")
        elif transfer and transfer != "identity":
            if transfer.rpartition(",")[2].strip() != "chunked" or "," in transfer:
                raise ProtocolError(f"the answer's transfer encoding is {transfer[:40]!r}")
            self.state = State.CHUNK_SIZE
        elif length is not None:
            if not (length.isascii() and length.isdigit()) or len(length) > 15:
                raise ProtocolError("the answer's length is not a number")
            self._remaining = int(length)
            self.state = State.LENGTH
            if not self._remaining:
                self._finish(b"")
        else:
            self.state = State.UNTIL_CLOSE
            self.keep_alive = False

    def _read_length(self, data: bytes) -> bytes:
        body = data[: self._remaining]
        self._remaining -= len(body)
        if not self._remaining:
            self._finish(data[len(body) :])
        return body

    def _read_chunks(self, data: bytes) -> bytes:
        parts: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self.state is State.CHUNK:
                part = data[at : at + self._remaining]
                parts.append(part)
                at += len(part)
                self._remaining -= len(part)
                if self._remaining:
                    break
                self.state = State.CHUNK_END
            elif self.state is State.CHUNK_SIZE:
                end = data.find(b"\n", at)
                if end < 0:
                    if size - at > MAX_SIZE_LINE:
                        raise ProtocolError("a chunk without a size")
                    break
                self._remaining = _chunk_size(data[at:end])
                at = end + 1
                self.state = State.CHUNK if self._remaining else State.TRAILER
            elif self.state is State.CHUNK_END:
                if data.startswith(b"\r\n", at):
                    at += 2
                elif data[at] == 10:
                    at += 1
                elif size - at < 2 and data[at] == 13:
                    break
                else:
                    raise ProtocolError("a chunk is longer than its size")
                self.state = State.CHUNK_SIZE
            elif self.state is State.TRAILER:
                end = data.find(b"\n", at)
                if end < 0:
                    if size - at > MAX_TRAILER:
                        raise ProtocolError(f"a trailer of more than {MAX_TRAILER} bytes")
                    break
                line = data[at:end].strip()
                at = end + 1
                if not line:
                    self._finish(data[at:])
                    return b"".join(parts)
            else:
                break
        self._buffer = data[at:]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _finish(self, leftover: bytes) -> None:
        self.state = State.DONE
        self.complete = True
        self.leftover = leftover
        if leftover:
            self.keep_alive = False

    def _decompress(self, body: bytes) -> bytes:
        assert self._inflate is not None
        try:
            plain = self._inflate.decompress(body, self._limit - self._inflated + 1)
            if self.complete:
                plain += self._inflate.flush() if not self._inflate.unconsumed_tail else b""
        except zlib.error as error:
            raise ProtocolError(f"the answer's compression is broken ({error})") from error
        self._inflated += len(plain)
        if self._inflated > self._limit or self._inflate.unconsumed_tail:
            raise TooLargeError(f"an answer of more than {self._limit} bytes, decompressed")
        return plain


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > 12 or digits.strip(b"0123456789abcdefABCDEF"):
        raise ProtocolError("a chunk's size is not a number")
    return int(digits, 16)
