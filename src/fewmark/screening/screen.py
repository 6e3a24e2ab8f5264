"""All rules over one table, in the order in which they build on each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pandas as pd

from fewmark.core import CANONICAL_COLUMNS, InputError
from fewmark.core.columns import NUMERIC_COLUMNS
from fewmark.screening.base import Finding, Rule, apply
from fewmark.screening.batch_not_batch import BatchNotBatch
from fewmark.screening.cold_start import ColdStart
from fewmark.screening.contradicting_repeats import ContradictingRepeats
from fewmark.screening.contradicting_times import ContradictingTimes
from fewmark.screening.copied_values import CopiedValues
from fewmark.screening.duplicate import Duplicate
from fewmark.screening.expired import Expired, Replaced, Retracted
from fewmark.screening.impossible_speed import ImpossibleSpeed
from fewmark.screening.impossible_value import ImpossibleValue
from fewmark.screening.inconsistent_throughput import InconsistentThroughput
from fewmark.screening.label_conflict import LabelConflict
from fewmark.screening.outlier import Outlier
from fewmark.screening.physical_limit import PhysicalLimit
from fewmark.screening.poorer_copy import PoorerCopy
from fewmark.screening.remembered import carry, remembered_tables
from fewmark.screening.superseded import Superseded
from fewmark.tables.identity import is_identity

RULES: Final[tuple[Rule, ...]] = (
    Superseded(),
    Retracted(),
    Expired(),
    Replaced(),
    ImpossibleValue(),
    ContradictingTimes(),
    BatchNotBatch(),
    InconsistentThroughput(),
    PhysicalLimit(),
    PoorerCopy(),
    CopiedValues(),
    ContradictingRepeats(),
    LabelConflict(),
    ImpossibleSpeed(),
    Outlier(),
    ColdStart(),
    Duplicate(),
)

COMPARING: Final = (
    *(PoorerCopy, CopiedValues, ContradictingRepeats, LabelConflict, ImpossibleSpeed, Outlier, ColdStart, Duplicate),
)
"""Rules that find nothing in a single row: they compare rows with one another."""


def screen(frame: pd.DataFrame, rules: Iterable[Rule] = RULES) -> list[Finding]:
    """What every rule finds in a canonical table, by row. The table is not changed.

    Each rule sees what the rules before it let pass, corrected where they corrected: an impossible row must not
    accuse its neighbours. Canonical columns that are missing count as unknown.

    Raises
    ------
    InputError
        If the table's index is not its data rows.
    """
    if not pd.api.types.is_integer_dtype(frame.index) or not frame.index.is_unique:
        raise InputError("a table to screen needs the data row (from 0) as its index", got=frame.index[:3].tolist())
    found: list[Finding] = []
    left = _complete(frame)
    left = left.copy(deep=False)
    left.attrs = {}  # or every step would copy them
    with remembered_tables():
        for rule in rules:
            if len(left) < 2 and isinstance(rule, COMPARING):
                continue  # a folder of single runs is screened file by file
            new = list(rule.find(left))
            found += new
            if new:
                before, left = left, apply(left, new)
                if not any(is_identity(name) for finding in new for name in finding.changes):
                    carry(before, left)
    return sorted(found, key=lambda finding: finding.row)


def _complete(frame: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in CANONICAL_COLUMNS if name not in frame.columns]
    if not missing:
        return frame
    unknown = {name: float("nan") if name in NUMERIC_COLUMNS else None for name in missing}
    return frame.assign(**{**unknown, **({"status": "ok"} if "status" in missing else {})})
