"""Tortures fewmark for a time, and prints one table: what was tried, how often, what failed.

python tests/torture/run.py --seconds 300 [--seed N] [--parts kills,inputs]
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time

from tally import Tally

PARTS = {"inputs": 0.35, "kills": 0.25, "workers": 0.2, "stores": 0.12, "disks": 0.08}  # shares of the time


def part(name: str, seed: int, seconds: float) -> list[Tally]:
    """One part, in a process of its own."""
    module = __import__(name)
    return module.run(seed, seconds)  # type: ignore[no-any-return]


def main() -> int:
    """Run the parts one after the other. Exit code 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--parts", default=",".join(PARTS))
    options = parser.parse_args()
    chosen = {name: PARTS[name] for name in options.parts.split(",")}
    print(f"seed {options.seed}", flush=True)
    tallies: list[Tally] = []
    for name, share in chosen.items():
        seconds, began = options.seconds * share / sum(chosen.values()), time.monotonic()
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            try:
                tallies += pool.apply_async(part, (name, options.seed, seconds)).get(seconds + 180)
            except Exception as error:
                tallies.append(Tally(name, 1, [f"the part itself fell over: {type(error).__name__}: {error}"], 1))
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    width = max(len(tally.what) for tally in tallies)
    print(f"\n{'what':<{width}}  {'tried':>8}  {'failed':>6}  {'slowest':>8}")
    for tally in tallies:
        print(f"{tally.what:<{width}}  {tally.tried:>8}  {tally.n_failed:>6}  {tally.slowest_s:>6.1f} s")
    for tally in tallies:
        for text in tally.failed:
            print(f"{tally.what}: {text}")
    return 1 if any(tally.n_failed for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
