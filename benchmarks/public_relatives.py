"""What public measurements give a campaign on a store with nothing in it: replays with them and without.

    python benchmarks/public_relatives.py [--deployments N] [--seed SEED] [--json OUT]

Each packaged deployment in turn is the new one, of a model that nobody has published: every public cell of its model is
taken away, whatever ran it. Hyperparameters are learned from what is left of the nearest relatives. A plan stops by its
own estimate; a cell costs four times its latency, a load 10 s.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from fewmark.models.auto.public_prior import public_relatives
from fewmark.models.registry import make_model
from fewmark.planning.replay import replay
from fewmark.planning.space import Space
from fewmark.planning.strategies import make_strategy
from fewmark.planning.surrogate import believe, fit
from fewmark.tables.repeats import measured_cells
from fewmark.verbs.source import read_source

TARGET = "throughput_tok_s"
ERROR = 0.034
KEYS = ["engine", "model", "accelerator", "accelerator_count"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deployments", type=int, help="at most so many, drawn at random")
    parser.add_argument("--minimum", type=int, default=16, help="cells of a deployment that is replayed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    known = measured_cells(read_source("llm-inference-bench"), TARGET)
    groups = [group.reset_index(drop=True) for _, group in known.groupby(KEYS, dropna=False)]
    rich = [group for group in groups if len(group) >= options.minimum]
    order = np.random.default_rng(options.seed).permutation(len(rich))[: options.deployments]
    found: dict[str, list[tuple[float, float, int]]] = {"with nothing": [], "with what is public": []}
    for at in order:
        mine = rich[at]
        public = public_relatives(mine, TARGET)
        public = public[public["model"] != mine["model"].iloc[0]].reset_index(drop=True)
        for name, lent in (("with nothing", public.iloc[:0]), ("with what is public", public)):
            found[name].append(played(mine, lent, options.seed))
    print(f"{len(order)} deployments, stopped by their own estimate at {1 - ERROR:.1%}; medians")
    out = {}
    for name, rows in found.items():
        less, accuracy, n_cells = (np.array(column) for column in zip(*rows, strict=True))
        out[name] = {
            "times_less": float(np.median(less)), "accuracy": float(np.median(accuracy)),
            "stop_right": float(np.mean(accuracy >= 1 - ERROR)), "cells": float(np.median(n_cells)),
        }  # fmt: skip
        one = out[name]
        print(
            f"{name:20} {one['times_less']:5.1f} times less, accuracy {one['accuracy']:.1%}, "
            f"stop right {one['stop_right']:.0%}, {one['cells']:.0f} cells"
        )
    if options.json:
        options.json.write_text(json.dumps(out, indent=2, allow_nan=False) + "\n")


def played(mine: pd.DataFrame, lent: pd.DataFrame, seed: int) -> tuple[float, float, int]:
    """Times less time, accuracy over the grid, and cells, of one deployment."""
    space = Space.from_table(mine)
    learned = fit(make_model("auto", target=TARGET, random_state=seed), measured_cells(lent, TARGET), TARGET)
    truth, latency_s = (mine[column].to_numpy(dtype=float) for column in (TARGET, "e2e_latency_s"))
    belief = believe(space, mine.iloc[:0], TARGET, learned)
    done = replay(space, truth, latency_s, belief, make_strategy("adaptive"), target=TARGET, target_error=ERROR)
    return done.account.speed_up or 1.0, 1 - done.steps[-1].median_ape, len(done.steps)


if __name__ == "__main__":
    main()
