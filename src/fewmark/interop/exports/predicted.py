"""Forecasts as rows of the canonical table: ``provenance`` "predicted", who made them in ``predicted_by``."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from fewmark.core import FrozenMap, InputError, Measurement, Prediction, Sample
from fewmark.core.columns import METRIC_COLUMNS
from fewmark.core.values import Case
from fewmark.interop.table.measurements import PREDICTED, from_measurements


def predicted_table(predictions: Iterable[Prediction]) -> pd.DataFrame:
    """One row a case and model, the latest forecast of each metric; ends of intervals in ``METRIC_low``, ``_high``.

    Raises
    ------
    InputError
        If no forecast has a value.
    """
    latest: dict[tuple[str, str], tuple[Case, dict[str, Prediction]]] = {}
    for made in predictions:
        if made.value is not None:
            place = (made.case.case_id, made.model or "unknown")
            latest.setdefault(place, (made.case, {}))[1][made.metric] = made
    if not latest:
        raise InputError("there are no forecasts", hint="say --cases TABLE: its cells are predicted, and written")
    frame = from_measurements(_as_measurement(case, found) for case, found in latest.values())
    frame["provenance"] = PREDICTED
    frame["predicted_by"] = [_author(model, found) for (_, model), (_, found) in latest.items()]
    for end in ("low", "high"):
        for metric in dict.fromkeys(name for _, found in latest.values() for name in found):
            ends = [getattr(found[metric], end) if metric in found else None for _, found in latest.values()]
            if any(value is not None for value in ends):
                frame[f"{metric}_{end}"] = pd.Series(ends, index=frame.index, dtype="float64")
    return frame


def _author(model: str, found: dict[str, Prediction]) -> str:
    """Who made the forecasts: another tool, whose forecasts were imported, or one of fewmark's models."""
    return model if any(made.provenance == "imported" for made in found.values()) else f"fewmark {model}"


def _as_measurement(case: Case, found: dict[str, Prediction]) -> Measurement:
    own = {name: made.value for name, made in found.items() if name in METRIC_COLUMNS}
    stated = {name: made.value for name, made in found.items() if name not in METRIC_COLUMNS}
    sample = Sample(**own, statistics=FrozenMap(stated))  # type: ignore[arg-type]
    return Measurement(case, samples=(sample,), provenance="imported")
