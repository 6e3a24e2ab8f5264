"""Latencies that are equal to the last digit in two different cells: one was copied from the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.columns import CASE_COLUMNS, OPTION_PREFIX, WORKLOAD_PREFIX
from fewmark.screening.base import Finding
from fewmark.screening.contradicting_times import log_disagreement
from fewmark.screening.precise import is_precise, needed_digits
from fewmark.screening.remembered import deployment_codes, workload_codes
from fewmark.tables.arrays import FloatArray, IntArray

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
        digits = needed_digits(n_rows)
        deployments, workloads = deployment_codes(frame), workload_codes(frame)
        equal: dict[float, list[int]] = {}
        known = np.flatnonzero(latency > 0)
        for position in known[pd.Series(latency[known]).duplicated(keep=False).to_numpy()].tolist():
            equal.setdefault(float(latency[position]), []).append(position)
        precise = [positions for value, positions in equal.items() if is_precise(value, digits)]
        cell = {at: (int(deployments[at]), int(workloads[at])) for positions in precise for at in positions}
        groups = [positions for positions in precise if len({cell[position] for position in positions}) > 1]
        shared = _count_pairs(groups, deployments)
        disagreement = np.abs(log_disagreement(frame))
        contradiction = {name: _median(disagreement[deployments == name]) for pair in shared for name in pair}
        for positions in groups:
            for position in positions:
                for peer in positions:
                    if cell[peer] == cell[position]:
                        continue
                    mine, theirs = cell[position][0], cell[peer][0]
                    many = shared.get((min(mine, theirs), max(mine, theirs)), 0) >= MASS
                    if many and _is_original(contradiction[mine], contradiction[theirs], first=position < peer):
                        continue
                    reason = (
                        f"the latency {latency[position]:.17g} s is equal to the last digit to that of row "
                        f"{int(frame.index[peer]) + 1}, another {_difference(frame, position, peer)}"
                    )
                    row, other = (int(frame.index[at]) + 1 for at in (position, peer))
                    yield Finding(row, self.name, reason, "exclude", others=(other,))
                    break


def _is_original(mine: float, theirs: float, *, first: bool) -> bool:
    """Of two deployments that share many values, whether this one is told as the original."""
    if max(mine, theirs) > CLEARLY * min(mine, theirs):
        return mine < theirs
    return first


def _count_pairs(groups: list[list[int]], deployments: IntArray) -> Mapping[tuple[int, int], int]:
    """How many equal latencies two deployments share."""
    counts: dict[tuple[int, int], int] = {}
    for positions in groups:
        for pair in combinations(sorted({int(deployments[position]) for position in positions}), 2):
            counts[pair] = counts.get(pair, 0) + 1
    return counts


def _median(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 0.0


def _difference(frame: pd.DataFrame, position: int, other: int) -> str:
    row, peer = frame.iloc[position], frame.iloc[other]
    named = (*CASE_COLUMNS, *(n for n in frame.columns if str(n).startswith((OPTION_PREFIX, WORKLOAD_PREFIX))))
    for name in ("model", "accelerator", "engine", *named):
        mine, theirs = row.get(name), peer.get(name)
        if mine != theirs and not (pd.isna(mine) or pd.isna(theirs)):
            return f"{name.removeprefix(OPTION_PREFIX).replace('_', ' ')} ({theirs})"
    return "cell"
