"""What the packaged prior gives a user: the first measurements of one new deployment, with it and without it.

    python benchmarks/prior.py --json OUT [--accelerators N] [--models N] [--cells 1 2 4]

One accelerator after another, and one model after another, is left out of all public data under whatever name, and the
prior is learned anew from the rest. Each deployment with it is then a user's whole table: that many cells that spread
(`fewmark.models.design.anchors`), every other one predicted. Both models see the same cells; the one without
a prior knows nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from build_prior import LATENCIES, cells

from fewmark.facts.facts import load_facts
from fewmark.models.auto.model import AutoModel
from fewmark.models.auto.prior_training import learn_prior
from fewmark.models.design import spread
from fewmark.tables.cells import read_cells
from fewmark.tables.identity import cell_columns

MIN_CELLS = 12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--latency", default="e2e_latency_s", choices=LATENCIES)
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--accelerators", type=int, default=3, help="those of most deployments")
    parser.add_argument("--models", type=int, default=3, help="those of most deployments")
    parser.add_argument("--deployments", type=int, default=12, help="at most so many with each")
    options = parser.parse_args()
    X, seconds = cells(options.latency)
    y = seconds.to_numpy(float)
    read = read_cells(X)
    members = [np.flatnonzero(read.deployment == code) for code in range(len(read.deployments))]
    rich = [rows for rows in members if len(rows) >= MIN_CELLS]
    facts = load_facts()
    outcome = []
    for column, known, count in (
        ("accelerator", facts.accelerator, options.accelerators),
        ("model", facts.model, options.models),
    ):
        same = X[column].map({name: repr(known(name)) for name in X[column].unique()})
        often = pd.Series([same.iloc[rows[0]] for rows in rich]).value_counts()
        for left_out in often.index[:count]:
            out = (same == left_out).to_numpy()
            name = str(X[column][out].mode().iloc[0])
            prior = learn_prior(X[~out], y[~out], options.latency)
            mine = [rows for rows in rich if out[rows[0]]]
            mine = [mine[i] for i in np.random.default_rng(0).permutation(len(mine))[: options.deployments]]
            for n_cells in options.cells:
                figures = {column: name, **compare(X, y, read, mine, n_cells, prior, options.latency)}
                outcome.append(figures)
                print(
                    f"{name:28s} {n_cells} cells of each of {figures['deployments']}: median error "
                    f"{figures['median_ape_without']:.1%} alone, {figures['median_ape_with']:.1%} with the prior "
                    f"(joined {figures['joined']}), {figures['inside_90']:.0%} in the 90% interval",
                    flush=True,
                )
    for n_cells in options.cells:
        rows = [f for f in outcome if f["cells"] == n_cells]
        alone, joined = (np.mean([f[f"median_ape_{key}"] for f in rows]) for key in ("without", "with"))
        print(f"{n_cells} cells, mean of {len(rows)}: {alone:.1%} alone, {joined:.1%} with the prior")
    if options.json:
        options.json.write_text(json.dumps(outcome, indent=2) + "\n")
    return 0


def compare(X, y, read, deployments, n_cells, prior, latency) -> dict:
    """Each deployment alone, learned with the prior and without."""
    errors: dict[bool, list[float]] = {False: [], True: []}
    inside: list[bool] = []
    joined = 0
    for rows in deployments:
        known = rows[spread(read.log_workload[rows], n_cells)]
        asked = np.setdiff1d(rows, known)
        told, wanted = X.iloc[known][cell_columns(X)], X.iloc[asked][cell_columns(X)]
        for use in errors:
            model = AutoModel(target=latency, prior={latency: prior} if use else False).fit(told, y[known])
            errors[use].append(float(np.nanmedian(np.abs(model.predict(wanted) / y[asked] - 1))))
            if use:
                low, high = model.predict_interval(wanted).T
                inside += ((low <= y[asked]) & (y[asked] <= high)).tolist()
                joined += model.n_public_cells_ > 0
    return {
        "cells": n_cells, "deployments": len(deployments), "joined": joined,
        "median_ape_without": float(np.nanmedian(errors[False])),
        "median_ape_with": float(np.nanmedian(errors[True])), "inside_90": float(np.mean(inside)),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
