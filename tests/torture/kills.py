"""Random kills of runs, their workers, keepers and descendants, several at once: nothing saved is lost, nothing is
measured twice, nothing runs on, and no temporary file stays once another run has ended. Where the keeper and the run
are both killed, processes that have escaped may run until the next one starts."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from guard import announce
from processes import MARKER, children, end, family, told, wait_until_gone
from tally import Clock, Tally
from warm import Forks, WarmRun

from fewmark.engines.worker.keeper import descendants
from fewmark.store import open_store

PLUGIN = Path(__file__).parents[1] / "runner" / "plugin"
LANES: Final = 3  # folders, each with runs and kills of its own, at the same time
SUITE = """deployments: [{engine: dummy, model: toy, engine_options: {pause_s: 0.002, fill: true, load: escape}}]
cells: [{grid: {input_tokens: 8, output_tokens: [2, 3, 4, 5], batch_size: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}}]
"""
N_CASES: Final = 40
NUMBERS = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSEGV]
LAST_S: Final = 300.0  # for a run that nobody kills, on whatever machine


HAS_CHILDREN: Final = Path(f"/proc/self/task/{os.getpid()}/children").exists()
below_of: Final = children if HAS_CHILDREN else descendants
FRESH: Final = 0.15  # of the runs start an interpreter of their own, and may be killed while it starts


def start(
    folder: Path,
    word: str,
    store: str = "s.db",
    stderr: Path | None = None,
    more: Sequence[str] = (),
    forks: Forks | None = None,
) -> subprocess.Popen[bytes] | WarmRun:
    """A run of the suite whose processes bear the word; `stderr` is a file for what it says."""
    words = ["run", "suite.yaml", "--store", store, "--quiet", "--no-drift-check", *more]
    own = {"TMPDIR": str(folder / "tmp"), MARKER: word}
    if forks is not None:
        return forks.start(words, folder, own, stderr)
    environment = {**os.environ, **own, "PYTHONPATH": os.pathsep.join(paths())}
    with Path(os.devnull if stderr is None else stderr).open("wb") as said:
        command = [sys.executable, "-m", "fewmark", *words]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=said)


def paths() -> list[str]:
    """Where a run imports from: the tests' engine as well."""
    return [str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]


def stored(store: str | Path) -> Counter[str]:
    """How often each case has been measured."""
    if isinstance(store, Path) and not store.exists():
        return Counter()
    with open_store(store) as opened:
        return Counter(m.case.case_id for m in opened.measurements() if m.status == "ok")


class Lane:
    """One folder: one run or two on its store, killed somewhere, again and again."""

    def __init__(self, number: int, seed: int, clock: Clock, forks: Forks) -> None:
        self.number, self.rng, self.clock, self.forks = number, random.Random(seed), clock, forks
        self.tally = Tally("kill (run, worker, keeper, descendant)")
        self.before: Counter[str] = Counter()
        self.rounds = 0
        self.kept: list[str] = []

    def run(self) -> None:
        """Rounds until the time is over; then a run that nobody kills, which finds nothing left."""
        try:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
                self.folder = Path(name)
                (self.folder / "tmp").mkdir()
                (self.folder / "suite.yaml").write_text(SUITE)
                while self.clock:
                    self.round()
                self.whole_run("last")
                if kept := self.left_behind():
                    self.tally.fail(f"lane {self.number}: temporary files stay at the end: {kept}")
        except Exception as error:
            self.tally.fault(error, f"lane {self.number}, round {self.rounds}")

    def round(self) -> None:
        """One or two runs at once; some of their processes are killed, then what is left of the runs."""
        self.rounds += 1
        word, rng = f"{os.getpid()}-{self.number}-{self.rounds}", self.rng
        announce(f"kills: lane {self.number}, round {self.rounds}")
        runs = [
            start(self.folder, word, forks=None if rng.random() < FRESH else self.forks)
            for _ in range(rng.choice([1, 1, 1, 2]))
        ]
        began, done = time.monotonic(), []
        for _ in range(rng.randint(1, 8)):
            if rng.random() < 0.85:  # most of the time there is a worker already: starting takes the longest
                self.wait_for_a_worker(runs)
            time.sleep(rng.choice([0.0, rng.uniform(0, 0.05), rng.uniform(0, 0.3), rng.uniform(0, 1)]))
            living = [run.pid for run in runs if run.poll() is None]
            if not living:
                break
            below = [pid for run in living for pid in descendants(run)]
            victims = self.victims(living, below)
            number = rng.choice(NUMBERS)
            what = [self.kind(pid, living) for pid in victims]
            for pid in victims:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            self.tally.tried += len(victims)
            self.tally.ways |= {f"{signal.Signals(number).name} {kind}" for kind in what}
            done.append(f"{time.monotonic() - began:.2f} s {signal.Signals(number).name} {' + '.join(sorted(what))}")
        if rng.random() < 0.7:
            for run in runs:
                if run.poll() is None:
                    run.kill()
                    self.tally.tried += 1
                    done.append(f"{time.monotonic() - began:.2f} s SIGKILL run")
        for run in runs:
            try:
                run.wait(LAST_S)
            except subprocess.TimeoutExpired:
                self.tally.fail(f"a run does not end: {told([run.pid, *descendants(run.pid)])}; done: {done}")
                run.kill()
        self.check(word, f"lane {self.number}, round {self.rounds}: {'; '.join(done)}", len(runs))

    def wait_for_a_worker(self, runs: Sequence[subprocess.Popen[bytes] | WarmRun]) -> None:
        """Wait until one of the runs has started something, or has ended."""
        deadline = time.monotonic() + LAST_S
        while time.monotonic() < deadline:
            living = [run.pid for run in runs if run.poll() is None]
            if len(living) < len(runs) or any(map(below_of, living)):
                return
            time.sleep(0.02)

    def victims(self, living: list[int], below: list[int]) -> list[int]:
        """Whom to kill at once: mostly one, now and then several or all."""
        rng, everyone = self.rng, [*living, *below]
        chance = rng.random()
        if chance < 0.55 and below:
            return [rng.choice(below)]
        if chance < 0.7:
            return [rng.choice(living)]
        return rng.sample(everyone, len(everyone) if chance < 0.8 else rng.randint(1, min(3, len(everyone))))

    def kind(self, pid: int, runs: list[int]) -> str:
        """What a process is: a run, a keeper, a worker, or what a worker has started."""
        if pid in runs:
            return "run"
        with contextlib.suppress(OSError):
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if parent in runs:
                return "keeper"
            grand = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
            return "worker" if grand in runs else "descendant"
        return "descendant"

    def check(self, word: str, what: str, n_runs: int) -> None:
        """What must hold after a round."""
        began = time.monotonic()
        deadline = began + (3 if "keeper" in what else 15)
        while (left := family(word)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:  # a keeper and its run were both killed: the next run ends what has escaped
            self.whole_run(f"{word}-next")
            left = wait_until_gone(lambda: family(word))
        if left:
            self.tally.fail(f"processes run on: {told(left)}; done: {what}")
            end(left)
        self.tally.took(time.monotonic() - began)
        after = stored(self.folder / "s.db")
        if lost := [case for case, count in self.before.items() if after[case] < count]:
            self.tally.fail(f"{len(lost)} measurements are lost; done: {what}")
        if twice := [case for case, count in after.items() if count > 1]:
            self.tally.fail(f"measured twice: {twice}; done: {what}")
        self.before = after
        if len(after) == N_CASES or (self.rng.random() < 0.05 and n_runs == 1):
            for path in self.folder.glob("s.db*"):
                path.unlink()
            self.before = Counter()

    def whole_run(self, word: str) -> None:
        """A run that nobody kills: it ends, and has measured what was missing."""
        said = self.folder / "said"
        run = start(self.folder, word, stderr=said, more=["--retry", "failed"], forks=self.forks)
        try:
            code = run.wait(LAST_S)
        except subprocess.TimeoutExpired:
            self.tally.fail(f"a run that nobody killed does not end: {told([run.pid, *descendants(run.pid)])}")
            run.kill()
            return
        if code != 0:
            self.tally.fail(f"a run that nobody killed ends with {code}: {said.read_text(errors='replace')[-300:]}")
        held = stored(self.folder / "s.db")
        if len(held) != N_CASES or set(held.values()) != {1}:
            self.tally.fail(f"after a whole run there are {len(held)} of {N_CASES} cases, {held.total()} measurements")

    def left_behind(self) -> list[str]:
        """What is left in the folder for temporary files, given a while: what ended last is still ending."""
        deadline = time.monotonic() + 30
        while (kept := sorted(path.name for path in (self.folder / "tmp").iterdir())) and time.monotonic() < deadline:
            time.sleep(0.1)
        return kept


def run(seed: int, seconds: float) -> list[Tally]:
    """Lanes side by side until the time is over."""
    rng, clock, total = random.Random(seed), Clock(seconds), Tally("kill (run, worker, keeper, descendant)")
    with contextlib.closing(Forks(paths())) as forks:
        lanes = [Lane(number, rng.randrange(2**32), clock, forks) for number in range(LANES)]
        threads = [threading.Thread(target=lane.run) for lane in lanes]
        for thread in threads:
            thread.start()
        for lane, thread in zip(lanes, threads, strict=True):
            thread.join()
            total.add(lane.tally)
    return [total]
