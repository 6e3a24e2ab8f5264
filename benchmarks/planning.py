"""How much time planning saves, replayed on recorded data: the adaptive plan beside every other strategy, in one run.

    python benchmarks/planning.py [--data TABLE] [--model auto] [--deployments N] [--seed S] [--json OUT]

Each recorded deployment in turn is the new one. With relatives, all others are known: hyperparameters are learned once
a fold, without the fold's deployments, whose cells are then taken in, all but the new one's. Each cell is charged four
times its latency (one warm-up, three repeats), each deployment one load of 10 s. What is not measured is predicted by
the same model for every strategy. "stopped" figures end by the plan's own estimate, never by an oracle. The bars come
last, each with its verdict; `--deployments 18` needs one fit and a few minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewmark import datasets
from fewmark.evaluation.meta_metrics import Charges
from fewmark.models.base import Model
from fewmark.models.registry import make_model
from fewmark.planning.assess import BUDGETS, Assessment, Contender, assess, subjects
from fewmark.planning.strategies import strategy_names
from fewmark.tables.repeats import measured_cells
from fewmark.verbs.plan import NO_MODEL
from fewmark.verbs.source import read_source

TARGET = "throughput_tok_s"
ADAPTIVE = "adaptive"
MEDIAN, STRICT, MEAN = (Contender(ADAPTIVE, *rest) for rest in ((0.034,), (0.02,), (0.034, True)))
SHOWN = (0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.5)
COMPARED = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16)  # beyond, half of a grid is measured by anyone


@dataclass(frozen=True)
class Bar:
    """One claim: what was measured, what it must be at least (or, for errors, below)."""

    claim: str
    measured: float
    needed: float

    @property
    def met(self) -> bool:
        """Whether it holds."""
        return self.measured >= self.needed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="llm-inference-bench", help="a packaged dataset or a table")
    parser.add_argument("--model", default="auto")
    parser.add_argument("--max-learning-cells", type=int, help="of auto: learn hyperparameters from at most this many")
    parser.add_argument("--deployments", type=int, help="replay only this many, drawn by the seed")
    parser.add_argument(
        "--minimum", type=int, nargs=3, default=(16, 4, 4), metavar=("CELLS", "LENGTHS", "LOADS"),
        help="what a deployment must have to be replayed (16 4 4, as in the evaluation protocols)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    known = measured_cells(read_source(arguments.data), TARGET)
    print(f"{arguments.data}: {len(known)} cells; model {arguments.model}; seed {arguments.seed}", flush=True)
    parameters = {} if arguments.max_learning_cells is None else {"max_learning_cells": arguments.max_learning_cells}

    def make() -> Model:
        return make_model(arguments.model, target=TARGET, random_state=arguments.seed, **parameters)

    out: dict[str, Any] = {"data": arguments.data, "model": arguments.model, "packaged": datasets.names(), "bars": []}
    contenders = [*(Contender(name) for name in strategy_names()), MEDIAN, STRICT, MEAN]
    for relatives in (False, True) if arguments.model != NO_MODEL else (False,):
        start = time.process_time()
        found = subjects(
            known, TARGET, make if relatives else None, relatives=relatives, minimum=tuple(arguments.minimum),
            at_most=arguments.deployments, random_state=arguments.seed,
            progress=lambda text: print(f"  {text}", flush=True),
        )  # fmt: skip
        result = assess(
            found, contenders, target=TARGET, relatives=relatives, charges=Charges(), random_state=arguments.seed
        )
        key = "with relatives" if relatives else "without relatives"
        out[key] = summarise(result)
        out[key]["cpu_s"] = time.process_time() - start
        show(key, result)
        print(f"{out[key]['cpu_s']:.0f} s of processor time", flush=True)
        out["bars"] += [{**asdict(bar), "met": bar.met} for bar in bars(result)]
    print("\nbars")
    for bar in out["bars"]:
        print(f"  {'holds' if bar['met'] else 'FAILS'}  {bar['measured']:7.2f} of {bar['needed']:5.2f}  {bar['claim']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(out, indent=2, allow_nan=False) + "\n")


def bars(result: Assessment) -> list[Bar]:
    """What must hold of a replay."""
    with_relatives = "with relatives: " if result.relatives else "without relatives: "
    gain = {c.name: result.summary(c.name) for c in (MEDIAN, STRICT, MEAN)}
    beaten = [row["ratio"] for row in equal_cost(result)]
    out = [
        Bar("at 96.6% accuracy, times less time (median)", gain[MEDIAN.name]["speed_up"], 25 if result.relatives else 5)
    ]
    if result.relatives:
        out += [
            Bar("at 98% accuracy, times less time (median)", gain[STRICT.name]["speed_up"], 12),
            Bar("at 96.6% mean accuracy, share with 8 times less", share_with_8x(result), 2 / 3),
            *(Bar(f"{name}: share where the stop is right", row["right"], 0.85) for name, row in gain.items()),
        ]
    if beaten:  # not where the first cells take the longest of these shares
        out.append(Bar("at equal cost, the next best error over its own (worst share of time)", min(beaten), 1))
    return [Bar(with_relatives + bar.claim, bar.measured, bar.needed) for bar in out]


def share_with_8x(result: Assessment) -> float:
    """The share of deployments that took at most an eighth of the time for 96.6% mean accuracy."""
    return float(np.mean([(run.account.speed_up or 0) >= 8 for run in result.replays[MEAN.name]]))


def equal_cost(result: Assessment) -> list[dict[str, Any]]:
    """At each share of the grid's time: the adaptive plan's error, the best other one's, who it is, and their ratio."""
    names = [name for name in result.replays if name == result.contenders[name].strategy]
    frontiers = {name: {row["share_of_time"]: row["median_ape"] for row in result.frontier(name)} for name in names}
    mine = frontiers.pop(ADAPTIVE)
    out = []
    for share in COMPARED:
        others = {name: rows[share] for name, rows in frontiers.items() if rows[share] is not None}
        if mine[share] is None or not others:
            continue
        best = min(others, key=lambda name: others[name])
        ratio = others[best] / mine[share] if mine[share] > 0 else 1.0
        out.append(
            {"share_of_time": share, "adaptive": mine[share], "best": best, "other": others[best], "ratio": ratio}
        )
    return out


def summarise(result: Assessment) -> dict[str, Any]:
    """Figures for the JSON."""
    return {
        "deployments": len(result.subjects),
        "strategies": {name: {**result.summary(name), "frontier": result.frontier(name)} for name in result.replays},
        "pareto": result.pareto(),
        "mean_share_with_8x": share_with_8x(result),
        "equal_cost": equal_cost(result),
    }


def show(title: str, result: Assessment) -> None:
    """The table."""
    print(f"\n{title}: {len(result.subjects)} deployments; medians over them")
    print(f"{'stopped by its own estimate':32} {'gain':>6} {'accuracy':>9} {'mean':>7} {'right':>6} {'cells':>6}")
    for contender in (MEDIAN, STRICT, MEAN):
        row = result.summary(contender.name)
        print(
            f"{contender.name:32} {row['speed_up']:5.1f}× {row['relative_accuracy']:9.1%} "
            f"{row['relative_accuracy_mean']:7.1%} {row['right']:6.0%} {row['n_cells']:6.0f}"
        )
    print(f"share of deployments with at least 8× at 96.6% mean accuracy: {share_with_8x(result):.0%}")
    names = [name for name in result.replays if name == result.contenders[name].strategy]
    shown = [i for i, budget in enumerate(BUDGETS) if budget in SHOWN]
    print(f"\n{'median APE at a share of time':32}" + "".join(f"{BUDGETS[i]:8.0%}" for i in shown) + "  96.6% at")
    for name in names:
        frontier, row = result.frontier(name), result.summary(name)
        errors = [frontier[i]["median_ape"] for i in shown]
        cells = "".join("       -" if error is None else f"{error:8.1%}" for error in errors)
        print(f"{name:32}{cells} {row['oracle_speed_up_96.6']:8.1f}×")
    for row in equal_cost(result):
        print(
            f"at {row['share_of_time']:.0%} of the time: adaptive {row['adaptive']:.2%}, "
            f"next best {row['other']:.2%} ({row['best']})"
        )


if __name__ == "__main__":
    main()
