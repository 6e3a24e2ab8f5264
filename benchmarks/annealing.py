"""How fast the annealing is beside the plain reference, how its cost grows, and whether its accuracy is the same.

    python benchmarks/annealing.py [--json OUT]

Both sides run in this process, one after the other, from cold caches, over the largest Llama deployment of the packaged
data. The reference (`ala_reference.py`) is timed on the whole of its 1,000 iterations. For the accuracy over ten seeds
it would take many minutes; the annealing with ``fitting="search"`` takes its place after the run has shown on the
reference's own walk that the two agree subset by subset. ``--full-reference`` runs the reference on every seed and
compares the logs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ala_reference
from fewmark.datasets import load
from fewmark.evaluation.reproduction.deployments import DeploymentData, read_deployments
from fewmark.models.ala.annealing.log import AnnealingLog
from fewmark.models.ala.annealing.search import Schedule, anneal, draw_initial
from fewmark.models.ala.annealing.subsets import SubsetSpace
from fewmark.models.ala.regressor import AlaModel, AlaRegressor

SCHEDULE = Schedule()


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result, wall seconds and CPU seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def reference_walk(X: np.ndarray, y: np.ndarray, seed: int, n: int) -> list[tuple[ala_reference.Subset, float]]:
    """The reference over the walk of chain 0 of `anneal(random_state=seed)`."""
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    space = SubsetSpace(X, y, fitting="search")
    drawn = space.parts(draw_initial(space, rng))
    initial = tuple(frozenset(values[part]) for values, part in zip(space.values, drawn, strict=True))
    return ala_reference.anneal(
        X,
        y,
        np.zeros(len(y), dtype=np.intp),
        initial,  # type: ignore[arg-type]
        rng,
        temperature=SCHEDULE.temperature,
        cooling=SCHEDULE.cooling,
        n_iterations=n,
    )


def speed(data: DeploymentData, n: int) -> dict[str, Any]:
    """Both sides on the same deployment: seconds, ratio, and how far their errors are apart on the reference's walk."""
    X, y = data.X, data.y
    schedule = Schedule(n_iterations=n)
    anneal(X + 1, y, schedule=Schedule(n_iterations=3))  # imports, not caches: another table
    _, wall, cpu = timed(lambda: anneal(X, y, schedule=schedule))
    _, search_wall, _ = timed(lambda: anneal(X, y, schedule=schedule, fitting="search"))
    log, reference_wall, reference_cpu = timed(lambda: reference_walk(X, y, 0, n))
    spaces = {fitting: SubsetSpace(X, y, fitting=fitting) for fitting in ("search", "optimum")}
    theirs = np.array([error for _, error in log])
    subsets = np.array([spaces["search"].subset(*(sorted(part) for part in subset)) for subset, _ in log])
    batches = np.array([len(subset[2]) for subset, _ in log])
    apart = {}
    for fitting, space in spaces.items():
        mine = np.array([found.error for found in space.evaluate_all(subsets)])
        both = np.isfinite(mine) & np.isfinite(theirs)
        gap = np.abs(mine[both] - theirs[both])
        apart[fitting] = {
            "max_abs_difference": float(gap.max()),
            "max_abs_difference_3_batches_up": float(gap[batches[both] > 2].max()),
            "median_ours": float(np.median(mine[both])),
            "median_reference": float(np.median(theirs[both])),
            "same_outcome": float(np.mean(np.isfinite(mine) == np.isfinite(theirs))),
        }
    return {
        "data": data.label,
        "n_cells": len(y),
        "n_iterations": n,
        "reference_s": reference_wall,
        "reference_cpu_s": reference_cpu,
        "ours_s": wall,
        "ours_cpu_s": cpu,
        "ours_search_s": search_wall,
        "ratio": reference_wall / wall,
        "ratio_cpu": reference_cpu / cpu,
        "errors_on_the_reference_walk": apart,
    }


def accuracy(data: DeploymentData, n: int, n_seeds: int, full: bool) -> dict[str, Any]:
    """Median over seeds of the errors that each side ends with, in percent."""
    X, y = data.X, data.y
    schedule = Schedule(n_iterations=n)

    def summary(log: AnnealingLog) -> dict[str, float]:
        return {
            "best": float(log.error[log.known].min()),
            "final": float(log.state_error[-1]),
            "log": float(np.median(log.error[log.known])),
        }

    ours, theirs, same = [], [], []
    space = SubsetSpace(X, y)
    for seed in range(n_seeds):
        ours.append(summary(anneal(X, y, schedule=schedule, random_state=seed)))
        log = anneal(X, y, schedule=schedule, random_state=seed, fitting="search")
        theirs.append(summary(log))
        if full:
            walked = np.array([error for _, error in reference_walk(X, y, seed, n)])
            np.testing.assert_allclose(log.error, walked, rtol=1e-6)
        mine = np.array([found.error for found in space.evaluate_all(log.subsets)])
        both = np.isfinite(mine) & log.known
        same.append((float(np.median(mine[both])), float(np.median(log.error[both]))))
    out: dict[str, Any] = {"n_seeds": n_seeds, "reference": "checked against it" if full else 'fitting="search"'}
    medians = {name: [float(np.median([side[name] for side in sides])) for sides in (ours, theirs)] for name in ours[0]}
    medians["same"] = np.median(same, axis=0).tolist()
    for name, (mine, other) in medians.items():
        out[name] = {"ours": mine, "reference": other, "difference": mine - other}
    out["log"]["sd_between_seeds"] = float(np.std([side["log"] for side in theirs]))
    return out


def chains(data: DeploymentData, n: int, n_chains: int, jobs: int, backend: str | None) -> dict[str, Any]:
    """Independent chains on one and on several processes."""
    out: dict[str, Any] = {"n_chains": n_chains, "n_iterations": n, "jobs": jobs}
    schedule = Schedule(n_iterations=n)
    _, out["one_process_s"], _ = timed(lambda: anneal(data.X, data.y, schedule=schedule, n_chains=n_chains))
    parallel: Callable[[], AnnealingLog] = lambda: anneal(  # noqa: E731
        data.X, data.y, schedule=schedule, n_chains=n_chains, n_jobs=jobs, backend=backend
    )
    parallel()  # workers start once
    _, out["several_processes_s"], _ = timed(parallel)
    return out


def grown(data: DeploymentData, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """A table with `pairs` times the pairs: further lengths, curves scaled and 3% noise."""
    rng = np.random.default_rng(0)
    X, y = [], []
    for k in range(pairs):
        lengths = data.X[:, :2] * (1 + 0.013 * k)
        X.append(np.column_stack([lengths.round(), data.X[:, 2]]))
        y.append(data.y / (1 + 0.01 * k) * rng.lognormal(0, 0.03 if k else 0, len(data.y)))
    return np.vstack(X), np.concatenate(y)


def growth(data: DeploymentData) -> dict[str, list[dict[str, float]]]:
    """CPU seconds by rows, pairs and iterations, one of them at a time."""
    out: dict[str, list[dict[str, float]]] = {"rows": [], "pairs": [], "iterations": []}
    rng = np.random.default_rng(0)

    def cost(X: np.ndarray, y: np.ndarray, n: int) -> tuple[float, int]:
        space: list[int] = []

        def work() -> None:
            log = anneal(X, y, schedule=Schedule(n_iterations=n))
            space.append(len(np.unique(log.subsets, axis=0)))

        return timed(work)[2], space[0]

    for times in (1, 4, 16, 64):
        X = np.tile(data.X, (times, 1))
        y = np.tile(data.y, times) * rng.lognormal(0, 0.01, len(X))
        seconds, distinct = cost(X, y, 500)
        out["rows"].append({"times": times, "size": len(X), "cpu_s": seconds, "distinct": distinct})
    for times in (1, 4, 16):
        X, y = grown(data, times)
        seconds, distinct = cost(X, y, 120)
        n_pairs = len(np.unique(X[:, :2], axis=0))
        start = time.process_time()
        inside = X[:, 2] != X[:, 2].max()
        for _ in range(3):
            ala_reference.train(X[inside], y[inside])
        once = (time.process_time() - start) / 3
        out["pairs"].append(
            {"times": times, "size": n_pairs, "cpu_s": seconds, "distinct": distinct, "reference_training_s": once}
        )
    for times in (1, 4, 16):
        seconds, distinct = cost(data.X, data.y, 125 * times)
        out["iterations"].append({"times": times, "size": 125 * times, "cpu_s": seconds, "distinct": distinct})
    return out


def prediction(table: pd.DataFrame, data: DeploymentData, n: int = 1_000_000) -> dict[str, float]:
    """Seconds to predict a million cells: of few pairs, of a million pairs, and of a table of all deployments."""
    rng = np.random.default_rng(0)
    model = AlaRegressor().fit(data.X, data.y)
    few = np.column_stack([rng.choice([128, 300, 512, 900], n), rng.choice([128, 300, 512, 900], n), np.ones(n)])
    many = np.column_stack([rng.integers(1, 8192, (n, 2)), rng.integers(1, 257, n)]).astype(float)
    usable = table[table["batch_size"].notna()].reset_index(drop=True)
    whole = AlaModel().fit(usable, usable["throughput_tok_s"].to_numpy(float))
    cells = usable.sample(n, replace=True, random_state=0).reset_index(drop=True)
    cells["batch_size"] = rng.integers(1, 257, n).astype(float)
    return {
        "n": n,
        "few_pairs_s": timed(lambda: model.predict(few))[1],
        "any_pairs_s": timed(lambda: model.predict(many))[1],
        "table_of_all_deployments_s": timed(lambda: whole.predict(cells))[1],
    }


def main() -> None:
    """Run, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--backend")
    parser.add_argument("--full-reference", action="store_true")
    options = parser.parse_args()
    table = load("llm-inference-bench", screened=True)
    llama = [data for data in read_deployments(table) if data.family == "Llama"]
    largest = max(llama, key=lambda data: len(data.y))
    out: dict[str, Any] = {"cores": os.cpu_count(), "load_before": os.getloadavg()}

    out["speed"] = found = speed(largest, options.iterations)
    print(f"largest Llama set: {found['data']}, {found['n_cells']} cells; {found['n_iterations']} iterations")
    print(f"{'':<34}{'wall s':>10}{'CPU s':>10}")
    print(f"{'reference':<34}{found['reference_s']:>10.2f}{found['reference_cpu_s']:>10.2f}")
    print(f"{'ours':<34}{found['ours_s']:>10.2f}{found['ours_cpu_s']:>10.2f}")
    print(f"{'ratio':<34}{found['ratio']:>10.0f}{found['ratio_cpu']:>10.0f}")
    for fitting, apart in found["errors_on_the_reference_walk"].items():
        print(
            f"same subsets, fitting={fitting}: errors differ by at most {apart['max_abs_difference']:.2g} points, by "
            f"{apart['max_abs_difference_3_batches_up']:.2g} with 3 or more batch sizes"
        )
    out["accuracy"] = found = accuracy(largest, options.iterations, options.seeds, options.full_reference)
    print(f"\nmedians over {found['n_seeds']} seeds, % (reference: {found['reference']})")
    texts = {
        "best": "best error found",
        "final": "error of the final state",
        "same": "median on the same subsets",
        "log": "median of each one's log",
    }
    for name, text in texts.items():
        row = found[name]
        print(f"  {text:<28} ours {row['ours']:.2f}  reference {row['reference']:.2f}  {row['difference']:+.2f}")
    print(f"  (the logs' medians vary by {found['log']['sd_between_seeds']:.2f} between the reference's own seeds)")
    out["chains"] = found = chains(largest, options.iterations, options.seeds, options.jobs, options.backend)
    print(
        f"\n{found['n_chains']} chains: {found['one_process_s']:.1f} s in one process, "
        f"{found['several_processes_s']:.1f} s in {found['jobs']}"
    )
    out["growth"] = growth(largest)
    for axis, rows in out["growth"].items():
        print(f"\ncost by {axis}: " + "; ".join(_tell(row) for row in rows))
    out["prediction"] = found = prediction(table, largest)
    print(
        f"\n{found['n']:,} cells: {found['few_pairs_s']:.2f} s of few, {found['any_pairs_s']:.2f} s of any pairs, "
        f"{found['table_of_all_deployments_s']:.2f} s as a table of all deployments"
    )
    out["load_after"] = os.getloadavg()
    print(f"load average {out['load_before'][0]:.1f} before, {out['load_after'][0]:.1f} after, {out['cores']} cores")
    if options.json:
        options.json.write_text(json.dumps(out, indent=2) + "\n", encoding="utf-8")


def _tell(row: dict[str, float]) -> str:
    each = row["cpu_s"] / row["distinct"] * 1e3
    text = f"{row['times']}x ({row['size']}) {row['cpu_s']:.2f} s, {each:.1f} ms a distinct subset"
    return text + (f" (reference {row['reference_training_s'] * 1e3:.0f})" if "reference_training_s" in row else "")


if __name__ == "__main__":
    sys.exit(main())
