"""What a report is about: a store, a file or a table, its target, and the forecasts that were checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark import datasets
from fewmark.core import InputError, Measurement
from fewmark.core.metrics import ALL_TARGETS
from fewmark.interop import from_measurements, is_complete, to_measurements
from fewmark.store import Outcome, open_store
from fewmark.tables.identity import cell_columns
from fewmark.verbs.ledger import Ledger, read_ledger
from fewmark.verbs.results import read_results
from fewmark.verbs.source import Tabular, in_memory

MAX_GOT: Final = 200  # characters of a wrong request that are repeated


@dataclass(frozen=True)
class ReportSource:
    """What a report is about."""

    name: str
    frame: pd.DataFrame
    measurements: tuple[Measurement, ...]
    target: str
    outcomes: tuple[Outcome, ...] = ()
    ledger: Ledger | None = None


def checked_steps(source: ReportSource) -> list[tuple[float, float, str]]:
    """Seconds spent, error in percent and what was measured, for each forecast that was checked, in order."""
    of = {outcome.measurement_id: outcome for outcome in source.outcomes}
    spent, steps = 0.0, []
    for measurement in sorted(source.measurements, key=lambda m: str(m.measured_at or "")):
        spent += (measurement.cost.wall_s or 0.0) + (measurement.cost.startup_s or 0.0)
        outcome = of.get(measurement.measurement_id)
        if outcome is not None and outcome.prediction.value is not None and spent > 0:
            error = 100 * abs(outcome.prediction.value / outcome.actual - 1)
            case = measurement.case
            steps.append((spent, error, f"{case.deployment.label}, {case.workload.load_label}"))
    return steps


def forecasts_table(source: ReportSource) -> pd.DataFrame:
    """The predictions that were made before their cells were measured, one row each."""
    made = [outcome.prediction for outcome in source.outcomes]
    if not made:
        return pd.DataFrame()
    frame = from_measurements([Measurement(case=prediction.case) for prediction in made])
    numbers = {
        name: [getattr(prediction, name) for prediction in made]
        for name in ("value", "low", "high", "confidence_level")
    }
    numbers[source.target] = [outcome.actual for outcome in source.outcomes]
    return frame[cell_columns(frame)].assign(
        **{name: pd.Series(values, dtype=float) for name, values in numbers.items()},
        provenance=[prediction.provenance for prediction in made],
    )


def read_report_source(store: str | None, data: Tabular | None, target: str | None) -> ReportSource:
    """What there is of a store, a file or a table. Raises `InputError`, `FormatError`, `StoreError`."""
    if data is not None:
        if store is not None:
            got = {"store": store, "data": str(data)[:MAX_GOT]}
            raise InputError("a report is about a store or about a file, not both", got=got)
        table = in_memory(data)
        packaged = isinstance(data, str) and data in datasets.names()
        if table is not None:
            frame, name = table, "the table"
        else:
            assert isinstance(data, (str, Path))
            frame = datasets.load(str(data)) if packaged else read_results(data)
            name = frame.attrs["title"] if packaged else Path(data).name
        return ReportSource(name, frame, tuple(to_measurements(frame[is_complete(frame)])), _target(frame, target))
    with open_store(store, create=False) as opened:
        measurements = tuple(opened.measurements())
        if not measurements:
            raise InputError(
                "the store has no measurements",
                got=opened.url,
                hint="fewmark run, fewmark import, or report --data FILE",
            )
        frame = from_measurements(measurements, opened.withdrawn())
        chosen = _target(frame, target)
        outcomes = tuple(o for o in opened.outcomes(chosen) if o.prediction.provenance != "measured" and o.actual > 0)
        name = opened.url.rsplit("/", 1)[-1]
        return ReportSource(
            f"the store {name}", frame, measurements, chosen, outcomes, read_ledger(opened, ALL_TARGETS)
        )


def _target(frame: pd.DataFrame, target: str | None) -> str:
    counts = {name: int(frame[name].notna().sum()) if name in frame else 0 for name in ALL_TARGETS}
    if target is None:
        best = max(counts, key=lambda name: counts[name])
        if counts[best]:
            return best
        raise InputError("the table has no value of any metric", hint=f"it needs one of {', '.join(ALL_TARGETS)}")
    if target not in ALL_TARGETS:
        raise InputError("unknown target", got=target, hint=f"one of {', '.join(ALL_TARGETS)}")
    if not counts[target]:
        there = ", ".join(name for name, count in counts.items() if count) or "none"
        raise InputError(f"the table has no value of {target}", hint=f"there are values of: {there}")
    return target
