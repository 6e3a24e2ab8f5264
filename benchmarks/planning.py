"""How much time planning saves, replayed on recorded data: the adaptive plan beside every other strategy, in one run.

    python benchmarks/planning.py [--data TABLE] [--model auto] [--deployments N] [--json OUT]

Each recorded deployment in turn is the new one; five folds, so that no model ever saw it. Each cell is charged four
times its latency (one warm-up, three repeats), each deployment one load of 10 s. What is not measured is predicted by
the same model for every strategy. "stopped" figures end by the plan's own estimate.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from fewmark import datasets
from fewmark.evaluate.meta import Charges
from fewmark.models.base import Model
from fewmark.models.registry import make_model
from fewmark.planning.assess import BUDGETS, Assessment, Contender, assess, subjects
from fewmark.planning.known import measured_cells
from fewmark.planning.strategies import strategy_names
from fewmark.verbs.plan import NO_MODEL
from fewmark.verbs.source import read_source

TARGET = "throughput_tok_s"
MINIMUM = (16, 4, 4)  # cells, lengths, loads: eligible as in the evaluation protocols
MEDIAN, STRICT, MEAN = (Contender("adaptive", *rest) for rest in ((0.034,), (0.02,), (0.034, True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="llm-inference-bench", help="a packaged dataset or a table")
    parser.add_argument("--model", default="auto")
    parser.add_argument("--max-learning-cells", type=int, help="of auto: learn hyperparameters from at most this many")
    parser.add_argument("--deployments", type=int, help="replay only this many, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    known = measured_cells(read_source(arguments.data), TARGET)
    print(f"{arguments.data}: {len(known)} cells; model {arguments.model}", flush=True)
    parameters = {} if arguments.max_learning_cells is None else {"max_learning_cells": arguments.max_learning_cells}

    def make() -> Model:
        return make_model(arguments.model, target=TARGET, random_state=arguments.seed, **parameters)

    out: dict[str, Any] = {"data": arguments.data, "model": arguments.model, "packaged": datasets.names()}
    for relatives in (False, True) if arguments.model != NO_MODEL else (False,):
        start = time.perf_counter()
        found = subjects(
            known, TARGET, make if relatives else None, relatives=relatives, minimum=MINIMUM,
            random_state=arguments.seed, progress=lambda text: print(f"  {text}", flush=True),
        )  # fmt: skip
        if arguments.deployments is not None:
            rng = np.random.default_rng(arguments.seed)
            chosen = rng.permutation(len(found))[: arguments.deployments]
            found = [found[i] for i in sorted(chosen)]
        contenders = [*(Contender(name) for name in strategy_names()), MEDIAN, STRICT, MEAN]
        result = assess(
            found, contenders, target=TARGET, relatives=relatives, charges=Charges(), random_state=arguments.seed
        )
        key = "with relatives" if relatives else "without relatives"
        out[key] = summarise(result)
        out[key]["took_s"] = time.perf_counter() - start
        show(key, result)
    if arguments.json:
        arguments.json.write_text(json.dumps(out, indent=2, allow_nan=False) + "\n")


def summarise(result: Assessment) -> dict[str, Any]:
    """Figures for the JSON."""
    stopped = result.replays[MEAN.name]
    return {
        "deployments": len(result.subjects),
        "strategies": {name: {**result.summary(name), "frontier": result.frontier(name)} for name in result.replays},
        "pareto": result.pareto(),
        "mean_share_with_8x": float(np.mean([(run.account.speed_up or 0) >= 8 for run in stopped])),
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
    share = summarise(result)["mean_share_with_8x"]
    print(f"share of deployments with at least 8× at 96.6% mean accuracy: {share:.0%}")
    names = [name for name in result.replays if name == result.contenders[name].strategy]
    shown = [i for i, budget in enumerate(BUDGETS) if budget in (0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.5)]
    print(f"\n{'median APE at a share of time':32}" + "".join(f"{BUDGETS[i]:8.0%}" for i in shown) + "  96.6% at")
    for name in names:
        frontier, row = result.frontier(name), result.summary(name)
        errors = [frontier[i]["median_ape"] for i in shown]
        cells = "".join("       -" if error is None else f"{error:8.1%}" for error in errors)
        print(f"{name:32}{cells} {row['oracle_speed_up_96.6']:8.1f}×")


if __name__ == "__main__":
    main()
