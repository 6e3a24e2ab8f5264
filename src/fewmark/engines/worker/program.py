"""The worker program: runs cases on one loaded engine, spoken to in JSON lines or given a file of cases.

**Served** (`serve`): requests come on standard input, answers go to the original standard output; whatever the engine
prints goes to standard error, which the parent keeps as a log. Every message is an object on a line of its own; every
answer begins with ``{"fewmark": 1,``, the protocol's version.

    worker  {"event": "hello", "pid", "environment", "scratch"}
    parent  {"op": "limit", "memory_bytes"}: before loading, where the memory is limited; not answered
    parent  {"op": "load", "deployment"}
    worker  {"event": "loaded", "environment", "recorded", "reusable"} or {"event": "failed", "status", "error"}
            or {"event": "unavailable", "error"}: the engine is not installed in this interpreter
    parent  {"op": "reload", "deployment"}: another one of the same engine
    worker  {"event": "loaded", …} or {"event": "refused"}: that takes a new worker
    parent  {"op": "run", "workload", "policy", "seed", "number"}
    worker  {"event": "sample", "sample", "number"}…, then {"event": "result", "number", … as in `Outcome.to_dict`};
            the number says which request they answer
    parent  {"op": "recall", "workloads"}, of an engine that answers from a record
    worker  {"event": "result", …}, one for each of them
    parent  {"op": "examine"}
    worker  {"event": "examined", "findings", "noise"}: the doctor's, with the probe of the noise
    parent  {"op": "close"}
    worker  {"event": "closed"}

A worker dies with its parent: its keeper (`fewmark.engines.worker.keeper`) ends it when standard input ends. Behind a
prefix the parent sends an empty line now and then; a worker that hears nothing for the time of its lease is ended, too.

**Batch** (`main`): ``python -m fewmark.engines.worker.program --cases cases.jsonl --out results.jsonl``, see
`fewmark.engines.worker.batch`.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from fewmark.core import Deployment, EngineError, FewmarkError, Sample, Status, Workload
from fewmark.core.json_types import Json
from fewmark.engines.base import Engine, Recorded, Reusable
from fewmark.engines.doctor import examine, noise
from fewmark.engines.host import host_facts, limit_memory
from fewmark.engines.measuring.policy import Policy, measure, recall
from fewmark.engines.worker.batch import read_cases, run_batch
from fewmark.engines.worker.keeper import start_keeper
from fewmark.engines.worker.loading import close_engine, engine_facts, failed_load, ready_engine, reloaded

PROTOCOL: Final = 1
PR_SET_PDEATHSIG: Final = 1
POLICY_HELP: Final = {
    "min_repeats": "the fewest timed runs of a case",
    "max_repeats": "the most",
    "target_half_width": "enough runs are made when the median is known to this fraction",
    "confidence_level": "of the median's interval",
    "warmup": "untimed runs before",
    "time_limit_s": "of a case: no run is begun that would end later",
    "n_requests": "of a window of a loop on a server",
    "window_s": "seconds of such a window, in their place",
    "truncate": "cut longer generations short after so many output tokens; the import projects the rest",
}


def serve(lease_s: float | None = None) -> int:
    """Serve the parent's requests until it says close or goes away, or was silent for `lease_s`."""
    scratch = start_keeper(lease_s=lease_s)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _die_with_parent()
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    # A stream of its own: Python cannot end in good order while another thread waits on `sys.stdin`.
    threading.Thread(target=_read, args=(os.fdopen(os.dup(0), "rb"), requests), daemon=True).start()

    def send(event: str, **content: Json) -> None:
        line = json.dumps({"fewmark": PROTOCOL, "event": event, **content})
        answers.write(line.encode() + b"\n")
        answers.flush()

    send("hello", pid=os.getpid(), environment=host_facts(), scratch=str(scratch) if scratch else None)
    engine: Engine | None = None
    while (request := requests.get())["op"] != "close":
        if request["op"] == "load":
            engine = _load(Deployment.from_dict(request["deployment"]), send)
        elif request["op"] == "reload":
            assert engine is not None
            if reloaded(engine, Deployment.from_dict(request["deployment"])):
                send_loaded(engine, send)
            else:
                send("refused")
        elif request["op"] == "recall":
            assert isinstance(engine, Recorded)
            for work in request["workloads"]:
                send("result", **recall(engine, Workload.from_dict(work)).to_dict())
        elif request["op"] == "limit":
            limit_memory(request["memory_bytes"])
        elif request["op"] == "examine":
            finding, numbers = noise()
            send("examined", findings=[found.to_dict() for found in (*examine(), finding)], noise=numbers)
        else:
            assert engine is not None
            workload, policy = Workload.from_dict(request["workload"]), Policy(**request["policy"])
            number: Json = request.get("number")
            outcome = measure(engine, workload, policy, request["seed"], partial(_tell, send, number))
            send("result", number=number, **outcome.to_dict())
    if engine is not None:
        close_engine(engine)
    send("closed")
    return 0


def _tell(send: Callable[..., None], number: Json, sample: Sample) -> None:
    send("sample", number=number, sample=sample.to_dict())


def _load(deployment: Deployment, send: Callable[..., None]) -> Engine | None:
    try:
        engine = ready_engine(deployment.engine)
    except EngineError as error:
        send("unavailable", error=str(error))
        return None
    failed = failed_load(engine, deployment)
    if failed is not None:
        send("failed", status=str(failed.status), error=failed.reason)
        return None
    send_loaded(engine, send)
    return engine


def send_loaded(engine: Engine, send: Callable[..., None]) -> None:
    """Say that a deployment is ready, and what may be asked of its engine."""
    facts = engine_facts(engine)
    send("loaded", environment=facts, recorded=isinstance(engine, Recorded), reusable=isinstance(engine, Reusable))


def _read(stream: BinaryIO, requests: queue.Queue[dict[str, Any]]) -> None:
    for line in stream:
        if line.strip():  # an empty one says that the parent is there
            requests.put(json.loads(line))
    # The parent is gone. The engine may be busy in the other thread, and may have started processes of its own.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # Where memory runs out, the kernel should take the worker, not what keeps its results.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def main(argv: list[str] | None = None) -> int:
    """Measure a file of cases. Exit codes: 0 done; 1 some case failed; 2 the request was wrong."""
    parser = argparse.ArgumentParser(prog="worker", description="Measure a file of cases; resumes where it stopped.")
    parser.add_argument("--cases", type=Path, required=True, help="JSON lines, one case a line")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one measurement a line; appended to")
    parser.add_argument("--path", action="append", default=[], help="a folder to import engines from; repeatable")
    parser.add_argument("--seed", type=int, default=0, help="what the prompts are drawn from")
    scalars = [item for item in fields(Policy) if item.name in POLICY_HELP]
    for item in scalars:
        kind = float if item.name in ("target_half_width", "confidence_level", "time_limit_s", "window_s") else int
        parser.add_argument(
            f"--{item.name.replace('_', '-')}", type=kind, default=item.default, help=POLICY_HELP[item.name]
        )
    parser.add_argument(
        "--validate-cells", type=int, default=3, metavar="N",
        help="with --truncate: so many cells of each deployment, a third at most, are also run in full",
    )  # fmt: skip
    options = parser.parse_args(argv)
    sys.path[:0] = options.path
    start_keeper(serving=False)
    _die_with_parent()
    try:
        policy = Policy(**{item.name: getattr(options, item.name) for item in scalars})
        cases = read_cases(options.cases)
        results = run_batch(cases, options.out, policy, options.seed, options.validate_cells)
        failed = sum(m.status != Status.OK for m in results)
    except FewmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
