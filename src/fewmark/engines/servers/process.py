"""A server as a process of ours: started in a group of its own, its words kept, stopped with all that it started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fewmark.core import Status
from fewmark.core.processes import is_gone, process_identity
from fewmark.core.text import without_secrets
from fewmark.engines.base import CaseFailure
from fewmark.engines.environments.folders import engines_home
from fewmark.engines.servers.reasons import why_ended
from fewmark.engines.worker.keeper import descendants

LOGS_VARIABLE: Final = "FEWMARK_SERVER_LOGS"
MAX_LOGS: Final = 50  # of servers, the newest, that are kept
MAX_LOG_BYTES: Final = 16 * 2**20
TAIL_LINES: Final = 200
MAX_LINE_BYTES: Final = 1 << 16
STOP_S: Final = 15.0
POLL_S: Final = 0.1
PR_SET_PDEATHSIG: Final = 1


def free_port() -> int:
    """A port of this machine that nobody has now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def logs_folder() -> Path:
    """Where logs of servers are kept: `$FEWMARK_SERVER_LOGS`, by default beside the engines' environments."""
    given = os.environ.get(LOGS_VARIABLE)
    return Path(given).expanduser().absolute() if given else engines_home().parent / "server-logs"


class ServerProcess:
    """A running server.

    Parameters
    ----------
    command : sequence of str
    environment : mapping of str to str
        Beside this process's own.
    name : str
        For its log's name.
    mask : callable
        Takes secrets out of what it says.

    Raises
    ------
    CaseFailure
        If the command cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        name: str,
        mask: Callable[[str], str] = without_secrets,
    ) -> None:
        self._mask = mask
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.log = _new_log(name)
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CaseFailure(
                Status.UNSUPPORTED, f"the server cannot be started: {mask(str(command[0]))}: {reason}"
            ) from None
        self._reader = threading.Thread(target=self._keep_log, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process that was started, and of its group."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def tail(self) -> str:
        """Its last words, without secrets."""
        if not self.is_alive:
            self._reader.join(timeout=2.0)  # what it said last may still be on its way
        return "\n".join(self._tail)

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until it is ready.

        Raises
        ------
        CaseFailure
            With why, if it ends before, or is not ready in time; it is then stopped.
        """
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if not self.is_alive:
                failure = self.failure()
                self.stop()
                raise failure
            if time.monotonic() > deadline:
                said = self.tail().rpartition("\n")[2]
                self.stop()
                raise CaseFailure(
                    Status.TIMEOUT, f"the server was not ready after {timeout_s:g} s; it last said: {said}"
                )
            time.sleep(POLL_S)

    def failure(self) -> CaseFailure:
        """Why it ended."""
        code = self._process.poll()
        if code is None:
            return CaseFailure(Status.CRASHED, "the server runs but does not answer")
        what = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        found = why_ended(self.tail(), what)
        # what ran well for a while has no bad option
        return CaseFailure(found.status, f"{found.reason} (its log: {self.log})" if self.log else found.reason)

    def stop(self) -> None:
        """End it and everything that came of it, politely first; whatever left its group or session as well."""
        group = self._process.pid
        came_of_it = [process_identity(pid) for pid in descendants(group)]
        _signal_group(group, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=STOP_S)
        _signal_group(group, signal.SIGKILL)
        self._process.wait()
        for identity in came_of_it:
            if not is_gone(identity):
                with contextlib.suppress(OSError):
                    os.kill(int(identity.split()[-2]), signal.SIGKILL)
        self._reader.join(timeout=2.0)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()

    def _keep_log(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        written = 0
        with contextlib.ExitStack() as stack:
            file = None
            if self.log is not None:
                with contextlib.suppress(OSError):
                    file = stack.enter_context(self.log.open("w", encoding="utf-8"))
            while line := stream.readline(MAX_LINE_BYTES):
                text = self._mask(line.decode("utf-8", "replace").rstrip("\r\n"))
                self._tail.append(text)
                if file is not None and written < MAX_LOG_BYTES:
                    with contextlib.suppress(OSError):
                        written += file.write(text + "\n")
                        file.flush()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.killpg(group, number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _new_log(name: str) -> Path | None:
    """A path for a new log; None where none can be kept. The oldest ones give way."""
    folder = logs_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
        for path in held[: max(len(held) - MAX_LOGS + 1, 0)]:
            path.unlink(missing_ok=True)
    except OSError:
        return None
    return folder / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.getpid()}.log"


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
