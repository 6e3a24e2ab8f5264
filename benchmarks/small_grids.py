"""`auto` beside every baseline on tables of about a hundred cells, where there is little to learn from.

    python benchmarks/small_grids.py [--tables NAME,NAME] [--protocols P,P] [--seed SEED] [--json OUT]

The tables are parts of the packaged datasets, and closed loops and batches drawn by `simulated_serving.py`. A line has
the median error of `auto` and of the best baseline, the ratio of the two, the share of cells inside their 90% interval,
the share of deployments with at least `LEAST_HIDDEN` hidden cells of which 80% to 97% are inside, and the share of
cells that are off by more than 3 times and outside their interval.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fewmark import datasets
from fewmark.core.errors import InputError, ModelError
from fewmark.evaluation import evaluate
from fewmark.evaluation.protocols import turns
from fewmark.models.design import anchors
from fewmark.models.registry import model_class
from fewmark.tables.cells import read_cells
from fewmark.tables.identity import cell_columns, deployment_columns
from fewmark.tables.repeats import target_cells
from simulated_serving import table as simulated
from simulated_serving import unheard

BASELINES = ("xgboost", "random-forest", "gradient-boosting", "linear", "loglog", "mechanistic")
PROTOCOLS = ("interpolate-length", "extrapolate-length", "extrapolate-batch", "sparse-25", "transfer-0", "transfer-2")
LEAST_HIDDEN = 20
FAR = np.log(3.0)
SERVING = ("ttft_s", "tpot_s")


def drawn(name: str, n: int, draw: int, least: int = 8) -> pd.DataFrame:
    """So many deployments of a packaged dataset, at random."""
    whole = datasets.load(name, screened=True)
    key = whole[["engine", "model", "accelerator", "accelerator_count"]].map(str).agg("|".join, axis=1)
    rich = sorted(key.value_counts()[lambda n: n >= least].index)
    return whole[key.isin(np.random.default_rng(draw).permutation(rich)[:n])].reset_index(drop=True)


def thinned(cells: pd.DataFrame, share: float, draw: int) -> pd.DataFrame:
    """A share of the rows, at random."""
    return cells.sample(frac=share, random_state=draw).reset_index(drop=True)


def tables() -> Iterator[tuple[str, tuple[str, ...], Callable[[], pd.DataFrame]]]:
    """Name, targets and cells of each table."""
    whole = ("throughput_tok_s",)
    for draw in range(3):
        yield f"batches-{draw}", whole, partial(drawn, "llm-inference-bench", 6, draw, 16)
    yield "batches-few", whole, partial(drawn, "llm-inference-bench", 12, 5)
    for draw in range(2):
        yield f"pilot-{draw}", SERVING, partial(drawn, "llm-pilot", 12, draw)
    yield "splitwise", SERVING, lambda: thinned(drawn("splitwise", 8, 0), 0.25, 0)
    for seed in range(100, 103):
        yield f"loops-{seed}", SERVING, partial(simulated, seed, 5, batches=False)
    yield "loops-unheard", SERVING, lambda: unheard(simulated(103, 5, batches=False))
    yield "loops-many", SERVING, lambda: thinned(simulated(104, 9, batches=False), 0.6, 0)
    yield "simulated-batches", whole, partial(simulated, 105, 4, batches=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default="", help="parts of names, by commas")
    parser.add_argument("--protocols", default=",".join(PROTOCOLS), help="by commas")
    parser.add_argument("--targets", default="", help="only these, by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prior", action="store_true", help="auto with the packaged prior")
    parser.add_argument("--part", default="0/1", help="I/N: of N like runs side by side, the I-th")
    parser.add_argument("--cache", type=Path, help="a folder that keeps what the baselines say")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = [part for part in options.tables.split(",") if part]
    part, parts = map(int, options.part.split("/"))
    rows, cells = [], []
    print(f"{'table':18} {'target':16} {'protocol':19} {'auto':>7} {'best':>7} {'ratio':>5}  which")
    for name, targets, make in tables():
        if wanted and not any(each in name for each in wanted):
            continue
        table = make()
        for target in targets:
            if options.targets and target not in options.targets.split(","):
                continue
            for protocol in options.protocols.split(","):
                if zlib.crc32(f"{name}{target}{protocol}".encode()) % parts != part:
                    continue
                found = compared(table, protocol, target, options.seed, options.prior, options.cache)
                if found is None:
                    continue
                row, details = found
                rows.append({"table": name, "target": target, "protocol": protocol, **row})
                cells.append(details.assign(table=name, target=target, protocol=protocol))
                print(f"{name:18} {target:16} {protocol:19} {line(row)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
        pd.concat(cells).to_pickle(options.json.with_suffix(".pkl"))
    ratios = np.array([row["ratio"] for row in rows])
    inside = np.array([row["inside"] for row in rows])
    print(
        f"{len(rows)} lines: behind by more than a tenth in {np.mean(ratios > 1.1):.0%}, "
        f"geometric mean ratio {np.exp(np.nanmean(np.log(ratios))):.2f}, inside {np.nanmean(inside):.1%} "
        f"({np.nanmin(inside):.0%} to {np.nanmax(inside):.0%})"
    )


def compared(
    table: pd.DataFrame, protocol: str, target: str, seed: int, prior: bool, cache: Path | None
) -> tuple[dict[str, Any], pd.DataFrame] | None:
    """What a line says; None where the protocol hides nothing of the table."""
    try:
        found = evaluate(
            table, protocol, ["auto"], random_state=seed, target=target, parameters={"auto": {"prior": prior}}
        )
    except InputError:
        return None
    known = kept(cache, lambda: baselines(table, protocol, target, seed), protocol, target, seed, table)
    best = min(known, key=lambda name: known[name])
    auto = {n: math.nan if v is None else v for n, v in found.summary["models"]["auto"].items()}  # answers none
    details = found.details.drop(columns="predictor")
    answered = details[details["value"].notna()]
    inside = answered["measured"].between(answered["low"], answered["high"])
    far = np.abs(np.log(answered["value"] / answered["measured"])) > FAR
    by = [answered[name].astype(str) for name in deployment_columns(answered)]
    shares = inside.groupby(by).agg(["mean", "size"])
    shares = shares.loc[shares["size"] >= LEAST_HIDDEN, "mean"]
    return {
        "auto": auto["median_ape"], "best": known[best], "which": best, "ratio": auto["median_ape"] / known[best],
        "inside": auto["picp_90"], "answered": len(answered) / len(details), "width": auto["median_relative_width_90"],
        "deployments": [round(share, 3) for share in shares], "far": float((far & ~inside).mean()),
    }, details  # fmt: skip


def baselines(table: pd.DataFrame, protocol: str, target: str, seed: int) -> dict[str, float]:
    """The median error of each baseline that answers anything, without the intervals that `evaluate` gives it."""
    X, y = target_cells(table, target)
    cells, cases = read_cells(X), X[cell_columns(X)]
    accelerators = X["accelerator"].astype(object).where(X["accelerator"].notna(), None).to_numpy()
    errors: dict[str, list[np.ndarray]] = {name: [] for name in BASELINES}
    for turn in turns(protocol, cells, accelerators, seed):
        known, asked = ~turn.hidden, turn.scored.copy()
        if turn.n_chosen:
            rows = np.flatnonzero(asked)
            chosen = rows[anchors(cases.iloc[rows], turn.n_chosen)]
            known[chosen], asked[chosen] = True, False
        for name in BASELINES:
            try:
                point = model_class(name)(target=target, random_state=seed).fit(cases[known], y[known])
            except ModelError:
                continue
            errors[name].append(np.abs(point.predict(cases[asked]) / y[asked] - 1))
    medians = {name: float(np.nanmedian(np.concatenate(each))) for name, each in errors.items() if each}
    return {name: median for name, median in medians.items() if np.isfinite(median)}


def kept(folder: Path | None, work: Callable[[], Any], *key: object) -> Any:
    """What work gives, read from the folder where it was done before."""
    if folder is None:
        return work()
    text = "|".join(each.to_csv() if isinstance(each, pd.DataFrame) else str(each) for each in key)
    path = folder / f"{zlib.crc32(text.encode()):08x}.json"
    if not path.exists():
        folder.mkdir(exist_ok=True, parents=True)
        path.write_text(json.dumps(work()))
    return json.loads(path.read_text())


def line(row: dict[str, Any]) -> str:
    shares = np.array(row["deployments"], dtype=float)
    held = f"{np.mean((shares >= 0.8) & (shares <= 0.97)):4.0%}" if len(shares) else "   –"
    return (
        f"{row['auto']:7.2%} {row['best']:7.2%} {row['ratio']:5.2f}  {row['which']!s:18} inside {row['inside']:4.0%} "
        f"width {row['width']:5.2f} held {held} answered {row['answered']:4.0%} far {row['far']:.1%}"
    )


if __name__ == "__main__":
    main()
