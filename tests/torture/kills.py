"""Random kills of a run, its worker and the keeper: nothing saved is lost, nothing is measured twice, nothing
runs on, and no temporary file stays once another run has ended. Where the keeper and the run are both killed, processes
that have escaped may run until the next one starts."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tally import Clock, Tally

from fewmark.engines.worker.keeper import descendants
from fewmark.store import open_store

PLUGIN = Path(__file__).parents[1] / "runner" / "plugin"
SUITE = """deployments: [{engine: dummy, model: toy, engine_options: {pause_s: 0.002, fill: true, load: escape}}]
cells: [{grid: {input_tokens: 8, output_tokens: [2, 3, 4], batch_size: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}}]
"""
NUMBERS = [signal.SIGKILL, signal.SIGTERM]
MARKER = "FEWMARK_TORTURE"


def start(folder: Path, word: str) -> subprocess.Popen[bytes]:
    paths = [str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(folder / "tmp"), MARKER: word}
    command = [sys.executable, "-m", "fewmark", "run", "suite.yaml", "--store", "s.db", "--quiet", "--no-drift-check"]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def family(word: str) -> list[int]:
    """Every process that came of a run, wherever it has gone, by the variable that it inherited."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"{MARKER}={word}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def parent_of(pid: int) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def stored(folder: Path) -> Counter[str]:
    if not (folder / "s.db").exists():
        return Counter()
    with open_store(folder / "s.db") as store:
        return Counter(m.case.case_id for m in store.measurements() if m.status == "ok")


def run(seed: int, seconds: float) -> list[Tally]:
    """One run after the other, each killed somewhere, until the time is over."""
    rng, clock, tally = random.Random(seed), Clock(seconds), Tally("kill (run, worker, keeper, descendant)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        (folder / "suite.yaml").write_text(SUITE)
        before: Counter[str] = Counter()
        while clock:
            word = f"{os.getpid()}-{tally.tried}"
            process, both = start(folder, word), False
            for _ in range(rng.randint(1, 3)):
                time.sleep(rng.choice([rng.uniform(0, 1), rng.uniform(1, 4)]))
                below = descendants(process.pid)
                if process.poll() is not None:
                    break
                tally.tried += 1
                victim, number = rng.choice([process.pid, process.pid, *below]), rng.choice(NUMBERS)
                both |= number == signal.SIGKILL and parent_of(victim) == process.pid  # the keeper
                with contextlib.suppress(OSError):
                    os.kill(victim, number)
            if process.poll() is None:
                tally.tried += 1
                process.kill()
            both &= process.wait() == -signal.SIGKILL
            if both:
                start(folder, "next").wait()
            deadline = time.monotonic() + 20
            while (left := family(word)) and time.monotonic() < deadline:
                time.sleep(0.05)
            if left:
                tally.fail(f"processes run on: {left}")
                for pid in left:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
            after = stored(folder)
            if any(after[case] < count for case, count in before.items()):
                tally.fail("a measurement is lost")
            if twice := [case for case, count in after.items() if count > 1]:
                tally.fail(f"measured twice: {twice}")
            before = after
            if len(after) == 30:
                (folder / "s.db").unlink()
                before = Counter()
        last = start(folder, "last")
        last.wait()
        if kept := sorted(path.name for path in (folder / "tmp").iterdir()):
            tally.fail(f"temporary files stay: {kept}")
    return [tally]
