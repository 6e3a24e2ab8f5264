"""What reaches a terminal: text alone. Control characters from data are shown, and steer nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import IO

from fewmark.core.text import printable


class PrintableStream:
    """A text stream that writes control characters as ``\\uXXXX``; everything else is the stream's own.

    JSON stays JSON: a control character inside of a string is its escape.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.raw_stream = stream

    def write(self, text: str) -> int:
        """Write a text, and tell its length as it was given."""
        self.raw_stream.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self.raw_stream, name)


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Standard output and standard error write printable text only as long as this lasts."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (PrintableStream(stream) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def raw(stream: IO[str]) -> IO[str]:
    """The stream behind a `PrintableStream`, for what draws on a terminal itself."""
    return getattr(stream, "raw_stream", stream)
