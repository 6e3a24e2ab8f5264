"""How often `fewmark compare` is right, on simulated folders of runs, beside Welch's t-test cell by cell.

    python benchmarks/compare.py [--draws 1000] [--json OUT]

A folder has 12 cells; each run's throughput is log-normal about its cell's. B's cells are all slower by the same
change, or one of them alone is. A cell is PASS, FAIL or INCONCLUSIVE by its 90% interval; Welch's test knows only the
cell's own runs. At a change of the threshold itself PASS and FAIL are both wrong. "Over all" is the verdict that
the exit code follows; "every" the one with `--every-cell`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from fewmark.decide.compare import compare

CELLS = 12
ALPHA = 0.05
VERDICTS = ("PASS", "FAIL", "INCONCLUSIVE")


@dataclass(frozen=True)
class Scenario:
    """Runs a side, B's rate beside A's, and how: in one cell alone or all; how much cells differ in noise (log sd)."""

    runs: int
    change: float
    one_cell: bool = False
    noise_spread: float = 0.0


SCENARIOS = (
    *(Scenario(runs, change) for runs in (2, 3, 5) for change in (1.0, 0.9, 0.85, 0.8)),
    *(Scenario(3, change, one_cell=True) for change in (0.9, 0.85, 0.8)),
    *(Scenario(runs, change, noise_spread=0.5) for runs in (2, 3) for change in (1.0, 0.9, 0.8)),
    *(Scenario(1, change) for change in (1.0, 0.9, 0.8)),
)


def welch(a: np.ndarray, b: np.ndarray, limit: float) -> str:
    """The verdict from one cell's log rates alone; a single run tells nothing."""
    if min(len(a), len(b)) < 2:
        return "INCONCLUSIVE"
    part_a, part_b = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    df = (part_a + part_b) ** 2 / (part_a**2 / (len(a) - 1) + part_b**2 / (len(b) - 1))
    half = stats.t.isf(ALPHA, df) * np.sqrt(part_a + part_b)
    slower = a.mean() - b.mean()
    return "FAIL" if slower - half > limit else "PASS" if slower + half < limit else "INCONCLUSIVE"


def simulate(scenario: Scenario, draws: int, cv: float, threshold: float, seed: int) -> dict[str, dict[str, float]]:
    """Shares of each verdict: of the changed cells by `compare` and by Welch, over all, and with every cell asked."""
    rng = np.random.default_rng([seed, SCENARIOS.index(scenario)])
    found = {name: Counter[str]() for name in ("cell", "welch", "over_all", "every")}
    cell = np.repeat(np.arange(CELLS), scenario.runs)
    change = np.zeros(CELLS)
    changed = slice(0, 1 if scenario.one_cell else CELLS)
    change[changed] = np.log(scenario.change)
    for _ in range(draws):
        level = rng.normal(5, 1, CELLS)
        sd = cv * np.exp(scenario.noise_spread * rng.normal(size=CELLS))
        a = level[cell] + sd[cell] * rng.normal(size=len(cell))
        b = (level + change)[cell] + sd[cell] * rng.normal(size=len(cell))
        for name, every in (("over_all", False), ("every", True)):
            result = compare(
                np.exp(a), cell, np.exp(b), cell, higher_is_better=True, threshold=threshold, every_cell=every
            )
            found[name][result.verdict] += 1
        found["cell"].update(result.cells.verdicts[changed])
        limit = -np.log(1 - threshold)
        found["welch"].update(welch(a[cell == i], b[cell == i], limit) for i in range(CELLS)[changed])
    return {name: {kind: of[kind] / of.total() for kind in VERDICTS} for name, of in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--cv", type=float, default=0.04)
    parser.add_argument("--threshold", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"threshold {options.threshold:.0%}, CV {options.cv:.0%}, {CELLS} cells; PASS / FAIL, the rest INCONCLUSIVE")
    print(f"{'runs':>4}  {'B / A':>5}  {'':26}{'a cell':>15}{'Welch':>15}{'over all':>15}{'every':>15}")
    rows = []
    for scenario in SCENARIOS:
        found = simulate(scenario, options.draws, options.cv, options.threshold, options.seed)
        rows.append({**asdict(scenario), **found})
        kind = "one cell alone" if scenario.one_cell else "cells unequally noisy" if scenario.noise_spread else ""
        shares = "".join(f"{of['PASS']:>8.1%}{of['FAIL']:>7.1%}" for of in found.values())
        print(f"{scenario.runs:>4}  {scenario.change:>5g}  {kind:26}{shares}")
    if options.json:
        document = {"threshold": options.threshold, "cv": options.cv, "cells": CELLS, "draws": options.draws}
        options.json.write_text(json.dumps({**document, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
