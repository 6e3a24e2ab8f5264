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
import time
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from guard import PROGRESS, announce
from tally import Tally

# Shares of the time. Parts that need more than a CPU's time of their own (processes, servers) come first.
PARTS: Final = {
    "kills": 0.2,
    "workers": 0.18,
    "database": 0.12,
    "memory": 0.1,
    "inputs": 0.15,
    "fuzz": 0.06,
    "structures": 0.07,
    "stores": 0.06,
    "disks": 0.06,
}
GRACE_S: Final = 420.0  # for a part to end what it has begun, on a loaded machine


def part(name: str, seed: int, seconds: float, answer: Connection) -> None:
    """One part, in a process of its own."""
    answer.send(importlib.import_module(name).run(seed, seconds))


def torture(names: list[str], seed: int, seconds: float, file: str | None = None) -> list[Tally]:
    """Run the parts one after the other; one that is gone begins again, with another seed, for the rest of its time."""
    tallies: list[Tally] = []
    shares = {name: PARTS[name] for name in names}
    for name, share in shares.items():
        own, began, tries = seconds * share / sum(shares.values()), time.monotonic(), 0
        while (left := own - (time.monotonic() - began)) > min(own / 4, 20) or not tries:
            found = once(name, seed + tries, left)
            tallies += found
            tries += 1
            if not any(tally.what == name for tally in found):
                break
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        if file is not None:
            rows = [{**asdict(tally), "ways": sorted(tally.ways)} for tally in tallies]
            Path(file).write_text(json.dumps({"seed": seed, "rows": rows}), encoding="utf-8")
    return tallies


def once(name: str, seed: int, seconds: float) -> list[Tally]:
    """The rows of a part; or, where its process is gone or hangs, one that says at what."""
    announce(f"{name}: its beginning")
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
    doing = Path(os.environ[PROGRESS]).read_text(encoding="utf-8", errors="replace")
    return [Tally(name, 1, [f"seed {seed}: the part itself {why}, at [{doing}]"], 1)]


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
    for tally in tallies:
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
        with tempfile.TemporaryDirectory() as folder:
            os.environ[PROGRESS] = str(Path(folder) / "progress")
            tallies = torture(options.parts.split(","), options.seed, options.seconds, options.json)
    show(tallies)
    return 1 if any(tally.n_failed for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
