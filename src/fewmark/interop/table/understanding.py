"""What became of a table's columns when it was read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Understanding:
    """What became of a table's columns.

    Attributes
    ----------
    taken : canonical name → the column's own name, where they differ
    unknown : own names of the columns that are kept as they are → known names that look like them
    notes : what was decided from the values, a sentence each
    """

    taken: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
