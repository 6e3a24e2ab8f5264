"""Limits of what one try may take: seconds, memory; and where it is, should it never come back."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from tally import Tally

HANG_S: Final = 10.0
WALL_FACTOR: Final = 18.0  # a loaded machine gives a process a small share of its time
MEMORY_BYTES: Final = 2**30  # of pages in use, beyond what was when a part began
ADDRESS_BYTES: Final = 3 * 2**30  # of address space: maps of libraries and threads' stacks count, so it is generous
PROGRESS: Final = "FEWMARK_TORTURE_PROGRESS"


class HangError(BaseException):
    """A try that took longer than it may; not an `Exception`, so that no parser takes it for one of its own."""


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """No more address space than so much beyond what is in use, and an alarm for `guarded`."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_BYTES, before[1]))

    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError(f"longer than {HANG_S:g} s")

    numbers = (signal.SIGPROF, signal.SIGALRM)
    held = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, held, strict=True):
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def guarded(tally: Tally, what: str) -> Iterator[None]:
    """One try: counted, timed (of this process's own CPU, and generously of the clock), its memory watched.

    Whatever it raises is a failure of the tally, named by `what`, and does not come out.
    """
    announce(f"{tally.what}: {what}")
    tally.tried += 1
    began, peak = time.process_time(), peak_bytes()
    try:
        signal.setitimer(signal.ITIMER_PROF, HANG_S)
        signal.setitimer(signal.ITIMER_REAL, HANG_S * WALL_FACTOR)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        tally.fault(error, what)
    tally.took(time.process_time() - began)
    grown = peak_bytes() - peak
    tally.memory_bytes = max(tally.memory_bytes, grown)
    if grown > MEMORY_BYTES:
        tally.fail(f"{what}: {grown / 2**20:.0f} MiB of memory more than before")


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def announce(what: str) -> None:
    """Keep what is tried now, for whoever finds this process gone or hanging."""
    if path := os.environ.get(PROGRESS):
        Path(path).write_text(what, encoding="utf-8", errors="replace")
