"""The keeper: the process between the parent and the worker that leaves nothing of the worker behind.

The process that the parent's command starts forks before anything is loaded. Its child is the worker; it stays as the
keeper, on the worker's side of whatever prefix there is. It passes the parent's requests on, and when the worker ends,
the parent is gone or, behind a prefix, silent for too long, it ends every process that came of the worker, also those
that left its group or session (it is their subreaper), removes the worker's temporary files, and ends as it did.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from fewmark.engines.worker.scratch import enter_scratch, make_scratch, remove_scratch

PR_SET_CHILD_SUBREAPER: Final = 36
POLL_S: Final = 0.5  # how often the parent is looked for
END_S: Final = 10.0  # after which a process that cannot be ended is left
BUFFER_BYTES: Final = 2**20
ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def start_keeper(*, lease_s: float | None = None, serving: bool = True) -> Path | None:
    """Fork; returns in the child, the worker, alone. Its temporary folder, where there is a keeper (on Linux).

    Parameters
    ----------
    lease_s : float, optional
        How long the parent may be silent.
    serving : bool
        Whether standard input holds the parent's requests, and the worker ends with the parent; a batch does not.
    """
    if sys.platform != "linux":
        return None
    scratch = make_scratch()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    requests, passed_on = os.pipe()
    parent = os.getppid()
    sys.stdout.flush()
    worker = os.fork()
    if worker:
        os.close(requests)
        _keep(worker, parent if serving else None, passed_on, lease_s if serving else None, scratch)
    os.close(passed_on)
    if serving:
        os.dup2(requests, 0)
    os.close(requests)
    if scratch is not None:
        enter_scratch(scratch)
    return scratch


def descendants(pid: int) -> list[int]:
    """Every process below this one, zombies left out."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # The name, in parentheses, may hold anything.
                fields = (entry / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], list(parents.get(pid, ()))
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], ())
    return found


def end_descendants(pid: int) -> None:
    """End every process below this one; what it starts meanwhile as well."""
    deadline = time.monotonic() + END_S
    while (left := descendants(pid)) and time.monotonic() < deadline:
        for one in left:
            with contextlib.suppress(OSError):
                os.kill(one, signal.SIGKILL)
        _reap()
        time.sleep(0.002)
    _reap()


def _keep(worker: int, parent: int | None, passed_on: int, lease_s: float | None, scratch: Path | None) -> NoReturn:
    status: int | None = None
    try:
        status = _wait(worker, parent, passed_on, lease_s)
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        end_descendants(os.getpid())
        if scratch is not None:
            remove_scratch(scratch)
        _end_as(status)


def _wait(worker: int, parent: int | None, passed_on: int, lease_s: float | None) -> int | None:
    """Pass requests on until the worker ends (its status), or must (None)."""
    woken, wake = os.pipe()
    for descriptor in (woken, wake, passed_on):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)

    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    for number in ENDING:
        if number == signal.SIGINT and parent is None:
            signal.signal(number, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the batch itself
        elif signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, stop)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if parent is not None:
        # Whoever reads the worker's answers must see their end when the worker ends.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
    waiting, heard = b"", time.monotonic()
    while True:
        status = _reap(worker)
        if status is not None:
            return status
        if stopped or (parent is not None and os.getppid() != parent):
            return None
        if lease_s is not None and time.monotonic() - heard > lease_s:
            os.write(2, f"the parent was silent for {lease_s:g} s\n".encode())
            return None
        listened = [woken] + ([0] if parent is not None and len(waiting) < BUFFER_BYTES else [])
        ready, writable, _ = select.select(listened, [passed_on] if waiting else [], [], POLL_S)
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)
        if 0 in ready:
            content = os.read(0, 65536)
            if not content:
                return None
            waiting, heard = waiting + content, time.monotonic()
        if writable:
            try:
                waiting = waiting[os.write(passed_on, waiting) :]
            except BrokenPipeError:
                waiting = b""  # the worker is about to end


def _reap(wanted: int | None = None) -> int | None:
    """Take note of every child that has ended; the status of the one that is wanted."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == wanted:
                found = status
    return found


def _end_as(status: int | None) -> NoReturn:
    if status is None:
        os._exit(128 + signal.SIGTERM)
    if os.WIFSIGNALED(status):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one core is enough
        number = os.WTERMSIG(status)
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)
    os._exit(os.WEXITSTATUS(status))
