"""Who a process is, so that another one can tell later whether it is still there."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


def process_identity(pid: int | None = None) -> str:
    """``HOST PID START``: one process of one machine; a later process of the same number has another start."""
    number = os.getpid() if pid is None else pid
    return f"{_host()} {number} {_start(number) or '?'}"


def is_gone(identity: str) -> bool:
    """Whether that process has certainly ended: it was of this machine and is not there. Unknown is False."""
    parts = identity.rsplit(" ", 2)
    if len(parts) != 3 or parts[0] != _host() or not parts[1].isdigit() or not (_PROC / "self").exists():
        return False
    return _start(int(parts[1])) != parts[2] and parts[2] != "?"


@cache
def _host() -> str:
    """This boot of this machine, as far as its processes see one another; containers are machines of their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return os.uname().nodename if hasattr(os, "uname") else "?"


def _start(pid: int) -> str | None:
    """When the process started, in ticks since the boot; None where it is gone (a zombie is) or it is not told."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name, in parentheses, may hold anything
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else None
