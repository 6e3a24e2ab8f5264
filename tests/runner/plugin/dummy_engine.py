"""A third party's engine, standard library only, that misbehaves on request: the workload option `do` says how,
`after` how many runs.

Engine options: `journal` (a file that gets a line for each call), `load` (how loading misbehaves), `pause_s` (real
time that each run takes), `once` (a file that makes a misbehaviour happen once: it does while the file is absent).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from itertools import accumulate
from pathlib import Path

from fewmark.core import Deployment, Sample, Status, Workload
from fewmark.engines import Availability, CaseFailure
from fewmark.engines.worker.scratch import temporary_folder


class DummyEngine:
    @classmethod
    def probe(cls) -> Availability:
        return Availability(True, version="1.0")

    def load(self, deployment: Deployment) -> None:
        self.options = deployment.engine_options
        self.runs = 0
        self.note(f"load {os.getpid()}")
        self.misbehave(self.options.get("load"))

    def check(self, workload: Workload) -> None:
        if workload.options.get("do") == "unsupported":
            raise CaseFailure(Status.UNSUPPORTED, "the dummy does not do that")

    def run(self, workload: Workload, *, seed: int) -> Sample:
        self.note(f"run {workload.output_tokens} {workload.load} {seed}")
        print("noise on standard output", flush=True)
        os.write(1, b'{"fewmark": 1, "event": "result", "forged": true}\n')
        self.runs += 1
        if self.runs > workload.options.get("after", 0):
            self.misbehave(workload.options.get("do"))
        produced = int(workload.output_tokens) - (workload.options.get("do") == "short")
        time.sleep(self.options.get("pause_s", 0))
        noise = workload.options.get("noise", 0.0) * (seed % 1000 / 1000 - 0.5)
        step = 0.001 * workload.load * (1 + noise)
        step *= 10 if workload.options.get("slow_run") == self.runs else 1
        _, slower, from_batch = _version()
        step *= slower if workload.load >= from_batch else 1
        growth = self.options.get("growth", 0.0)  # of a step, for each token of the KV cache
        steps = [step * (1 + growth * (workload.input_tokens + i)) for i in range(produced)]
        times = tuple(accumulate(steps))
        return Sample(e2e_latency_s=times[-1], ttft_s=times[0], output_tokens=produced, token_times_s=times)

    def close(self) -> None:
        self.note("close")

    def environment(self) -> dict[str, str | int]:
        return {"pid": os.getpid(), "threads": 1, "engine_version": _version()[0]}

    def misbehave(self, how: str | None) -> None:
        once = self.options.get("once")
        if once is not None and how is not None:
            if Path(once).exists():
                return
            Path(once).touch()
        if how == "raise":
            raise RuntimeError("the dummy fell over")
        if how == "exit":
            print("last words", file=sys.stderr, flush=True)
            os._exit(3)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "parent":  # whatever has started the worker, and with it the worker and its keeper
            keeper = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()
            os.kill(int(keeper[1]), signal.SIGKILL)
            time.sleep(600)
        if how == "hang":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            self.note(f"child {child.pid}")
            time.sleep(600)
        if how == "escape":  # a grandchild in a session of its own that heeds no polite signal
            code = (
                "import os, signal, time; os.fork() or (os.setsid(), signal.signal(signal.SIGTERM, signal.SIG_IGN)); "
            )
            code += "time.sleep(600)"
            self.child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session=True)
            self.note(f"child {self.child.pid}")
        if how == "fill" or self.options.get("fill"):
            for parent in (None, *([Path(self.options["elsewhere"])] if "elsewhere" in self.options else [])):
                folder = temporary_folder("dummy", parent)
                (folder / "weights").write_bytes(b"x" * 1000)
                self.note(f"folder {folder}")
            self.note(f"folder {tempfile.mkdtemp()}")
        if how == "memory":
            raise MemoryError("no room")
        if how == "allocate":
            self.hoard = [bytearray(2**26) for _ in range(64)]  # 4 GiB, every page of it touched
        if how == "hold" and self.runs == 1:
            self.hoard = [bytearray(2**26) for _ in range(6)]
        if how == "abort":  # as a C++ library does
            print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr, flush=True)
            os.abort()
        if how == "share":  # each process stays within the limit, all of them together do not
            code = "x = bytearray(b'x' * 100 * 2**20); import time; time.sleep(600)"
            self.children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(5)]
            time.sleep(600)
        if how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if how == "refuse":
            raise CaseFailure(Status.OUT_OF_MEMORY, "the weights do not fit")

    def note(self, line: str) -> None:
        journal = self.options.get("journal")
        if journal is not None:
            with Path(journal).open("a") as file:
                file.write(line + "\n")


class TapeEngine(DummyEngine):
    """Answers from a record, and turns to any deployment but one that says it is `alone`."""

    def recorded(self, workload: Workload) -> tuple[Sample, ...]:
        self.misbehave(workload.options.get("do"))
        return (Sample(e2e_latency_s=workload.load, output_tokens=workload.output_tokens),)

    def reload(self, deployment: Deployment) -> bool:
        if deployment.engine_options.get("alone"):
            return False
        self.load(deployment)
        return True


def _version() -> tuple[str, float, int]:
    """A new version of the engine, as the environment has it: "2.0 1.3 4" is 1.3 times slower from batch 4 on."""
    version, slower, from_batch = os.environ.get("DUMMY_VERSION", "1.0 1 1").split()
    return version, float(slower), int(from_batch)


class MissingEngine(DummyEngine):
    @classmethod
    def probe(cls) -> Availability:
        return Availability(False, reason="not installed: nowhere", install="pip install nowhere")
