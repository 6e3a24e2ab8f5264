"""A file of cases into a file of measurements, in this process: for hosts where nothing but the engine is installed.

Both are JSON lines: one `Case`, one `Measurement` a line. Each measurement is written through to the disk when it
exists. Cases that the results already hold are skipped, so a killed batch goes on where it stopped.

With a policy that cuts generations short, a few cells of each deployment are run in full as well and come first. The
results hold the short runs as they are; `fewmark import` projects them. A later batch that cuts nothing short, into the
same file, measures in full what was only cut.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from fewmark.core import Case, Deployment, InputError, Measurement
from fewmark.core.errors import MALFORMED
from fewmark.core.files import read_text, require_regular
from fewmark.core.json_types import Json
from fewmark.engines.host import host_facts
from fewmark.engines.measuring.policy import Outcome, Policy, case_seed, measure
from fewmark.engines.measuring.spread import in_full_as_well
from fewmark.engines.worker.loading import close_engine, engine_facts, failed_load, leaves_allocator, ready_engine

# How every record begins, by the order of a measurement's fields.
RECORD_START: Final = b'{"case": {"deployment": {"engine": "'


def read_cases(path: Path) -> list[Case]:
    """The cases of a file, one a line, each once. Raises `InputError` with the line that is none."""
    cases: dict[str, Case] = {}
    for number, line in enumerate(read_text(path, what="the cases").split("\n"), 1):
        if line.strip():
            try:
                case = Case.from_dict(json.loads(line))
            except (*MALFORMED, InputError) as error:
                raise InputError(f"{path}, line {number}: not a case", got=line, hint=str(error)) from None
            cases[case.case_id] = case
    return list(cases.values())


def run_batch(cases: list[Case], out: Path, policy: Policy, seed: int, n_validated: int = 0) -> Iterator[Measurement]:
    """Measure the cases that `out` does not hold yet, each written to it before it is yielded.

    Of the cells of a deployment that are cut short, `n_validated` are run in full as well, a third of them at most.

    Raises
    ------
    InputError
        If `out` cannot be written or holds something else.
    EngineError
        If an engine is unknown or not installed.
    """
    by_deployment: dict[Deployment, list[Case]] = {}
    for case in cases:
        by_deployment.setdefault(case.deployment, []).append(case)
    host = host_facts()
    with _open_to_append(out) as file:
        done = _finished(file, out)
        # The allocator's thresholds cannot be unset: who leaves them alone comes first.
        for deployment, wanted in sorted(by_deployment.items(), key=lambda item: not leaves_allocator(item[0])):
            waiting = _tasks(wanted, policy, n_validated, done)
            for measurement in _measure_deployment(deployment, waiting, seed, host) if waiting else ():
                file.write(json.dumps(measurement.to_dict()).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
                yield measurement


def _tasks(
    cases: list[Case], policy: Policy, n_validated: int, done: set[tuple[str, bool]]
) -> list[tuple[Case, Policy]]:
    """What is left to run of a deployment: the validated cells in full, then all as the policy says.

    `done` holds the cases that were run, and whether they were cut short. One that was run in full needs no short run,
    but for the validated ones.
    """
    full = replace(policy, truncate=None)
    cut = [case for case in cases if policy.asked(case.workload) != case.workload]
    both = in_full_as_well(cut, n_validated)
    tasks = [(case, full) for case in both if (case.case_id, False) not in done]
    for case in (*both, *(case for case in cases if case not in both)):
        in_full = (case.case_id, False) in done and case not in both
        if not in_full and (case.case_id, case in cut) not in done:
            tasks.append((case, policy))
    return tasks


def _measure_deployment(
    deployment: Deployment, tasks: list[tuple[Case, Policy]], seed: int, host: dict[str, Json]
) -> Iterator[Measurement]:
    began = time.perf_counter()
    engine = ready_engine(deployment.engine)
    failed = failed_load(engine, deployment)
    share = (time.perf_counter() - began) / len(tasks)
    environment = {"host": host} if failed else {"host": host, "engine": engine_facts(engine)}
    for case, policy in tasks:
        if failed is not None:
            provenance = "measured" if policy.asked(case.workload) == case.workload else "projected"
            outcome = Outcome(failed.status, error=failed.reason, provenance=provenance)
        else:
            outcome = measure(engine, case.workload, policy, case_seed(seed, case))
        yield outcome.to_measurement(case, startup_s=share, environment=environment)
    if failed is None:
        close_engine(engine)


def _finished(file: BinaryIO, out: Path) -> set[tuple[str, bool]]:
    """The cases that a results file holds, and whether cut short.

    What a kill in the middle of a write has left, the beginning of a record at the file's end, is cut off; a whole
    record gets the line feed that it lacks. Anything else that is none refuses the file, which stays as it is.
    """
    done: set[tuple[str, bool]] = set()
    kept = number = 0
    line = b"\n"
    file.seek(0)
    for number, line in enumerate(file, 1):
        if line.strip():
            held = _measurement(line)
            if held is None and not line.endswith(b"\n") and _is_torn(line, after_ours=bool(done)):
                file.truncate(kept)
                line = b"\n"
                break
            if held is None:
                raise InputError(
                    f"{out}, line {number}: not a measurement",
                    got=line[:400].decode("utf-8", "replace"),
                    hint="name another --out; this file is left as it is",
                )
            done.add((held.case.case_id, held.provenance == "projected"))
        kept += len(line)
    file.seek(0, os.SEEK_END)
    if not line.endswith(b"\n"):
        file.write(b"\n")
    return done


def _measurement(line: bytes) -> Measurement | None:
    try:
        return Measurement.from_dict(json.loads(line))
    except (*MALFORMED, InputError):
        return None


def _is_torn(line: bytes, *, after_ours: bool) -> bool:
    """Whether it is surely the beginning of a record of ours; a file system may fill what it lost with zeros."""
    text = line.rstrip(b"\0")
    return text.startswith(RECORD_START) or (after_ours and RECORD_START.startswith(text))


@contextlib.contextmanager
def _open_to_append(out: Path) -> Iterator[BinaryIO]:
    """The results file, for this batch alone as long as it runs."""
    try:
        if out.exists():
            require_regular(out, what="a results file")
        with out.open("ab+") as file:
            if not _locked(file):
                raise InputError("another batch writes these results", got=str(out), hint="name another --out")
            yield file
    except OSError as error:
        raise InputError(
            "cannot write the results", got=f"{out}: {error.strerror or error}", hint="what is there is kept"
        ) from None


def _locked(file: BinaryIO) -> bool:
    """False where another process holds the lock; a system or a file system without locks is taken as it is."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True
    return True
