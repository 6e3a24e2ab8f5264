"""What simulators say: AIConfigurator's and AISimulate's forecasts, marked as such in every row.

A row whose column ``provenance`` is "predicted" is no measurement, whoever wrote it; ``predicted_by`` names the tool.
`fewmark import` keeps such rows among the store's predictions, where the ledger scores them by what is measured later.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pandas as pd

from fewmark.core import InputError, Prediction
from fewmark.core.metrics import TARGETS
from fewmark.interop.results.run_rows import RunRow
from fewmark.interop.table.measurements import PREDICTED, to_measurements

_NO_INTERVAL: Final = 0.9  # a level is needed; without an interval it says nothing


def predicted_row(tool: str, version: str | None) -> RunRow:
    """A row that is somebody's forecast."""
    row = RunRow(tool)
    row.cells["provenance"] = PREDICTED
    row.cells["predicted_by"] = f"{tool} {version}" if version else tool
    row.note(f"a forecast of {tool}, not a measurement")
    return row


def predicted_rows(frame: pd.DataFrame) -> pd.Series:
    """Which rows of a table are forecasts: a boolean for each."""
    if "provenance" not in frame:
        return pd.Series(False, index=frame.index)
    return frame["provenance"].astype(object).map(lambda value: value == PREDICTED).astype(bool)


def to_predictions(frame: pd.DataFrame) -> Iterator[Prediction]:
    """The forecasts of a table of complete rows, one for each metric that a row gives; without intervals.

    Raises
    ------
    InputError
        If a row is no cell (see `fewmark.interop.is_complete`).
    """
    said = frame["predicted_by"] if "predicted_by" in frame else pd.Series(None, index=frame.index, dtype=object)
    plain = frame.drop(columns=[name for name in ("provenance", "predicted_by") if name in frame])
    for measurement, model in zip(to_measurements(plain), said, strict=True):
        for metric in TARGETS:
            value = getattr(measurement.samples[0], metric) if measurement.samples else None
            if value is not None:
                yield Prediction(
                    case=measurement.case,
                    metric=metric,
                    value=value,
                    low=None,
                    high=None,
                    confidence_level=_NO_INTERVAL,
                    provenance="imported",
                    model=str(model) if model else None,
                )


def refuse_predictions(frame: pd.DataFrame, name: str) -> None:
    """Raise `InputError` where a table that is to be learned from holds forecasts."""
    found = predicted_rows(frame)
    if found.any():
        first = frame.loc[found].iloc[0]
        raise InputError(
            f"{name}: {int(found.sum())} of {len(frame)} rows are forecasts, not measurements",
            got=first.get("predicted_by"),
            hint="fewmark import keeps them as predictions, and fewmark ledger scores them by what is measured",
        )
