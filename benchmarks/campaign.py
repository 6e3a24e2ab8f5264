"""The whole loop live, on a real engine on this machine, against the full grid measured twice.

    python benchmarks/campaign.py --folder FOLDER [measure] [report] [--campaigns 3] [--suite SUITE] [--json OUT]

`measure` runs every cell in two passes, block by block in turn, each pass in a random order of its own, and between
the blocks the campaigns, `fewmark run SUITE --target-error …` with seeds 0, 1, …: all see the same hours of the
machine. `report` prints what each plan took and how far its answers are from the first pass. Each result is kept in
FOLDER as soon as it exists: stop it by any means and run it again to go on. Without a step's name both run.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fewmark.core import Case
from fewmark.interop import from_measurements
from fewmark.planning.planner import Planner
from fewmark.planning.space import Space
from fewmark.planning.strategies import make_strategy
from fewmark.planning.surrogate import prior_belief
from fewmark.runner import Runner
from fewmark.store import open_store
from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.verbs.campaign import campaign
from fewmark.verbs.run import prepare

N_BLOCKS = 6
TARGET = "throughput_tok_s"
TIMES_LESS = 30
FMWORK = ("powers-of-two", "reduced-output(output_tokens=128)", "powers-of-two+reduced-output(output_tokens=128)")


def store_url(folder: Path, name: str) -> str:
    """Where the results of one pass or campaign are kept."""
    return f"sqlite:///{folder / name}.db"


def measure(suite: str, folder: Path, second: float, n_campaigns: int, target_error: float) -> None:
    """A pass over every cell, one over a random share of them, and campaigns after blocks in the middle of it all; what
    is there already is not measured again."""
    after = (np.arange(n_campaigns) + 0.5) * (N_BLOCKS - 1) / max(n_campaigns, 1)
    chosen, _ = prepare(suite)
    orders = [np.random.default_rng(seed).permutation(len(chosen.cases)) for seed in (1, 2)]
    orders[1] = orders[1][: round(second * len(chosen.cases))]
    for block in range(N_BLOCKS):
        for number, order in enumerate(orders, start=1):
            _, settings = prepare(suite, order_seed=number)
            cases: list[Case] = [chosen.cases[i] for i in np.array_split(order, N_BLOCKS)[block]]
            with open_store(store_url(folder, f"pass{number}")) as store:
                report = Runner(store, settings, quiet=True).run(cases)
            print(f"block {block + 1} of {N_BLOCKS}, pass {number}: {report.elapsed_s:.0f} s", flush=True)
        for seed in np.flatnonzero(after.astype(int) == block):
            if not (folder / f"campaign{seed}.csv").exists():
                run_live(suite, folder, target_error, int(seed))


def run_live(suite: str, folder: Path, target_error: float, seed: int) -> None:
    """The campaign; what its store holds of an earlier start counts as measured and as spent."""
    name = f"campaign{seed}"
    done = campaign(
        suite, target_error=target_error, store=store_url(folder, name), seed=seed, quiet=True,
        on_step=lambda step: print(
            f"  {step.n_measured} values, {step.spent_s:.0f} s: forecast {step.forecast.median_ape:.1%}, "
            f"below {step.forecast.median_ape_bound:.1%} with {step.forecast.assurance:.0%}", flush=True,
        ),
    )  # fmt: skip
    print(f"  ended: {done.ended}; {'; '.join(advice.message for advice in done.advice)}", flush=True)
    done.table.to_csv(folder / f"{name}.csv", index=False)
    (folder / f"{name}.json").write_text(json.dumps(done.to_dict(), indent=2, allow_nan=False) + "\n")


@dataclass(frozen=True)
class Row:
    """One plan: what it measured, the seconds that took, and its errors against the first pass."""

    plan: str
    n_cells: int
    time_s: float
    median_ape: float
    mean_ape: float


def report(suite: str, folder: Path) -> dict[str, Any]:
    """Every plan beside the full grid. FMwork's plans are made of the first pass itself, so that what they measure
    counts as exact; the campaign was run apart from it."""
    chosen, _ = prepare(suite)
    with open_store(store_url(folder, "pass1")) as store:
        first = {m.case.case_id: m for m in store.measurements()}
    with open_store(store_url(folder, "pass2")) as store:
        again = {m.case.case_id: m for m in store.measurements()}
    cases = [case for case in chosen.cases if case.case_id in first and first[case.case_id].median(TARGET)]
    table = from_measurements(first[case.case_id] for case in cases)
    space = Space.from_table(table)
    truth = np.array([first[case.case_id].median(TARGET) for case in cases])
    wall_s = np.array([first[case.case_id].cost.wall_s for case in cases])
    starts = Counter(first[case.case_id].cost.startup_s for case in cases)
    start_s = float(np.mean([share * count for share, count in starts.items()]))

    def row(plan: str, measured: IntArray, value: FloatArray) -> Row:
        ape = np.abs(value / truth - 1)
        return Row(plan, len(measured), start_s + wall_s[measured].sum(), float(np.median(ape)), float(ape.mean()))

    rows = [row("the full grid", np.arange(len(cases)), truth)]
    for name in FMWORK:
        planner = Planner(space, prior_belief(space, TARGET), make_strategy(name), target=TARGET)
        picks = planner.choose(len(space))
        for position in picks:
            seen = first[cases[position].case_id]
            planner.tell(
                int(position), float(truth[position]), latency_s=seen.median("e2e_latency_s"),
                ttft_s=seen.median("ttft_s"),
            )  # fmt: skip
        rows.append(row(name, picks, planner.estimate()[0]))
    for path in sorted(folder.glob("campaign*.db")):
        with open_store(store_url(folder, path.stem)) as store:
            runs = list(store.measurements())
        answered = pd.read_csv(path.with_suffix(".csv"))
        value = answered["value"].to_numpy()[Space.from_table(answered).locate(table)]
        spent = sum((m.cost.wall_s or 0.0) + (m.cost.startup_s or 0.0) for m in runs)
        ape = np.abs(value / truth - 1)
        rows.append(Row(path.stem, len(runs), spent, float(np.nanmedian(ape)), float(np.nanmean(ape))))
    both = [case for case in cases if case.case_id in again and again[case.case_id].median(TARGET)]
    ratio = np.array([again[c.case_id].median(TARGET) / first[c.case_id].median(TARGET) for c in both])  # type: ignore[operator]
    repeatability = 1 - float(np.median(np.abs(ratio - 1))) if len(both) else float("nan")
    needed = min(0.966, repeatability - 0.01) if repeatability < 0.966 else 0.966
    print(f"{len(cases)} of {len(chosen.cases)} cells; {len(both)} measured twice: repeatability {repeatability:.1%}")
    print(f"{'plan':34} {'runs':>5} {'time':>8} {'less':>7} {'accuracy':>9} {'mean':>7}")
    for one in rows:
        print(
            f"{one.plan:34} {one.n_cells:5d} {one.time_s:7.0f}s {rows[0].time_s / one.time_s:6.1f}× "
            f"{1 - one.median_ape:9.1%} {1 - one.mean_ape:7.1%}"
        )
    bars = []
    for one in rows:
        if one.plan.startswith("campaign"):
            less, accuracy = rows[0].time_s / one.time_s, 1 - one.median_ape
            bars.append({"plan": one.plan, "times_less": less, "accuracy": accuracy, "accuracy_needed": needed})
            print(
                f"{'holds' if less >= TIMES_LESS and accuracy >= needed else 'FAILS'}  {one.plan}: {less:.1f} of "
                f"{TIMES_LESS} times less, accuracy {accuracy:.1%} of {needed:.1%}"
            )
    return {"repeatability": repeatability, "rows": [asdict(one) for one in rows], "bars": bars}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", choices=["measure", "report", []])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--suite", default=str(Path(__file__).with_suffix(".yaml")))
    parser.add_argument("--second", type=float, default=1.0, help="share of the cells that are measured a second time")
    parser.add_argument("--target-error", type=float, default=0.034, help="of the campaign")
    parser.add_argument("--campaigns", type=int, default=3, help="how many, each with a seed of its own")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    steps = arguments.steps or ["measure", "report"]
    if "measure" in steps:
        measure(
            arguments.suite, arguments.folder, arguments.second, arguments.campaigns, arguments.target_error
        )  # fmt: skip
    if "report" in steps:
        found = report(arguments.suite, arguments.folder)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
