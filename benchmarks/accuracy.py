"""Where `auto` stands: the protocols that its accuracy is held to, each with its goal, as one table.

    python benchmarks/accuracy.py --keep FOLDER [--tables NAME,NAME] [--part I/N] [--minutes 8]
    python benchmarks/accuracy.py --keep FOLDER --show

`loops` and `grids` are simulated (`simulated_serving.py`), 24 deployments of 21 cells and 16 of 56; so are `consumer`,
`experts` and `parallel`, 14 deployments of 28 cells each: graphics cards, mixtures of experts, and 1 to 8 devices.

What was worked out stays in the folder, so that a run may be cut into slices and goes on where it ended. A line has the
median APE over all hidden cells, the mean over seeds 0, 1 and 2 (or three drawn tables); its goal; the p90; the share
inside the 90% interval; the share answered; of the deployments with at least 20 hidden cells the share with 80% to 97%
inside; and the share of cells off by more than three times and outside their interval.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from fewmark import datasets
from fewmark.evaluation import evaluate
from fewmark.tables.identity import deployment_columns
from simulated_serving import table as simulated

FAR = np.log(3.0)
LEAST_HIDDEN = 20
HELD = (0.8, 0.97)
SEEDS = range(3)
DEPLOYMENTS = {"loops": 24, "grids": 16, "consumer": 14, "experts": 14, "parallel": 14}  # of simulated tables


@dataclass(frozen=True)
class Line:
    """One protocol on one table, and the goal for its median APE."""

    table: str
    target: str
    protocol: str
    goal: float | None = None

    def frames(self) -> Iterator[tuple[str, int, Callable[[], pd.DataFrame]]]:
        """The units of work: a name, the seed of the protocol, and the table."""
        for seed in SEEDS:
            name = f"{self.table} {self.target} {self.protocol} {seed}"
            if self.table in DEPLOYMENTS:
                yield name, 0, partial(simulated, seed, DEPLOYMENTS[self.table], batches=False, fleet=self.table)
            else:
                yield name, seed, partial(datasets.load, self.table, screened=True)


BATCHES = "llm-inference-bench"
LINES = (
    *(
        Line(BATCHES, "throughput_tok_s", protocol, goal)
        for protocol, goal in {
            "interpolate-length": 0.0067, "extrapolate-length": 0.0113, "extrapolate-batch": 0.024,
            "sparse-25": 0.0167, "transfer-0": 0.0374, "transfer-1": 0.0282, "transfer-2": 0.0218,
            "transfer-4": 0.0158, "new-accelerator-2": 0.055,
        }.items()
    ),
    Line("llm-pilot", "ttft_s", "sparse-25", 0.05),
    Line("llm-pilot", "ttft_s", "extrapolate-batch", 0.065),
    Line("llm-pilot", "ttft_s", "extrapolate-length"),
    Line("llm-pilot", "ttft_s", "transfer-0"),
    Line("llm-pilot", "ttft_s", "transfer-2"),
    Line("llm-pilot", "tpot_s", "sparse-25"),
    Line("llm-pilot", "tpot_s", "extrapolate-batch", 0.08),
    Line("llm-pilot", "tpot_s", "extrapolate-length", 0.03),
    Line("llm-pilot", "tpot_s", "transfer-0"),
    Line("splitwise", "ttft_s", "sparse-25"),
    Line("splitwise", "ttft_s", "extrapolate-length", 0.044),
    Line("splitwise", "tpot_s", "sparse-25"),
    Line("loops", "ttft_s", "sparse-25", 0.08),
    Line("loops", "ttft_s", "extrapolate-batch", 0.14),
    Line("loops", "ttft_s", "transfer-0"),
    Line("loops", "tpot_s", "sparse-25"),
    Line("loops", "tpot_s", "extrapolate-batch"),
    Line("loops", "tpot_s", "transfer-0"),
    *(Line("grids", target, protocol) for protocol in ("sparse-25", "transfer-2") for target in ("ttft_s", "tpot_s")),
    *(
        Line(table, target, protocol)
        for table in ("consumer", "experts", "parallel")
        for protocol in ("sparse-25", "extrapolate-batch", "transfer-0")
        for target in ("ttft_s", "tpot_s")
    ),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="a folder for what was worked out")
    parser.add_argument("--tables", default="", help="only these, by commas")
    parser.add_argument("--targets", default="", help="only these, by commas")
    parser.add_argument("--protocols", default="", help="only these, by commas")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="of each line, how many")
    parser.add_argument("--part", default="0/1", help="I/N: of N like runs side by side, the I-th")
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin nothing after so many")
    parser.add_argument("--show", action="store_true", help="print what is there, and work nothing out")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    part, parts = map(int, options.part.split("/"))
    options.keep.mkdir(exist_ok=True, parents=True)
    for line in LINES:
        chosen = ((line.table, options.tables), (line.target, options.targets), (line.protocol, options.protocols))
        if any(wanted and name not in wanted.split(",") for name, wanted in chosen):
            continue
        found = []
        for number, (unit, seed, make) in enumerate(line.frames()):
            path = options.keep / (unit.replace(" ", "__") + ".csv.gz")
            mine = number < options.seeds and zlib.crc32(unit.encode()) % parts == part
            if not path.exists() and mine and not options.show and time.monotonic() < until:
                cells = evaluate(make(), line.protocol, ["auto"], random_state=seed, target=line.target).details
                cells.to_csv(path, index=False)
            if path.exists():
                found.append(pd.read_csv(path))
        if found:
            print(text(line, found), flush=True)


def text(line: Line, found: list[pd.DataFrame]) -> str:
    """A line of the table."""
    each = pd.DataFrame([figures(cells) for cells in found])
    mean, held = each.drop(columns="held").mean(), np.array([share for shares in each["held"] for share in shares])
    goal = "" if line.goal is None else f"{line.goal:.1%} {'met' if mean['median'] <= line.goal else 'missed'}"
    kept = f"{np.mean((held >= HELD[0]) & (held <= HELD[1])):.0%} of {len(held)}" if len(held) else "–"
    return (
        f"| {line.table} | {line.target} | {line.protocol} | {mean['median']:.2%} | {goal} | {mean['p90']:.1%} "
        f"| {mean['inside']:.1%} | {mean['answered']:.0%} | {kept} | {mean['far']:.2%} |"
    )


def figures(cells: pd.DataFrame) -> dict[str, object]:
    """What one unit says; `held`: the share inside of each deployment with enough hidden cells."""
    answered = cells[cells["value"].notna()]
    error = np.abs(answered["value"] / answered["measured"] - 1)
    inside = answered["measured"].between(answered["low"], answered["high"])
    far = np.abs(np.log(answered["value"] / answered["measured"])) > FAR
    shares = inside.groupby([answered[name].astype(str) for name in deployment_columns(answered)]).agg(["mean", "size"])
    return {
        "median": error.median(), "p90": error.quantile(0.9), "inside": inside.mean(),
        "answered": len(answered) / len(cells), "far": (far & ~inside).mean(),
        "held": shares.loc[shares["size"] >= LEAST_HIDDEN, "mean"].tolist(),
    }  # fmt: skip


if __name__ == "__main__":
    main()
