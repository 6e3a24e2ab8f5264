"""Rows that are there twice."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from fewmark.core.columns import METRIC_COLUMNS
from fewmark.screening.base import Finding
from fewmark.screening.remembered import deployment_codes, workload_codes
from fewmark.tables.identity import group_codes


class Duplicate:
    """The same cell with the same values in every metric is one measurement written twice, not two repeats.

    Repeats, which differ in their last digits, are what the noise is known from, and are never flagged.
    """

    name = "duplicate"
    description = "the same cell with the same values as an earlier row"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Warn of the later ones."""
        key = pd.DataFrame(
            {
                "deployment": deployment_codes(frame),
                "workload": workload_codes(frame),
                "metrics": group_codes(frame, METRIC_COLUMNS)[0],
            },
            index=frame.index,
        )
        codes, first_rows = group_codes(key, ["deployment", "workload", "metrics"])
        if len(first_rows) == len(codes):
            return
        known = frame[list(METRIC_COLUMNS)].notna().any(axis=1)
        firsts: dict[tuple[int, ...], int] = {}
        for label, *cell in key[known].itertuples(name=None):
            first = firsts.setdefault(tuple(cell), int(label))
            if first != label:
                reason = f"the same cell with the same values as row {first + 1}: one measurement written twice"
                yield Finding(int(label) + 1, self.name, reason, "warn", others=(first + 1,))
