"""All rules over one table, in the order in which they build on each other."""

from __future__ import annotations

from typing import Final

import pandas as pd

from fewmark.screening.base import Finding, Rule

RULES: Final[tuple[Rule, ...]] = ()


def screen(frame: pd.DataFrame) -> list[Finding]:
    """The findings of every rule, by row."""
    return sorted((finding for rule in RULES for finding in rule.find(frame)), key=lambda finding: finding.row)
