"""A process and its descendants as ``/proc`` shows them: resident memory and CPU time."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")


def tree(pid: int, proc: Path = PROC) -> list[int]:
    """The process and its descendants; those alone whose kernel tells them. Empty where the process is gone."""
    if not (proc / str(pid)).exists():
        return []
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        with contextlib.suppress(OSError):
            for task in (proc / str(found[-1]) / "task").iterdir():
                waiting += map(int, _text(task / "children").split())
    return found


def resident_bytes(pids: list[int], proc: Path = PROC) -> tuple[int, int] | None:
    """The sum of the resident memory, and of what of it no file can give back (a mapped file's pages are not counted).

    Pages that processes share count once for each. None where it is not told.
    """
    told = [fields for pid in pids if len(fields := _text(proc / str(pid) / "statm").split()) > 2]
    size = os.sysconf("SC_PAGE_SIZE")
    resident, shared = (sum(int(fields[place]) for fields in told) * size for place in (1, 2))
    return (resident, resident - shared) if told else None


def cpu_seconds(pids: list[int], proc: Path = PROC) -> dict[int, float]:
    """CPU time of each process since it began, of children that have ended included."""
    found = {}
    for pid in pids:
        # The name, in parentheses, may hold anything.
        fields = _text(proc / str(pid) / "stat").rpartition(")")[2].split()
        if len(fields) > 14:
            found[pid] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
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
