"""Tortures fewmark for a time, and prints one table: what was tried, how often, what failed.

python tests/torture/run.py --seconds 300 [--seed N] [--parts kills,inputs] [--json FILE]
python tests/torture/run.py --repeat inputs:suite:12345   # one try once more, as a failure names it
python tests/torture/run.py --sum FILE…                   # the table of several runs, as Markdown
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from guard import PROGRESS
from tally import Tally

# Two rows of parts side by side, each for the whole time: those that mostly wait for processes and servers, and those
# that compute. The numbers are shares of the time of their row.
ROWS: Final = (
    {"kills": 0.32, "workers": 0.34, "database": 0.18, "memory": 0.16},
    {"inputs": 0.5, "stores": 0.18, "structures": 0.1, "fuzz": 0.12, "disks": 0.1},
)
PARTS: Final = {name: share for row in ROWS for name, share in row.items()}
# These make and remove many small files, of which none has to outlive the machine.
IN_MEMORY: Final = ("kills", "workers", "inputs", "structures", "stores", "disks")
ROOM_BYTES: Final = 2**29
GRACE_S: Final = 420.0  # for a part to end what it has begun, on a loaded machine


def part(name: str, seed: int, seconds: float, answer: Connection) -> None:
    """One part, in a process of its own."""
    if name in IN_MEMORY and (folder := memory_folder()) is not None:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
    os.environ[PROGRESS] = str(progress_of(name))
    answer.send(importlib.import_module(name).run(seed, seconds))


def progress_of(name: str) -> Path:
    """Where a part says what it tries now."""
    return Path(os.environ[PROGRESS]) / name


def memory_folder() -> str | None:
    """Where files are made in memory, if there is such a place with enough room."""
    place = "/dev/shm"
    if not os.access(place, os.W_OK):
        return None
    left = os.statvfs(place)
    return place if left.f_bavail * left.f_frsize >= ROOM_BYTES else None


def torture(names: list[str], seed: int, seconds: float, file: str | None = None) -> list[Tally]:
    """Run the rows of parts side by side."""
    found: dict[str, list[Tally]] = {}
    keeping = threading.Lock()

    def one_row(row: dict[str, float]) -> None:
        deadline, shares = time.monotonic() + seconds, dict(row)
        for name, share in row.items():  # what one takes too long, as it may on a loaded machine, the later ones lack
            began = time.monotonic()
            own = (deadline - began) * share / sum(shares.values())
            tallies = whole_part(name, seed, max(own, seconds * share / sum(row.values()) / 2))
            del shares[name]
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
            with keeping:
                found[name] = tallies
                if file is not None:
                    keep(file, seed, found)

    rows = [{name: share for name, share in row.items() if name in names} for row in ROWS]
    threads = [threading.Thread(target=one_row, args=(row,)) for row in rows if row]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [tally for name in names for tally in found[name]]


def whole_part(name: str, seed: int, seconds: float) -> list[Tally]:
    """A part until its time is over; where its process is gone, another with another seed for the rest of it."""
    tallies: list[Tally] = []
    began, tries = time.monotonic(), 0
    while (left := seconds - (time.monotonic() - began)) > min(seconds / 4, 20) or not tries:
        found = once(name, seed + tries, left)
        tallies += found
        tries += 1
        if not any(tally.what == name for tally in found):
            break
    return tallies


def keep(file: str, seed: int, found: dict[str, list[Tally]]) -> None:
    """Write what there is so far: a run may be ended at any time."""
    rows = [{**asdict(tally), "ways": sorted(tally.ways)} for tallies in found.values() for tally in tallies]
    Path(file).write_text(json.dumps({"seed": seed, "rows": rows}), encoding="utf-8")


def once(name: str, seed: int, seconds: float) -> list[Tally]:
    """The rows of a part; or, where its process is gone or hangs, one that says at what."""
    doing = progress_of(name)
    doing.write_text("its beginning")
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe(duplex=False)
    process = context.Process(target=part, args=(name, seed, seconds, its))
    process.start()
    its.close()
    try:
        if ours.poll(seconds + GRACE_S):
            found: list[Tally] = ours.recv()
            return found
        why = "hangs"
    except EOFError:
        process.join()
        why = f"ended with {process.exitcode}"
    finally:
        process.kill()
        process.join()
    last = doing.read_text(encoding="utf-8", errors="replace")
    return [Tally(name, 1, [f"seed {seed}: the part itself {why}, at [{last}]"], 1)]


def show(tallies: list[Tally]) -> None:
    """The table for a terminal, then what failed and what was skipped."""
    width = max(len(tally.what) for tally in tallies)
    print(f"\n{'what':<{width}}  {'tried':>8}  {'ways':>6}  {'failed':>6}  {'slowest':>8}  {'memory':>9}")
    for tally in tallies:
        numbers = f"{tally.tried:>8}  {len(tally.ways) or '':>6}  {tally.n_failed:>6}"
        memory = f"{tally.memory_bytes / 2**20:>5.0f} MiB" if tally.memory_bytes else ""
        print(f"{tally.what:<{width}}  {numbers}  {tally.slowest_s:>6.1f} s  {memory}")
    for tally in tallies:
        if tally.skipped:
            print(f"{tally.what}: skipped: {tally.skipped}")
        for text in tally.failed:
            print(f"{tally.what}: {text}")


def summed(paths: list[str]) -> list[Tally]:
    """The rows of several runs, those of one kind together."""
    total: dict[str, Tally] = {}
    for path in paths:
        for row in json.loads(Path(path).read_text(encoding="utf-8"))["rows"]:
            tally = Tally(**{**row, "ways": set(row["ways"])})
            total.setdefault(tally.what, Tally(tally.what)).add(tally)
    return list(total.values())


def markdown(tallies: list[Tally]) -> None:
    """The table for a page."""
    print("| what | tried | ways | failed | slowest | memory |\n|---|---:|---:|---:|---:|---:|")
    every = Tally("mutated inputs, all together")
    for tally in tallies:
        if tally.what.startswith("mutated input"):
            every.add(tally)
    for tally in [*tallies, every]:
        memory = f"{tally.memory_bytes / 2**20:.0f} MiB" if tally.memory_bytes else ""
        ways = f"{len(tally.ways):,}" if tally.ways else ""
        print(f"| {tally.what} | {tally.tried:,} | {ways} | {tally.n_failed} | {tally.slowest_s:.1f} s | {memory} |")


def main() -> int:
    """Exit code 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--json", metavar="FILE", help="write the rows there as well")
    parser.add_argument("--repeat", metavar="PART:WORDS", help="one try once more")
    parser.add_argument("--sum", nargs="+", metavar="FILE", help="add up what --json has written")
    options = parser.parse_args()
    if options.sum:
        tallies = summed(options.sum)
        markdown(tallies)
        return 1 if any(tally.n_failed for tally in tallies) else 0
    if options.repeat:
        name, *words = options.repeat.split(":")
        tallies = importlib.import_module(name).repeat(words)
    else:
        print(f"seed {options.seed}", flush=True)
        with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
            os.environ[PROGRESS] = folder
            tallies = torture(options.parts.split(","), options.seed, options.seconds, options.json)
    show(tallies)
    return 1 if any(tally.n_failed for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
