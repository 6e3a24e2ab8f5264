"""Repeats of one cell that contradict one another: a cache hit beside a miss, a corrected row beside the wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.grid import log_latency, robust_scale
from fewmark.screening.remembered import cell_codes
from fewmark.tables.arrays import BoolArray, FloatArray, IntArray
from fewmark.tables.columns import numbers_of
from fewmark.tables.identity import cell_columns, group_codes, rows_by_group
from fewmark.tables.unnamed_options import unnamed_options

DISAGREE: Final = {"latency": float(np.log(1.5)), "ttft_s": float(np.log(3.0)), "tpot_s": float(np.log(1.5))}
"""How far the repeats of a cell lie apart before they contradict one another; first tokens wait in queues."""
SPREADS: Final = 6.0  # and of usual spreads of the table's other repeats
MAX_DISAGREE: Final = 2.5  # times the first limit: rows that disagree never widen it further


class ContradictingRepeats:
    """Where most of a cell's repeats agree, the odd ones go; where no majority does, all stay, with a warning.

    Models learn the median with an interval that holds all that is left (`fewmark.tables.repeats`).
    """

    name = "contradicting-repeats"
    description = "repeats of one cell that contradict one another"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude repeats that a majority contradicts; warn of those among which there is none."""
        values = {"latency": log_latency(frame), **{name: _logs(frame, name) for name in ("ttft_s", "tpot_s")}}
        options = [option.column for option in unnamed_options(frame)]  # what these tell apart is no contradiction
        codes = group_codes(frame, [*cell_columns(frame), *options])[0] if options else cell_codes(frame)
        repeated = np.flatnonzero(np.bincount(codes)[codes] > 1)
        groups = [repeated[rows] for rows in rows_by_group(codes[repeated]).values()] if len(repeated) else []
        told: set[int] = set()
        for name, logs in values.items():
            limit = _limit(logs, groups, DISAGREE[name])
            for rows in groups:
                known = rows[np.isfinite(logs[rows])]
                if len(known) < 2 or np.ptp(logs[known]) <= limit:
                    continue
                agreeing = _majority(logs[known], limit)
                for position, agrees in zip(known.tolist(), agreeing, strict=True):
                    if position in told or (agrees and agreeing.any()):
                        continue
                    told.add(position)
                    yield self._finding(frame, name, np.exp(logs), known, position, agreeing)

    def _finding(
        self, frame: pd.DataFrame, name: str, values: FloatArray, known: IntArray, position: int, agreeing: BoolArray
    ) -> Finding:
        said = "took" if name == "latency" else f"{name} is"
        rows = {int(frame.index[other]) + 1: values[other] for other in known.tolist() if other != position}
        others = ", ".join(f"{value:.4g} s in row {row}" for row, value in list(rows.items())[:3])
        others += f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        reason = f"{said} {values[position]:.4g} s, but another repeat of the cell has {others}"
        row = int(frame.index[position]) + 1
        if agreeing.any():
            reason += f": {int(agreeing.sum())} of {len(known)} repeats agree"
            return Finding(row, self.name, reason, "exclude", others=tuple(list(rows)[:3]))
        reason += ": no majority of them agrees, so intervals hold all; retract or supersede what is wrong"
        return Finding(row, self.name, reason, "warn", others=tuple(list(rows)[:3]))


def _majority(logs: FloatArray, limit: float) -> BoolArray:
    """Which of a cell's values agree with the majority within the limit, (n,); none where there is no majority."""
    order = np.sort(logs)
    need = len(logs) // 2 + 1
    best: tuple[float, float] | None = None
    for start in range(len(order) - need + 1):
        width = order[start + need - 1] - order[start]
        if width <= limit and (best is None or width < best[0]):
            best = width, float(np.median(order[start : start + need]))
    if best is None:
        return np.zeros(len(logs), dtype=bool)
    return np.asarray(np.abs(logs - best[1]) <= limit)


def _limit(logs: FloatArray, groups: list[IntArray], limit: float) -> float:
    """How far repeats may lie apart: as usual in the table, judged by those cells that agree."""
    spreads = []
    for rows in groups:
        known = logs[rows][np.isfinite(logs[rows])]
        if len(known) > 1 and np.ptp(known) <= limit:
            spreads.append(np.ptp(known) / 2 if len(known) == 2 else robust_scale(known))
    return float(np.clip(SPREADS * np.median(spreads), limit, MAX_DISAGREE * limit)) if spreads else limit


def _logs(frame: pd.DataFrame, name: str) -> FloatArray:
    values = numbers_of(frame, name)
    ok = (frame["status"] == "ok").to_numpy() & (values > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(ok, np.log(np.where(ok, values, 1.0)), np.nan)
