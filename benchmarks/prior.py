"""What the packaged prior gives a user: the first measurements of each deployment, with it and without it.

    python benchmarks/prior.py --json OUT [--accelerators N] [--cells 1 2 4]

One accelerator after another is left out of all public data; the prior is learned anew from the rest. Each of its
deployments is then a user's whole table: that many cells that spread (`fewmark.models.support.anchors`), every other
one predicted. Both models see the same cells; the one without a prior knows nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from build_prior import LATENCIES, cells

from fewmark.models.cells import cell_columns, read_cells
from fewmark.models.consistent import ConsistentAuto
from fewmark.models.prior import learn_prior
from fewmark.models.support import accelerators, spread

MIN_CELLS = 12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--latency", default="e2e_latency_s", choices=LATENCIES)
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--accelerators", type=int, default=3, help="those of most deployments")
    parser.add_argument("--deployments", type=int, default=12, help="at most so many on each")
    options = parser.parse_args()
    X, seconds = cells(options.latency)
    y = seconds.to_numpy(float)
    read = read_cells(X)
    device = accelerators(read)
    members = [np.flatnonzero(read.deployment == code) for code in range(len(read.deployments))]
    rich = np.array([len(rows) >= MIN_CELLS for rows in members])
    codes, counts = np.unique(device[rich], return_counts=True)
    outcome = []
    for code in codes[np.argsort(-counts)][: options.accelerators]:
        name = str(read.deployments["accelerator"].iloc[int(np.flatnonzero(device == code)[0])])
        out = (device == code)[read.deployment]
        prior = learn_prior(X[~out], y[~out], options.latency)
        for n_cells in options.cells:
            errors: dict[bool, list[float]] = {False: [], True: []}
            inside: list[bool] = []
            for rows in [members[d] for d in np.flatnonzero(rich & (device == code))][: options.deployments]:
                known = rows[spread(read.log_workload[rows], n_cells)]
                asked = np.setdiff1d(rows, known)
                for joined in errors:
                    model = ConsistentAuto(target=options.latency, prior={options.latency: prior} if joined else False)
                    model.fit(X.iloc[known][cell_columns(X)], y[known])
                    wanted = X.iloc[asked][cell_columns(X)]
                    errors[joined].append(float(np.nanmedian(np.abs(model.predict(wanted) / y[asked] - 1))))
                    if joined:
                        low, high = model.predict_interval(wanted).T
                        inside += ((low <= y[asked]) & (y[asked] <= high)).tolist()
            figures = {
                "accelerator": name, "cells": n_cells, "deployments": len(errors[True]),
                "median_ape_without": float(np.nanmedian(errors[False])),
                "median_ape_with": float(np.nanmedian(errors[True])), "inside_90": float(np.mean(inside)),
            }  # fmt: skip
            outcome.append(figures)
            print(
                f"{name:24s} {n_cells} cells of each of {figures['deployments']}: median error "
                f"{figures['median_ape_without']:.1%} alone, {figures['median_ape_with']:.1%} with the prior, "
                f"{figures['inside_90']:.0%} in the 90% interval",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(outcome, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
