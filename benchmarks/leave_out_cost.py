"""What `auto` still misses of a cell when it knows every other one: the scatter that no protocol can get below with it.

    python benchmarks/leave_out_cost.py --data llm-pilot --target tpot_s,ttft_s
    python benchmarks/leave_out_cost.py --data splitwise --target tpot_s,ttft_s,e2e_latency_s

Each cell is left out by itself, hyperparameters, noise and all other cells known: an easier task than any protocol's,
and made easier still, since the hyperparameters saw the cell. Median absolute percentage error over all cells, over
each deployment's largest load, and over its shortest and longest cells, which extrapolation protocols hide.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from fewmark import datasets
from fewmark.models.auto.experts import LocalExpert
from fewmark.models.auto.latency_gp import LatencyGP
from fewmark.verbs.run import prepare


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="llm-pilot", help="a packaged dataset")
    parser.add_argument("--target", default="tpot_s", help="one or several, by commas")
    options = parser.parse_args()
    print(f"{'target':<18}{'cells':>7}{'all':>8}{'largest load':>14}{'shortest, longest':>19}")
    for target in options.target.split(","):
        X, y = prepare(datasets.load(options.data, screened=True), target)
        model = LatencyGP(target=target).fit(X, y)
        parts = [part for expert in model.experts_.members for part in left_out(expert)]
        error, far, end = (np.concatenate(column) for column in zip(*parts, strict=True))
        shown = [f"{100 * np.median(error[which]):.2f}%" for which in (slice(None), far, end)]
        print(f"{target:<18}{len(error):>7}{shown[0]:>8}{shown[1]:>14}{shown[2]:>19}", flush=True)
    return 0


def left_out(expert: LocalExpert) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each deployment the errors of its cells, which are at its largest load, and which shortest or longest."""
    posterior = expert.posterior
    for rows in expert.members.values():
        gap = [posterior.without(np.array([row]))[0][0] - posterior.y[row] for row in rows]
        load, length = expert.axes[rows, 2], np.exp2(expert.axes[rows, :2]).sum(1)
        yield np.abs(np.expm1(gap)), load == load.max(), (length == length.max()) | (length == length.min())


if __name__ == "__main__":
    raise SystemExit(main())
