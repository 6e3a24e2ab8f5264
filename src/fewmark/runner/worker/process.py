"""A worker process as its parent sees it: requests with time limits, every failure an outcome, and a sure kill."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from fewmark.core import Deployment, EngineError, InputError, Sample, Status, Workload
from fewmark.engines.measuring.policy import Outcome, Policy
from fewmark.engines.memory.exhaustion import speaks_of_memory
from fewmark.engines.worker.archive import boot_line
from fewmark.engines.worker.program import PROTOCOL
from fewmark.runner.telemetry import Telemetry
from fewmark.runner.worker.launch import Launch

MARK: Final = b'{"fewmark": '
POLL_S: Final = 0.25  # how often a silent worker is checked for being alive
CLOSE_TIMEOUT_S: Final = 10.0
LOG_TAIL_BYTES: Final = 2000
PEAK: Final = "peak_memory_bytes"


class WorkerGoneError(Exception):
    """The worker ended, or did not answer in time. `status` is what that makes of the case."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class WorkerProcess:
    """One running worker. After a crash or a time-out it is dead and must be replaced (`alive`).

    Raises
    ------
    EngineError
        If the command cannot be started at all, or the interpreter is no Python that can run a worker.
    WorkerGoneError
        If the worker ends before it says hello.
    """

    def __init__(self, launch: Launch, *, start_timeout_s: float) -> None:
        command = launch.command()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the worker)
        self._oom_kills = _oom_kills()
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**os.environ, **launch.environment},
                start_new_session=True,  # its own process group: killed as a whole, and not by Ctrl-C in our terminal
            )
        except OSError as error:
            self._log.close()
            raise EngineError("cannot start a worker", got=f"{command[0]}: {error.strerror}") from None
        self._killed = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        # More than a pipe holds; a command that does not read must not block us.
        self._booter = threading.Thread(target=self._write, args=(boot_line(),), daemon=True)
        self._reader.start()
        self._booter.start()
        try:
            hello = self._receive(time.monotonic() + start_timeout_s)
            if hello["event"] == "refused" or hello["fewmark"] != PROTOCOL:
                raise EngineError("this interpreter cannot run a worker", got=hello.get("error", hello))
        except BaseException:
            self.kill()
            raise
        self.host: dict[str, Any] = hello["environment"]
        self._pid = hello["pid"]
        self._exceeded = False
        self._limit = launch.memory_limit_bytes
        if self._limit is not None:
            self._write(json.dumps({"op": "limit", "memory_bytes": self._limit}).encode() + b"\n")

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def load(self, deployment: Deployment, timeout_s: float) -> Mapping[str, Any] | Outcome:
        """Load a deployment: the engine's facts about it, or the outcome that all its cases share if that failed.

        Raises
        ------
        EngineError
            If the engine is not known or not installed in the worker's interpreter.
        """
        try:
            with self._watched():
                answer = self._ask({"op": "load", "deployment": deployment.to_dict()}, timeout_s)
        except WorkerGoneError as gone:
            self.kill()
            return Outcome(gone.status, error=f"while loading: {gone.reason}")
        if answer["event"] == "loaded":
            return dict(answer["environment"])
        if answer["event"] == "unavailable":
            raise EngineError(answer["error"])
        return Outcome(Status(answer["status"]), error=answer["error"])

    def run(self, workload: Workload, policy: Policy, seed: int, timeout_s: float) -> Outcome:
        """Measure a workload on what is loaded. Whatever happens is the outcome, with the samples that there are."""
        began = time.monotonic()
        samples: list[Sample] = []
        request = {"op": "run", "workload": workload.to_dict(), "policy": asdict(policy), "seed": seed}
        with self._watched() as telemetry:
            try:
                answer = self._ask(request, timeout_s, samples)
                outcome = Outcome.from_dict(answer)
                spent = outcome.status is Status.CRASHED
                # What a process holds after memory ran out is not known; a refusal to try leaves it as it was.
                spent |= outcome.status is Status.OUT_OF_MEMORY and self._limit is not None
            except WorkerGoneError as gone:
                outcome = Outcome(gone.status, samples, time.monotonic() - began, error=gone.reason)
                spent = True
            except InputError as error:
                outcome = Outcome(Status.CRASHED, samples, time.monotonic() - began, error=f"malformed answer: {error}")
                spent = True
        if telemetry is not None and outcome.provenance != "imported":
            outcome.energy_j = telemetry.usage.energy_j
            outcome.extra = _together(telemetry.usage.facts(), outcome.extra)
        if spent:
            self.kill()  # if it is not gone, nothing is known about the state that it is in
        return outcome

    def examine(self, timeout_s: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What the doctor finds on the worker's host, as JSON values, and the numbers of its probe of the noise.

        Raises
        ------
        WorkerGoneError
            If the worker does not answer.
        """
        answer = self._ask({"op": "examine"}, timeout_s)
        return list(answer["findings"]), dict(answer["noise"])

    def close(self) -> None:
        """Let the engine give everything back, then end the process, whatever it does."""
        with contextlib.suppress(WorkerGoneError):
            self._ask({"op": "close"}, CLOSE_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the worker and every process of its group, now."""
        if self._killed:
            return
        self._killed = True
        self._end_group()
        self._process.wait()
        self._log.close()
        # A stray process outside the group may hold the pipes; closing them under a busy thread would block.
        for thread, stream in ((self._booter, self._process.stdin), (self._reader, self._process.stdout)):
            thread.join(timeout=1.0)
            if stream is not None and not thread.is_alive():
                with contextlib.suppress(OSError):
                    stream.close()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[Telemetry | None]:
        """The worker watched from here, where it runs on this machine: behind ssh or docker there is no telling."""
        try:
            here = os.getpgid(self._pid) == self._process.pid
        except (OSError, TypeError):
            here = False
        if not here:
            yield None
            return
        with Telemetry(self._pid, memory_limit_bytes=self._limit, on_excess=self._on_excess) as telemetry:
            yield telemetry

    def _on_excess(self) -> None:
        self._exceeded = True
        self._end_group()

    def _end_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _ask(self, request: Mapping[str, Any], timeout_s: float, samples: list[Sample] | None = None) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        self._write(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._receive(deadline)
            if answer["event"] != "sample":
                return answer
            if samples is not None:
                with contextlib.suppress(TypeError, InputError):
                    samples.append(Sample(**answer["sample"]))

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        # A worker that is gone cannot be written to; whoever waits for its answer finds out why.
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                for answer in _messages(line):
                    self._answers.put(answer)
        self._answers.put(None)

    def _receive(self, deadline: float) -> dict[str, Any]:
        while True:
            ended = not self.alive
            left = deadline - time.monotonic()
            if left <= 0:
                raise WorkerGoneError(Status.TIMEOUT, "no answer within the time limit")
            try:
                answer = self._answers.get(timeout=min(POLL_S, left))
            except queue.Empty:
                # A process that it started may hold the pipe open after the worker's own end.
                if ended:
                    raise self._gone() from None
                continue
            if answer is None:
                raise self._gone()
            return answer

    def _gone(self) -> WorkerGoneError:
        try:
            code = self._process.wait(timeout=CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return WorkerGoneError(Status.CRASHED, "the worker closed its output without an answer")
        killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)
        if killed and _oom_kills() > self._oom_kills:
            return WorkerGoneError(Status.OUT_OF_MEMORY, "the kernel ended the worker because memory ran out")
        if killed and self._exceeded:
            reason = f"the worker and its processes held more than the limit of {self._limit} bytes together"
            return WorkerGoneError(Status.OUT_OF_MEMORY, reason)
        what = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        tail = self._log_tail()
        status = Status.OUT_OF_MEMORY if speaks_of_memory(tail) else Status.CRASHED
        return WorkerGoneError(status, f"the worker ended with {what}" + (f": {tail}" if tail else ""))

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            size = os.fstat(self._log.fileno()).st_size
            tail = os.pread(self._log.fileno(), LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES))
            return tail.decode("utf-8", "replace").strip()
        return ""


def _together(ours: Mapping[str, Any], its: Mapping[str, Any]) -> dict[str, Any]:
    """What we saw and what the worker tells, which knows better but for the memory of processes that it started."""
    peaks = [facts[PEAK] for facts in (ours, its) if facts.get(PEAK) is not None]
    return {**ours, **its, **({PEAK: max(peaks)} if peaks else {})}


def _messages(line: bytes) -> Iterator[dict[str, Any]]:
    """The message of a line, if there is one: a login banner or a stray print may stand before it, or alone."""
    start = line.find(MARK)
    if start >= 0:
        with contextlib.suppress(ValueError):
            answer = json.loads(line[start:])
            if "event" in answer:
                yield answer


def _oom_kills() -> int:
    """How many processes this machine's kernel has ended for want of memory."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
