"""A file of cases into a file of measurements, in this process: for hosts where nothing but the engine is installed.

Both are JSON lines: one `Case`, one `Measurement` a line. Each measurement is written through to the disk when it
exists. Cases that the results already hold are skipped, so a killed batch goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fewmark.core import Case, Deployment, InputError, Measurement
from fewmark.engines.host import host_facts
from fewmark.engines.loading import close_engine, engine_facts, failed_load, ready_engine
from fewmark.engines.measure import Outcome, Policy, case_seed, measure


def read_cases(path: Path) -> list[Case]:
    """The cases of a file, one a line, each once. Raises `InputError` with the line that is none."""
    cases: dict[str, Case] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot read the cases", got=f"{path}: {error}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                case = Case.from_dict(json.loads(line))
            except (ValueError, InputError) as error:
                raise InputError(f"{path}, line {number}: not a case", got=line, hint=str(error)) from None
            cases[case.case_id] = case
    return list(cases.values())


def run_batch(cases: list[Case], out: Path, policy: Policy, seed: int) -> Iterator[Measurement]:
    """Measure the cases that `out` does not hold yet, each written to it before it is yielded.

    Raises
    ------
    InputError
        If `out` cannot be written or holds something else.
    EngineError
        If an engine is unknown or not installed.
    """
    done = _finished(out)
    by_deployment: dict[Deployment, list[Case]] = {}
    for case in cases:
        if case.case_id not in done:
            by_deployment.setdefault(case.deployment, []).append(case)
    host = host_facts()
    with _open_to_append(out) as file:
        for deployment, waiting in by_deployment.items():
            for measurement in _measure_deployment(deployment, waiting, policy, seed, host):
                file.write(json.dumps(measurement.to_dict()).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
                yield measurement


def _measure_deployment(
    deployment: Deployment, cases: list[Case], policy: Policy, seed: int, host: dict[str, Any]
) -> Iterator[Measurement]:
    began = time.perf_counter()
    engine = ready_engine(deployment.engine)
    failed = failed_load(engine, deployment)
    share = (time.perf_counter() - began) / len(cases)
    environment = {"host": host} if failed else {"host": host, "engine": engine_facts(engine)}
    for case in cases:
        if failed is not None:
            outcome = Outcome(failed.status, error=failed.reason)
        else:
            outcome = measure(engine, case.workload, policy, case_seed(seed, case))
        yield outcome.to_measurement(case, startup_s=share, environment=environment)
    if failed is None:
        close_engine(engine)


def _finished(out: Path) -> set[str]:
    """The cases that a results file holds; a torn last line, left by a kill, is cut off."""
    if not out.exists():
        return set()
    done, kept = set(), 0
    content = out.read_bytes()
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            done.add(Measurement.from_dict(json.loads(line)).case.case_id)
        except (ValueError, InputError):
            raise InputError(
                f"{out}, line {number}: not a measurement",
                got=line.decode("utf-8", "replace"),
                hint="name another --out",
            ) from None
        kept += len(line)
    if kept < len(content):
        os.truncate(out, kept)
    return done


def _open_to_append(out: Path) -> BinaryIO:
    try:
        return out.open("ab")
    except OSError as error:
        raise InputError("cannot write the results", got=f"{out}: {error}") from None
