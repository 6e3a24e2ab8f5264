"""Latencies that are equal to the last digit in two different cells: one was copied from the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.contradicting_times import log_disagreement
from fewmark.screening.grid import FloatArray, IntArray, deployment_codes, workload_codes

CHANCE: Final = 0.01  # expected number of equal pairs in the whole table by accident
MASS: Final = 4  # from so many copies between two deployments on, the whole deployment is judged
CLEARLY: Final = 2.0  # how much worse one side must contradict itself to be told as the copy


class CopiedValues:
    """Two measurements never agree to ten digits by chance.

    How many digits it takes depends on the number of rows: so many that less than one accident in a hundred tables
    is expected. Rounded values are therefore never suspected. Where many rows of two deployments agree, the one that
    contradicts itself more (see `contradicting_times`), or else comes later, is the copy; of a single equal pair
    nobody can tell, so both rows go.
    """

    name = "copied-values"
    description = "a latency that is equal to the last digit in two different cells"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude the copies."""
        latency = frame["e2e_latency_s"].to_numpy(dtype=np.float64)
        n_rows = int(np.isfinite(latency).sum())
        digits = int(np.ceil(np.log10(max(n_rows, 10) ** 2 / 2 / CHANCE)))
        flat = pd.DataFrame(
            {
                "position": np.arange(len(frame)),
                "latency": latency,
                "deployment": deployment_codes(frame),
                "workload": workload_codes(frame),
            }
        )[np.isfinite(latency) & (latency > 0)]
        flat = flat[flat.duplicated("latency", keep=False)]
        flat = flat[np.array([_is_precise(value, digits) for value in flat["latency"]], dtype=bool)]
        groups = [
            group for _, group in flat.groupby("latency") if group.groupby(["deployment", "workload"]).ngroups > 1
        ]
        shared = _count_pairs(groups)
        disagreement = np.abs(log_disagreement(frame))
        deployments = deployment_codes(frame)
        for group in groups:
            for position, other in _copies(group, shared, deployments, disagreement):
                reason = (
                    f"the latency {latency[position]:.17g} s is equal to the last digit to that of row "
                    f"{int(frame.index[other]) + 1}, another {_difference(frame, position, other)}"
                )
                yield Finding(int(frame.index[position]) + 1, self.name, reason, "exclude")


def _copies(
    group: pd.DataFrame, shared: dict[tuple[int, int], int], deployments: IntArray, disagreement: FloatArray
) -> list[tuple[int, int]]:
    """The rows of equal latency that are copies, each with the row that it equals."""
    out = []
    for row in group.itertuples():
        others = group[(group["deployment"] != row.deployment) | (group["workload"] != row.workload)]
        for other in others.itertuples():
            pair = (min(row.deployment, other.deployment), max(row.deployment, other.deployment))
            if row.deployment != other.deployment and shared[pair] >= MASS:
                mine = _median(disagreement[deployments == row.deployment])
                theirs = _median(disagreement[deployments == other.deployment])
                if theirs > CLEARLY * mine or (not mine > CLEARLY * theirs and row.position < other.position):
                    continue
            out.append((row.position, other.position))
            break
    return out


def _median(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 0.0


def _count_pairs(groups: list[pd.DataFrame]) -> dict[tuple[int, int], int]:
    counts: dict[tuple[int, int], int] = {}
    for group in groups:
        names = sorted(set(group["deployment"]))
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                counts[first, second] = counts.get((first, second), 0) + 1
    return counts


def _is_precise(value: float, digits: int) -> bool:
    """Whether a number was written with at least so many significant digits."""
    return float(f"{value:.{max(digits - 2, 0)}e}") != value


def _difference(frame: pd.DataFrame, position: int, other: int) -> str:
    row, peer = frame.iloc[position], frame.iloc[other]
    for name, word in (("model", "model"), ("accelerator", "accelerator"), ("engine", "engine")):
        if row[name] != peer[name]:
            return f"{word} ({peer[name]})"
    return "cell"
