"""What a rule is, what it finds, and how findings act on a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

import pandas as pd

ACTIONS: Final = ("exclude", "correct", "warn")


@dataclass(frozen=True)
class Finding:
    """A faulty or suspect row: which one, by which rule, why (with the numbers), and what to do with it.

    `row` is the 1-based data row. `action` is "exclude" (models do not see it), "correct" (`changes` says which
    columns get which values; None is unknown) or "warn" (nothing changes). `others` are the data rows that the reason
    speaks of.
    """

    row: int
    rule: str
    reason: str
    action: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON has it; `changes` only where there are some."""
        out: dict[str, Any] = {"row": self.row, "rule": self.rule, "reason": self.reason, "action": self.action}
        out |= {"others": list(self.others)} if self.others else {}
        return out | ({"changes": dict(self.changes)} if self.changes else {})


@runtime_checkable
class Rule(Protocol):
    """One kind of fault. Rules are general: none knows a dataset, an accelerator or an engine by its name."""

    name: str
    description: str

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """The rows of a canonical table that have the fault. The table is not changed."""


def apply(frame: pd.DataFrame, findings: Iterable[Finding]) -> pd.DataFrame:
    """The table that models see: corrections made, excluded rows left out, the index (0-based data row) kept."""
    found = list(findings)
    out = frame.copy() if any(finding.action == "correct" for finding in found) else frame
    excluded = set()
    for finding in found:
        label = finding.row - 1
        if finding.action == "exclude":
            excluded.add(label)
        elif finding.action == "correct":
            for column, value in finding.changes.items():
                out.loc[label, column] = value
    return out[~out.index.isin(excluded)]
