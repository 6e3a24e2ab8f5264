"""Runs of the command line forked from one process that has everything imported, since to start takes longest of all.

Run as a program it is that process: a request a line on standard input, an answer a line on standard output.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

POLL_S = 0.02


class WarmRun:
    """A run that was forked, to be asked as a `subprocess.Popen` is."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self._forks, self.pid = forks, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, where it has ended; a signal's number is negative."""
        if self.returncode is None:
            self.returncode = self._forks.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code once it has ended. Raises `subprocess.TimeoutExpired`."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("fewmark", timeout)
            time.sleep(POLL_S)
        return code

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class Forks:
    """The process that forks; of use to several threads."""

    def __init__(self, paths: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        self._asking = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def ask(self, request: dict[str, Any]) -> Any:
        """The answer to a request."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._asking:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def start(self, words: list[str], folder: Path, environment: dict[str, str], stderr: Path | None) -> WarmRun:
        """A run of the command line in a folder."""
        request = {"words": words, "folder": str(folder), "environment": environment}
        return WarmRun(self, self.ask({**request, "stderr": os.devnull if stderr is None else str(stderr)}))

    def close(self) -> None:
        """End the process; what it has forked is no business of its."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def main() -> None:
    """Fork on request until there are no more."""
    words = ["run", "suite.yaml", "--store", "s.db", "--quiet", "--no-drift-check"]
    with tempfile.TemporaryDirectory() as folder:
        suite = "deployments: [{engine: dummy, model: toy}]\ncells: [{input_tokens: 1, output_tokens: 1}]\n"
        (Path(folder) / "suite.yaml").write_text(suite)
        names = Path(folder) / "names"
        pid = _fork({"words": words, "folder": folder, "environment": {}, "stderr": os.devnull}, names)
        os.waitpid(pid, 0)
        for name in names.read_text().split():
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = _fork(request)
        os.write(1, json.dumps(answer).encode() + b"\n")


def _fork(request: dict[str, Any], names: Path | None = None) -> int:
    pid = os.fork()
    if not pid:
        _run(request, names)
    return pid


def _run(request: dict[str, Any], names: Path | None) -> NoReturn:
    """What a fresh process would do, in one that was forked; `names` gets what it has imported."""
    code = 3
    try:
        os.chdir(request["folder"])
        os.environ.update(request["environment"])
        tempfile.tempdir = None
        nothing = os.open(os.devnull, os.O_RDWR)
        said = os.open(request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number, place in ((nothing, 0), (nothing, 1), (said, 2)):
            os.dup2(number, place)
        sys.argv = ["fewmark", *request["words"]]
        from fewmark.cli import main

        try:
            main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        sys.stderr.flush()
    finally:
        if names is not None:
            names.write_text("\n".join(sys.modules))
        os._exit(code)


if __name__ == "__main__":
    main()
