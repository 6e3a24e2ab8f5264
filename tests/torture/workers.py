"""Workers and engines that misbehave: any message at any time, any end. One case each, and later cases are measured."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from guard import MEMORY_BYTES, announce, peak_bytes
from misbehaviour import STALE_S, Way, combined, ways
from processes import MARKER, end, family, told, wait_until_gone
from tally import Clock, Tally

from fewmark.core import Case, Deployment, EngineError, FrozenMap, Measurement, Status, Workload
from fewmark.engines.measuring.policy import Policy
from fewmark.runner import Launch, LocalExecutor, RunSettings
from fewmark.runner.deployment import measure_deployment
from fewmark.runner.results import Unavailable, measurements_of

HERE: Final = Path(__file__).parent
PLUGIN: Final = HERE.parent / "runner" / "plugin"
THREADS: Final = 8  # most of them wait
ENGINES_AT_ONCE: Final = 3
TIMEOUT_S: Final = 4.0
PATIENT_S: Final = 20.0  # where a loaded machine may be why an answer came too late
ENGINE_TIMEOUT_S: Final = 20.0
LONGEST_ERROR: Final = 5000
ESCAPE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u001b")  # in JSON, and not the text that stands for it
FIRST: Final = [Case(Deployment("dummy", "toy"), Workload(4, 2, batch_size=b)) for b in (1, 2)]
LATER: Final = Case(Deployment("dummy", "later"), Workload(4, 2, batch_size=1))
# What an engine does that runs in a real worker: the option `do` of the tests' engine.
ENGINE_WAYS: Final = (
    *("raise", "exit", "kill", "hang", "escape", "fill", "memory", "allocate", "hold", "abort", "share", "refuse"),
    *("short", "unsupported", "stop"),
)


class Conversations:
    """Conversations of a part, numbered: first each single way, then ways and ends combined at random."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ways, self.tally = folder, ways(), Tally("misbehaving worker")
        self.program = folder / "worker"
        self.program.write_text(f"#!{sys.executable} -IS\n{(HERE / 'scripted_worker.py').read_text()}")
        self.program.chmod(0o755)

    def way(self, number: int) -> tuple[Way, bool]:
        """The way of a number, and whether every start of the worker is like it."""
        rng = random.Random(number)
        if number < len(self.ways):
            return self.ways[number], rng.random() < 0.15
        return combined(rng, self.ways), rng.random() < 0.15

    def hold(self, number: int) -> None:
        """The conversation of a number; what it shows goes to the tally."""
        way, always = self.way(number)
        began, faults = time.monotonic(), self.faults(number, way, always, TIMEOUT_S)
        if any("timeout" in fault or "time limit" in fault for fault in faults):
            faults = self.faults(number, way, always, PATIENT_S)
        for fault in faults:
            self.tally.fail(f"{way.name}{' each time' if always else ''}: {fault}   [--repeat workers:{number}]")
        self.tally.tried += 1
        self.tally.ways.add(way.name)
        self.tally.took(time.monotonic() - began)

    def faults(self, number: int, way: Way, always: bool, timeout_s: float) -> list[str]:
        """What is wrong with what comes of it."""
        word = f"{os.getpid()}-conversation-{number}-{timeout_s:g}"
        announce(f"conversation {number}: {way.name}")
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            (Path(name) / "plan").write_text(json.dumps(way.plan(random.Random(number), always=always)))
            launch = Launch(python=str(self.program), environment={"FEWMARK_PLAN": name, MARKER: word})
            settings = RunSettings(
                Policy(warmup=0, max_repeats=3), timeout_s=timeout_s, load_timeout_s=timeout_s, launch=launch
            )
            try:
                groups = {FIRST[0].deployment: FIRST, LATER.deployment: [LATER]}
                results = list(LocalExecutor().execute(groups, settings, {}, lambda case: None))
            except Exception as error:
                tally = Tally("")
                tally.fault(error, "raises")
                return tally.failed
            finally:
                if left := wait_until_gone(partial(family, word)):
                    self.tally.fail(f"{way.name}: runs on: {told(left)}   [--repeat workers:{number}]")
                    end(left)
        found: dict[Case, Measurement] = {}
        lost: dict[Deployment, str] = {}
        for result in results:
            if isinstance(result, Unavailable):
                lost[result.deployment] = str(result.error)
            else:
                found |= {m.case: m for m in measurements_of(result)}
        return [*judged(found, lost), *([] if always else spared(way, found, lost))]


def judged(found: dict[Case, Measurement], lost: dict[Deployment, str]) -> Iterator[str]:
    """What must hold of every conversation: it ends as data, and nothing of it is nonsense."""
    for case in (*FIRST, LATER):
        if case not in found and case.deployment not in lost:
            yield f"{case.deployment.model}, batch {case.workload.batch_size}: no measurement"
    for m in found.values():
        held = json.dumps(m.to_dict(), allow_nan=False)
        if "abcdefghijklmnopq" in held or ESCAPE.search(held):
            yield "a secret, or what steers a terminal, is kept"
        if m.status is Status.OK and any(not 0 < s.e2e_latency_s < 1e8 for s in m.samples if s.e2e_latency_s):
            yield "nonsense is ok"
        if m.status is Status.OK and any(s.e2e_latency_s == STALE_S for s in m.samples):
            yield "a result that nobody has asked for is taken for the next"
        if m.status is not Status.OK and not m.error:
            yield f"{m.status} without a reason"
        if len(m.error or "") > LONGEST_ERROR:
            yield f"an error of {len(m.error or '')} letters"


def spared(way: Way, found: dict[Case, Measurement], lost: dict[Deployment, str]) -> Iterator[str]:
    """What must be ok, since the worker misbehaves after its first start only: all but one case, and what is later."""
    failed = [f"{m.status}: {m.error}" for m in found.values() if m.status is not Status.OK]
    if LATER.deployment in lost or (LATER in found and found[LATER].status is not Status.OK):
        yield f"the later deployment is not measured: {lost.get(LATER.deployment)} {failed}"
    if way.at >= 2 and (lost or len(failed) > 1):
        yield f"it costs more than one case: {lost} {failed}"


def run(seed: int, seconds: float) -> list[Tally]:
    """Conversations, several at a time, until most of the time is over; then engines that misbehave."""
    rng, clock = random.Random(seed), Clock(seconds * 0.7)
    with tempfile.TemporaryDirectory() as name:
        talk = Conversations(Path(name))
        numbers = itertools.chain(
            rng.sample(range(len(talk.ways)), len(talk.ways)), itertools.count(rng.randrange(2**30))
        )
        before = peak_bytes()

        def lane(_: int) -> None:
            while clock:
                talk.hold(next(numbers))

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lane, range(THREADS)))
    talk.tally.memory_bytes = peak_bytes() - before
    if talk.tally.memory_bytes > MEMORY_BYTES:
        talk.tally.fail(f"{talk.tally.memory_bytes / 2**20:.0f} MiB of memory more than before")
    return [talk.tally, engines(rng, Clock(seconds * 0.3))]


def engines(rng: random.Random, clock: Clock) -> Tally:
    """Real workers whose engine misbehaves, while loading or in a run: nothing of it runs on, no file of it stays."""
    tally, both = Tally("misbehaving engine"), [(way, loading) for way in ENGINE_WAYS for loading in (False, True)]
    turns = itertools.cycle(rng.sample(both, len(both)))

    def lane(number: int) -> None:
        while clock or number < 1:
            engine(f"{os.getpid()}-engine-{number}", *next(turns), tally)
            number += ENGINES_AT_ONCE

    with ThreadPoolExecutor(ENGINES_AT_ONCE) as pool:
        list(pool.map(lane, range(ENGINES_AT_ONCE)))
    return tally


def engine(word: str, way: str, loading: bool, tally: Tally) -> None:
    """One engine that misbehaves in one of two cases, or while it loads."""
    what, began = f"{way} {'while loading' if loading else 'in a run'}", time.monotonic()
    announce(f"engine: {what}")
    faults = engine_faults(word, way, loading, ENGINE_TIMEOUT_S)
    if any("time limit" in fault for fault in faults):  # a loaded machine may be why
        faults = engine_faults(f"{word}-again", way, loading, ENGINE_TIMEOUT_S * 5)
    for fault in faults:
        tally.fail(f"{what}: {fault}")
    tally.tried += 1
    tally.ways.add(what)
    tally.took(time.monotonic() - began)


def engine_faults(word: str, way: str, loading: bool, timeout_s: float) -> list[str]:
    """What is wrong with what comes of it."""
    faults: list[str] = []
    paths = [str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory() as folder:
        environment = {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": folder, MARKER: word}
        launch = Launch(environment=environment, memory_limit_bytes=2**29)
        policy = Policy(warmup=0, min_repeats=1, max_repeats=2)
        settings = RunSettings(policy, timeout_s=timeout_s, load_timeout_s=timeout_s, launch=launch)
        options = FrozenMap({"fill": True, "load": way} if loading else {"fill": True})
        deployment = Deployment("dummy", "toy", engine_options=options)
        asks = FrozenMap({} if loading else {"do": way})
        work = [Workload(4, 2, batch_size=1, options=asks), Workload(4, 2, batch_size=2)]
        cases = [Case(deployment, item) for item in work]
        try:
            came = [m for result in measure_deployment(cases, settings, {}) for m in measurements_of(result)]
            found = {m.case: m for m in came}
            if set(found) != set(cases):
                faults.append(f"{len(found)} of 2 cases have a measurement")
            elif not loading and found[cases[1]].status is not Status.OK and way != "hold":
                faults.append(f"the case after it is {found[cases[1]].status}: {found[cases[1]].error}")
        except EngineError as error:
            if not loading:
                faults.append(f"it ends the whole run: {error}")
        except Exception as error:
            tally = Tally("")
            tally.fault(error, "raises")
            faults += tally.failed
        if left := wait_until_gone(partial(family, word)):
            faults.append(f"runs on: {told(left)}")
            end(left)
        if kept := sorted(path.name for path in Path(folder).iterdir()):
            faults.append(f"temporary files stay: {kept}")
    return faults


def repeat(words: list[str]) -> list[Tally]:
    """The conversation of a number once more."""
    with tempfile.TemporaryDirectory() as name:
        talk = Conversations(Path(name))
        talk.hold(int(words[0]))
        return [talk.tally]
