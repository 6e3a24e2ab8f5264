"""Where a prediction comes from: the nearest measurements of the same deployment, and words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.metrics import METRICS
from fewmark.reporting.display import quantity, show_value
from fewmark.tables.arrays import FloatArray
from fewmark.tables.columns import load_label, load_of, numbers_of
from fewmark.tables.identity import deployment_columns, group_codes
from fewmark.web.knowledge import Knowledge, records
from fewmark.web.schemas import ExplainAnswer, Prediction, Value

N_NEAREST: Final = 5
ORIGINS: Final = {
    "measured": "This cell was measured; the value combines its measurement with what its neighbours say.",
    "interpolated": "It lies between cells that were measured of the same deployment.",
    "extrapolated": "It lies beyond all that was measured of this deployment, on the way its curve goes.",
    "transferred": "Nothing was measured of this deployment: other deployments and published facts say this.",
    "abstained": "The model does not answer.",
}


def explain_case(
    knowledge: Knowledge, case: Mapping[str, object], target: str, confidence_level: float
) -> ExplainAnswer:
    """The explanation. Raises `InputError`, `ModelError`."""
    found = knowledge.predict([case], target, confidence_level)
    row = records(found.table)[0]
    prediction = Prediction(**(row | {"abstained": row["abstained"] or ""}))
    known = knowledge.now().cells(target)
    nearest, n_own = _nearest(found.table, known, target)
    return ExplainAnswer(
        prediction=prediction,
        words=" ".join(_words(prediction, target, confidence_level, n_own, found.n_known, found.n_public)),
        deployment_cells=n_own,
        nearest=nearest,
        may_not_fit=found.may_not_fit,
    )


def _words(made: Prediction, target: str, level: float, n_own: int, n_known: int, n_public: int) -> list[str]:
    shown = quantity(target, [made.value])
    value, low, high = (show_value(shown.show(number)) for number in (made.value, made.low, made.high))
    told = [ORIGINS[made.provenance]]
    if made.value is None:
        told.append(f"Its reason: {made.abstained}.")
    else:
        told.insert(0, f"{shown.label}: {value}, and with a probability of {level:.0%} between {low} and {high}.")
    told.append(f"{n_own} of the {n_known} cells that it learned from are of this deployment.")
    if n_public:
        told.append(f"{n_public:,} public measurements joined them.")
    return told


def _nearest(asked: pd.DataFrame, known: pd.DataFrame, target: str) -> tuple[list[dict[str, Value]], int]:
    """The nearest measured cells of the same deployment, and how many cells of it there are."""
    columns = deployment_columns(known)
    both = pd.concat([asked.reindex(columns=columns), known[columns]], ignore_index=True).astype(object)
    code, _ = group_codes(both.where(both.notna(), None), columns)
    own = known.loc[code[1:] == code[0]]
    if own.empty:
        return [], 0
    octaves = _octaves(own) - _octaves(asked)[0]
    distance = np.sqrt((octaves**2).sum(axis=1))
    order = np.argsort(np.where(np.isfinite(distance), distance, np.inf), kind="stable")[:N_NEAREST]
    workload = ["input_tokens", "output_tokens", *(name for name in LOAD_COLUMNS if own[name].notna().any())]
    near = own.iloc[order][[*workload, target]].assign(doublings=np.round(distance[order], 3))
    return [{**row, "load": load_label(row), "unit": METRICS[target].unit} for row in records(near)], len(own)


def _octaves(cells: pd.DataFrame) -> FloatArray:
    lengths = [numbers_of(cells, name) for name in ("input_tokens", "output_tokens")]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log2(np.column_stack([*lengths, load_of(cells)])))
