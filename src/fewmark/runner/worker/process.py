"""A worker process as its parent sees it: requests with time limits, every failure an outcome, and a sure kill."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from fewmark.core import Deployment, EngineError, InputError, Sample, Status, Workload
from fewmark.core.errors import MALFORMED
from fewmark.core.fields import build
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json, JsonObject
from fewmark.core.text import masked
from fewmark.engines.measuring.policy import Outcome, Policy
from fewmark.engines.memory.exhaustion import speaks_of_memory
from fewmark.engines.worker.archive import boot_line
from fewmark.engines.worker.program import PROTOCOL
from fewmark.engines.worker.scratch import remove_if_free
from fewmark.runner.telemetry import Telemetry
from fewmark.runner.worker.launch import Launch
from fewmark.runner.worker.messages import facts_of, message_of, together
from fewmark.runner.worker.streams import POLL_S, Streams

CLOSE_TIMEOUT_S: Final = 10.0
KEEPER_TIMEOUT_S: Final = 12.0
GROUP_TIMEOUT_S: Final = 10.0
PREFIX_TIMEOUT_S: Final = 5.0
MAX_SHOWN_CHARACTERS: Final = 2000
LEASE_S: Final = 120.0  # behind a prefix: how long we may be silent before the worker ends by itself


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
        self._oom_kills = _oom_kills()
        self._killed = self._exceeded = False
        self._limit = launch.memory_limit_bytes
        self._pid, self._scratch = 0, None
        self.recorded = self.reusable = False  # what is loaded: whether it is a record, may turn to other deployments
        self._n_runs = 0
        self._behind = bool(launch.prefix)
        lease_s = LEASE_S if self._behind else None
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **launch.environment},
                start_new_session=True,  # its own process group: killed as a whole, and not by Ctrl-C in our terminal
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL among the arguments
            reason = getattr(error, "strerror", None) or error
            raise EngineError("cannot start a worker", got=f"{command[0]}: {reason}") from None
        self._streams = Streams(self._process, boot_line(lease_s), beating=lease_s is not None)
        try:
            hello = self._receive(time.monotonic() + start_timeout_s)
            if hello["event"] == "refused" or hello["fewmark"] != PROTOCOL:
                raise EngineError("this interpreter cannot run a worker", got=hello.get("error", hello))
            self.host: dict[str, Json] = masked(thaw(facts_of(hello)))
            self._pid, scratch = _whole(hello.get("pid")), hello.get("scratch")
            self._scratch = Path(scratch) if isinstance(scratch, str) and not self._behind else None
        except InputError as error:
            self.kill()
            raise WorkerGoneError(Status.INVALID, f"malformed hello: {error}") from None
        except BaseException:
            self.kill()
            raise
        if self._limit is not None:
            self._streams.send({"op": "limit", "memory_bytes": self._limit})

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it runs and has said nothing that it was not asked for: it may be taken for the next answer."""
        return self.alive and self._streams.empty

    def load(self, deployment: Deployment, timeout_s: float) -> JsonObject | Outcome:
        """Load a deployment: the engine's facts about it, or the outcome that all its cases share if that failed.

        Raises
        ------
        EngineError
            If the engine is not known or not installed in the worker's interpreter.
        """
        try:
            with self._watched():
                answer = self._ask({"op": "load", "deployment": deployment.to_dict()}, timeout_s)
            if answer["event"] == "loaded":
                return self._loaded(answer)
            if answer["event"] == "failed":
                failed = Outcome.from_dict({"status": answer.get("status"), "error": answer.get("error")})
                if failed.status is Status.OK:
                    raise InputError("a failure has a status of its own", got=answer)
                return failed
            if answer["event"] != "unavailable":
                raise InputError("not an answer to the loading of a deployment", got=answer)
        except WorkerGoneError as gone:
            self.kill()
            return Outcome(gone.status, error=f"while loading: {gone.reason}")
        except InputError as error:
            self.kill()
            return Outcome(Status.INVALID, error=f"while loading: malformed answer: {error}")
        raise EngineError(str(answer.get("error"))[:MAX_SHOWN_CHARACTERS])

    def reload(self, deployment: Deployment, timeout_s: float) -> JsonObject | None:
        """Turn to another deployment of the same engine: its facts, or None where that takes a new worker."""
        if not self.reusable:
            return None
        try:
            with self._watched():
                answer = self._ask({"op": "reload", "deployment": deployment.to_dict()}, timeout_s)
            return self._loaded(answer) if answer["event"] == "loaded" else None
        except (WorkerGoneError, InputError):
            self.kill()
            return None

    def recall(self, workloads: Sequence[Workload], timeout_s: float) -> list[Outcome]:
        """What a recorded engine holds of these workloads, in their order.

        The time limit is for each of them. Where the worker fails at one, that is the last outcome.
        """
        outcomes: list[Outcome] = []
        self._streams.send({"op": "recall", "workloads": [work.to_dict() for work in workloads]})
        try:
            for _ in workloads:
                answer = self._receive(time.monotonic() + timeout_s)
                if answer["event"] != "result":
                    raise InputError("not the result of a case", got=answer)
                outcomes.append(Outcome.from_dict(answer))
        except WorkerGoneError as gone:
            outcomes.append(Outcome(gone.status, error=gone.reason))
            self.kill()
        except InputError as error:
            outcomes.append(Outcome(Status.INVALID, error=f"malformed answer: {error}"))
            self.kill()
        return outcomes

    def run(self, workload: Workload, policy: Policy, seed: int, timeout_s: float) -> Outcome:
        """Measure a workload on what is loaded. Whatever happens is the outcome, with the samples that there are."""
        began = time.monotonic()
        samples: list[Sample] = []
        self._n_runs += 1
        request: dict[str, Json] = {"op": "run", "workload": workload.to_dict(), "policy": asdict(policy), "seed": seed}
        request["number"] = self._n_runs
        with self._watched() as telemetry:
            try:
                answer = self._ask(request, timeout_s, samples, policy.max_repeats)
                if answer["event"] != "result":
                    raise InputError("not the result of a case", got=answer)
                if answer.get("number", self._n_runs) != self._n_runs:
                    raise InputError("the result of another request", got=answer.get("number"))
                outcome = Outcome.from_dict(answer)
                spent = outcome.status is Status.CRASHED
                # What a process holds after memory ran out is not known; a refusal to try leaves it as it was.
                spent |= outcome.status is Status.OUT_OF_MEMORY and self._limit is not None
            except WorkerGoneError as gone:
                outcome = Outcome(gone.status, samples, time.monotonic() - began, error=gone.reason)
                spent = True
            except InputError as error:
                outcome = Outcome(Status.INVALID, samples, time.monotonic() - began, error=f"malformed answer: {error}")
                spent = True
        if telemetry is not None and outcome.provenance != "imported":
            outcome.energy_j = telemetry.usage.energy_j
            outcome.extra = together(telemetry.usage.facts(), outcome.extra)
        if spent:
            self.kill()  # if it is not gone, nothing is known about the state that it is in
        return outcome

    def examine(self, timeout_s: float) -> tuple[list[dict[str, Json]], dict[str, Json]]:
        """What the doctor finds on the worker's host, as JSON values, and the numbers of its probe of the noise.

        Raises
        ------
        WorkerGoneError
            If the worker does not answer.
        """
        answer = self._ask({"op": "examine"}, timeout_s)
        findings, noise = answer.get("findings"), answer.get("noise")
        if not isinstance(findings, list) or not isinstance(noise, dict):
            raise WorkerGoneError(Status.INVALID, "malformed answer")
        return findings, noise

    def close(self) -> None:
        """Let the engine give everything back, then end the process, whatever it does."""
        with contextlib.suppress(WorkerGoneError):
            self._ask({"op": "close"}, CLOSE_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the worker and every process that came of it, now, and remove its temporary files."""
        if self._killed:
            return
        self._killed = True
        self._streams.stop()
        # The keeper knows them all, also those that left the group, and removes what they leave.
        if self._behind and self._pid and self._streams.close_input():
            self._wait(PREFIX_TIMEOUT_S)
        with contextlib.suppress(OSError):
            self._process.terminate()
        self._wait(KEEPER_TIMEOUT_S)
        self._end_group()
        self._process.wait()
        if self._scratch is not None:
            remove_if_free(self._scratch)  # where the keeper was killed, too
        self._streams.close()

    def _loaded(self, answer: JsonObject) -> dict[str, Json]:
        """The facts of what was loaded. Raises `InputError`."""
        facts: dict[str, Json] = masked(thaw(facts_of(answer)))
        self.recorded, self.reusable = answer.get("recorded") is True, answer.get("reusable") is True
        return facts

    @contextlib.contextmanager
    def _watched(self) -> Iterator[Telemetry | None]:
        """The worker watched from here, where it runs on this machine: behind ssh or docker there is no telling.

        One that answers from a record uses nothing that counts.
        """
        if self.recorded and self._limit is None:
            yield None
            return
        try:
            here = self._pid > 0 and os.getpgid(self._pid) == self._process.pid
        except (OSError, OverflowError):
            here = False
        if not here:
            yield None
            return
        with Telemetry(self._pid, memory_limit_bytes=self._limit, on_excess=self._on_excess) as telemetry:
            yield telemetry

    def _on_excess(self) -> None:
        self._exceeded = True
        # The worker alone: its keeper ends all others.
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)

    def _wait(self, timeout_s: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def _end_group(self) -> None:
        """End what is left of the group, and wait until it is gone: large memory takes its time to be given back."""
        deadline = time.monotonic() + GROUP_TIMEOUT_S
        with contextlib.suppress(ProcessLookupError, PermissionError):
            while time.monotonic() < deadline:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.poll()
                time.sleep(0.01)

    def _ask(
        self, request: JsonObject, timeout_s: float, samples: list[Sample] | None = None, most: int = 0
    ) -> dict[str, Json]:
        """The answer to a request; of the samples that come before it, at most so many are kept."""
        deadline = time.monotonic() + timeout_s
        self._streams.send(request)
        while True:
            answer = self._receive(deadline)
            if answer["event"] != "sample":
                return answer
            ours = answer.get("number", self._n_runs) == self._n_runs
            if ours and samples is not None and len(samples) < most:
                with contextlib.suppress(*MALFORMED, InputError):
                    samples.append(build(Sample, answer["sample"]))

    def _receive(self, deadline: float) -> dict[str, Json]:
        while True:
            # One that is here already needs no look at the process that sent it.
            ended = self._streams.empty and not self.alive
            left = deadline - time.monotonic()
            if left <= 0:
                raise WorkerGoneError(Status.TIMEOUT, "no answer within the time limit")
            try:
                line = self._streams.next_line(min(POLL_S, left))
            except queue.Empty:
                # A process that it started may hold the pipe open after the worker's own end.
                if ended:
                    raise self._gone() from None
                continue
            if line is None:
                raise self._gone()
            return message_of(line)

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
        what = f"signal {_signal_name(-code)}" if code < 0 else f"exit code {code}"
        tail = self._streams.log_tail()
        status = Status.OUT_OF_MEMORY if speaks_of_memory(tail) else Status.CRASHED
        return WorkerGoneError(status, f"the worker ended with {what}" + (f": {tail}" if tail else ""))


def _whole(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 2**31 else 0


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _oom_kills() -> int:
    """How many processes this machine's kernel has ended for want of memory."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
