"""Which processes came of what was started, by a variable that they inherit; and what they are, for people."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

MARKER: Final = "FEWMARK_TORTURE"
GONE_S: Final = 60.0  # a loaded machine takes its time; what runs on, runs on for longer


def family(word: str) -> list[int]:
    """Every process that came of a run, wherever it has gone, by the variable that it inherited."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"{MARKER}={word}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def children(pid: int) -> list[int]:
    """What a process has started itself, where the kernel tells: that is far cheaper than to look at all there are."""
    with contextlib.suppress(OSError):
        return [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]
    return []


def parent_of(pid: int) -> int | None:
    """The parent of a process; None where it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def wait_until_gone(left: Callable[[], list[int]]) -> list[int]:
    """What is left after a generous while."""
    deadline = time.monotonic() + GONE_S
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def told(pids: list[int]) -> str:
    """What each process is: its number, its parent, its state, how long it has run, and its command."""
    out = []
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")[:120].decode(errors="replace")
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
            out.append(f"{pid} (of {fields[1]}, session {fields[3]}, {fields[0]}, {age:.0f} s old): {command}")
        except (OSError, ValueError, IndexError):
            out.append(f"{pid}: gone")
    return "; ".join(out)


def end(pids: list[int]) -> None:
    """End what should have ended."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
