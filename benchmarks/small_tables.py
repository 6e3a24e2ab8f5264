"""How `auto` fares where there is less to learn from: some accelerators only, or some deployments drawn at random.

    python benchmarks/small_tables.py --accelerators 2 --protocol new-accelerator-2
    python benchmarks/small_tables.py --deployments 20 --draws 12 --protocol sparse-25,transfer-2,extrapolate-batch

The tables are parts of LLM-Inference-Bench, screened; each line is `fewmark evaluate` on one of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from fewmark import datasets
from fewmark.evaluation import evaluate

TARGET = "throughput_tok_s"
DEPLOYMENT = ["engine", "model", "accelerator", "accelerator_count"]
LEAST_CELLS = 100  # of an accelerator among several


def by_accelerator(table: pd.DataFrame, n: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """The table with all but n accelerators dropped, in every way."""
    for names in combinations(sorted(table["accelerator"].dropna().unique()), n):
        part = table[table["accelerator"].isin(names)]
        if part["accelerator"].value_counts().min() >= LEAST_CELLS:
            yield ", ".join(names), part


def by_deployment(table: pd.DataFrame, n: int, draws: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """The table with all but n deployments dropped, at random."""
    name = table[DEPLOYMENT].astype(str).agg("|".join, axis=1)
    for draw in range(draws):
        kept = np.random.default_rng(draw).permutation(sorted(name.unique()))[:n]
        yield f"{n} deployments, draw {draw}", table[name.isin(kept)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerators", type=int, help="keep so many, in every way")
    parser.add_argument("--deployments", type=int, help="keep so many")
    parser.add_argument("--draws", type=int, default=6, help="of deployments")
    parser.add_argument("--protocol", default="new-accelerator-2", help="one or several, by commas")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table = datasets.load("llm-inference-bench", screened=True)
    if options.accelerators:
        parts = list(by_accelerator(table, options.accelerators))
    else:
        parts = list(by_deployment(table, options.deployments or 20, options.draws))
    print(f"{'table':52} {'cells':>5} {'median':>7} {'p90':>6} {'inside':>7} {'width':>6} {'forecast ±':>10}")
    for protocol in options.protocol.split(","):
        print(protocol)
        rows = []
        for name, part in parts:
            found = evaluate(part.reset_index(drop=True), protocol, ["auto"], random_state=options.seed, target=TARGET)
            one = found.summary["models"]["auto"]
            width = one["median_relative_width_90"] / one["median_ape"]
            rows.append((one["median_ape"], one["p90_ape"], one["picp_90"], width, one["forecast_mae"]))
            show(f"  {name}", one["n"], rows[-1])
        show("  mean", None, tuple(np.mean(rows, axis=0)))


def show(name: str, n: int | None, row: tuple[float, ...]) -> None:
    median, p90, inside, width, forecast = row
    cells = "" if n is None else str(n)
    print(f"{name:52} {cells:>5} {median:7.1%} {p90:6.1%} {inside:7.1%} {width:6.1f} {forecast:10.1%}", flush=True)


if __name__ == "__main__":
    main()
