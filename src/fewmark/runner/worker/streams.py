"""The three pipes of a worker, of which none may ever block its parent: lines to it, its messages, the end of its log.

What stands on its output beside messages (a login banner, a stray print) is passed over.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
from typing import IO, Final

from fewmark.core.json_types import JsonObject
from fewmark.core.text import printable, without_secrets
from fewmark.runner.worker.messages import MARK, NO_MESSAGE

POLL_S: Final = 0.25  # how often a silent worker is checked for being alive
LOG_TAIL_BYTES: Final = 2000
MAX_LINE_BYTES: Final = 2**24  # of a message; what is longer is none
MAX_WAITING: Final = 8  # messages that nobody has looked at yet; a worker that sends more has to wait
HEARTBEAT_S: Final = 15.0


class Streams:
    """Reads and writes the pipes of a process by threads.

    Parameters
    ----------
    process : Popen
        With three pipes.
    boot : bytes
        The first line that it is sent. It is more than a pipe holds; a command that does not read must not block us.
    beating : bool
        Whether it is sent an empty line now and then as a sign of life.
    """

    def __init__(self, process: subprocess.Popen[bytes], boot: bytes, *, beating: bool) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._input, self._output, self._errors = process.stdin, process.stdout, process.stderr
        self._messages: queue.Queue[bytes | None] = queue.Queue(MAX_WAITING)
        self._log, self._writing, self._ended = bytearray(), threading.Lock(), threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)
        self._writer = threading.Thread(target=self._write_all, args=(boot, beating), daemon=True)
        for thread in (self._reader, self._log_reader, self._writer):
            thread.start()

    @property
    def empty(self) -> bool:
        """Whether no message waits to be looked at."""
        return self._messages.empty()

    def next_line(self, timeout_s: float) -> bytes | None:
        """The line of the next message; None where there will be no more. Raises `queue.Empty` after the timeout."""
        return self._messages.get(timeout=timeout_s)

    def send(self, request: JsonObject) -> None:
        """Write a request. A process that is gone cannot be written to; who waits for its answer finds out why."""
        self._write(json.dumps(request).encode() + b"\n")

    def log_tail(self) -> str:
        """The last that it said on its standard error."""
        self._log_reader.join(timeout=1.0)  # it may still be on its way
        return printable(without_secrets(bytes(self._log).decode("utf-8", "replace").strip()))

    def stop(self) -> None:
        """Send no more signs of life, and take no more messages."""
        self._ended.set()

    def close_input(self) -> bool:
        """Close the process's input, if nothing is being written; whether it was."""
        if not self._writing.acquire(timeout=1.0):
            return False
        with contextlib.suppress(OSError):
            self._input.close()
        self._writing.release()
        return True

    def close(self) -> None:
        """Close the pipes of a process that has ended.

        A stray process of it may hold them; closing one under a busy thread would block.
        """
        threads = (self._reader, self._log_reader, self._writer)
        for thread, stream in zip(threads, (self._output, self._errors, self._input), strict=True):
            thread.join(timeout=1.0)
            threading.Thread(target=_close_after, args=(thread, stream), daemon=True).start()

    def _write(self, line: bytes) -> None:
        with self._writing, contextlib.suppress(OSError, ValueError):
            self._input.write(line)
            self._input.flush()

    def _write_all(self, boot: bytes, beating: bool) -> None:
        self._write(boot)
        while beating and not self._ended.wait(HEARTBEAT_S):
            self._write(b"\n")

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            whole = True
            while line := self._output.readline(MAX_LINE_BYTES):
                ends = line.endswith(b"\n")
                if whole and MARK in line and (ends or len(line) == MAX_LINE_BYTES):
                    self._tell(line if ends else NO_MESSAGE)
                whole = ends
        self._tell(None)

    def _tell(self, line: bytes | None) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(queue.Full):
                self._messages.put(line, timeout=POLL_S)
                return

    def _read_log(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while content := os.read(self._errors.fileno(), 65536):
                self._log += content
                del self._log[:-LOG_TAIL_BYTES]


def _close_after(thread: threading.Thread, stream: IO[bytes]) -> None:
    thread.join()
    with contextlib.suppress(OSError):
        stream.close()
