"""Where an answer of `auto` comes from, and why there is none."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fewmark.models.auto.estimate import MAX_SPAN
from fewmark.models.auto.features import Features
from fewmark.models.auto.featuriser import UNUSABLE
from fewmark.models.auto.local_experts import MAX_DOUBLINGS, LocalExperts
from fewmark.tables.arrays import BoolArray

TOO_VAGUE: Final = (
    "out of domain: too little is known of it, or of a latency that it follows from, "
    f"for an interval that spans a factor of {MAX_SPAN:g} or less"
)


def provenance(table: Features, experts: LocalExperts, silent: BoolArray) -> NDArray[np.str_]:
    """One of `fewmark.core.values.PREDICTION_PROVENANCES` for each cell, (m,)."""
    out = np.full(len(table), "transferred", dtype="<U12")
    for code, rows, expert in experts.by_deployment(table):
        known = expert.known(code)
        if not len(known):
            continue
        axes = table.axes[rows]
        inside = (axes[:, :3] >= known[:, :3].min(0)).all(1) & (axes[:, :3] <= known[:, :3].max(0)).all(1)
        out[rows] = np.where(inside, "interpolated", "extrapolated")
        measured = {tuple(row) for row in known.tolist()}
        out[rows[[tuple(row) in measured for row in axes.tolist()]]] = "measured"
    out[silent] = "abstained"
    return out


def abstentions(table: Features, experts: LocalExperts, silent: BoolArray) -> list[str]:
    """The reason for abstaining on each cell; empty where there is an answer. `silent` (m,): where there is none."""
    reasons = [""] * len(table)
    for row in np.flatnonzero(silent):
        reasons[row] = TOO_VAGUE
    for row in np.flatnonzero(experts.is_far(table)):
        reasons[row] = f"out of domain: more than {MAX_DOUBLINGS:g} doublings beyond anything measured"
    for row in np.flatnonzero(table.unusable):
        reasons[row] = UNUSABLE
    return reasons
