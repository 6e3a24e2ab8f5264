"""A process and its descendants: resident memory and CPU time, by psutil.

Two things psutil lacks are read from Linux's ``/proc`` here: the descendants by the kernel's own lists of children
(psutil looks at every process of the machine for them, five times a second beside what is measured), and the kernel's
record of the most resident memory.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import psutil

PROC: Final = Path("/proc")


def tree(pid: int, proc: Path = PROC) -> list[int]:
    """The process and its descendants. Empty where the process is gone."""
    if not (proc / "self" / "task").exists() or not any((proc / "self" / "task").glob("*/children")):
        with contextlib.suppress(psutil.Error):
            return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        return []
    if not (proc / str(pid)).exists():
        return []
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        with contextlib.suppress(OSError):
            for task in (proc / str(found[-1]) / "task").iterdir():
                waiting += map(int, _text(task / "children").split())
    return found


def resident_bytes(pids: list[int]) -> tuple[int, int] | None:
    """The sum of the resident memory, and of what of it no file can give back (a mapped file's pages are not counted).

    Pages that processes share count once for each. None where it is not told.
    """
    told = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            told.append(psutil.Process(pid).memory_info())
    if not told:
        return None
    resident = sum(int(memory.rss) for memory in told)
    return resident, resident - sum(int(getattr(memory, "shared", 0)) for memory in told)


def cpu_seconds(pids: list[int]) -> dict[int, float]:
    """CPU time of each process since it began, of children that have ended included where the system tells it."""
    found = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
            found[pid] = float(times.user + times.system + ended)
    return found


def reset_peak(pid: int, proc: Path = PROC) -> bool:
    """Let the kernel's record of the most resident memory start anew; whether it did."""
    try:
        (proc / str(pid) / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_bytes(pid: int, proc: Path = PROC) -> int | None:
    """The kernel's record of the most resident memory of one process."""
    for line in _text(proc / str(pid) / "status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
