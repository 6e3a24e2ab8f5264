"""The same measurement written twice, once with less known: the richer row stays, with what only the other knows.

Two rows are one measurement if their latencies are equal to the last digit and precise (see `copied_values`), and no
column that says what was measured, and no metric, differs: an unknown matches anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.columns import CASE_COLUMNS, METRIC_COLUMNS, OPTION_PREFIX, WORKLOAD_PREFIX
from fewmark.core.json_types import Json
from fewmark.screening.base import Finding
from fewmark.screening.precise import is_precise, needed_digits

MAX_GROUP: Final = 50  # rows of one latency that are compared with each other; more are no copies but a constant


@dataclass(frozen=True)
class Copy:
    """Two rows (labels) that are one measurement.

    `more` are the columns that only `richer` knows, `changes` the values that only `poorer` knows.
    """

    poorer: int
    richer: int
    more: tuple[str, ...]
    changes: dict[str, Json]


def copies(frame: pd.DataFrame) -> list[Copy]:
    """Each row that is a poorer copy of another, with the richest one. The table is not changed."""
    names = [
        *(name for name in (*CASE_COLUMNS, *METRIC_COLUMNS) if name in frame),
        *(str(name) for name in frame if str(name).startswith((OPTION_PREFIX, WORKLOAD_PREFIX))),
    ]
    latency = frame["e2e_latency_s"].to_numpy(dtype=np.float64)
    digits = needed_digits(int(np.isfinite(latency).sum()))
    known_at = np.flatnonzero(latency > 0)
    _, inverse, sizes = np.unique(latency[known_at], return_inverse=True, return_counts=True)
    equal: dict[float, list[int]] = {}
    for position in known_at[(sizes > 1)[inverse.ravel()]].tolist():
        equal.setdefault(float(latency[position]), []).append(position)
    groups = [rows for value, rows in equal.items() if len(rows) <= MAX_GROUP and is_precise(value, digits)]
    if not groups:
        return []
    used = sorted({position for rows in groups for position in rows})
    cells = dict(zip(used, frame.iloc[used][names].astype(object).to_numpy().tolist(), strict=True))
    known = {position: [not _is_unknown(cell) for cell in row] for position, row in cells.items()}
    out = []
    for rows in groups:
        ordered = sorted(rows, key=lambda position: (-sum(known[position]), position))
        for place, position in enumerate(ordered):
            richer = next((other for other in ordered[:place] if _fit(cells, known, position, other)), None)
            if richer is None or known[richer] == known[position]:
                continue  # rows that say the very same are the business of `duplicate`
            more = [n for n, a, b in zip(names, known[richer], known[position], strict=True) if a and not b]
            only = {
                name: cells[position][i] for i, name in enumerate(names) if known[position][i] and not known[richer][i]
            }
            out.append(Copy(int(frame.index[position]), int(frame.index[richer]), tuple(more), only))
    return out


class PoorerCopy:
    """A row that repeats another with less known is no second measurement, and no copied value of another cell."""

    name = "poorer-copy"
    description = "the same measurement as another row, which knows more of it"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude the poorer rows; correct the richer ones where only the poorer knew something."""
        found = copies(frame)
        corrected: dict[int, dict[str, Json]] = {}
        sources: dict[int, list[int]] = {}
        for copy in found:
            more = ", ".join(f"{name} {_shown(frame.at[copy.richer, name])}" for name in copy.more)
            reason = f"the same measurement as row {copy.richer + 1}, which knows more: {more or 'as much'}"
            yield Finding(copy.poorer + 1, self.name, reason, "exclude", others=(copy.richer + 1,))
            if copy.changes:
                corrected.setdefault(copy.richer, {}).update(copy.changes)
                sources.setdefault(copy.richer, []).append(copy.poorer + 1)
        for label, changes in corrected.items():
            told = ", ".join(f"{name} {_shown(value)}" for name, value in changes.items())
            rows = ", ".join(map(str, sources[label]))
            reason = f"row {rows} is the same measurement and knows {told}"
            yield Finding(label + 1, self.name, reason, "correct", changes, tuple(sources[label]))


def _fit(cells: dict[int, list[object]], known: dict[int, list[bool]], a: int, b: int) -> bool:
    return all(
        not (in_a and in_b) or x == y for x, y, in_a, in_b in zip(cells[a], cells[b], known[a], known[b], strict=True)
    )


def _is_unknown(cell: object) -> bool:
    return cell is None or cell is pd.NA or (isinstance(cell, float) and cell != cell) or cell == ""


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
