"""How far measuring has come: what ran, what it cost, and how the forecasts' errors fell meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fewmark.core.values import RUN_PROVENANCES, Measurement, Status
from fewmark.web.knowledge import Knowledge

WINDOW: Final = 8  # forecasts of which the median is shown


@dataclass(frozen=True)
class Cell:
    """A cell that was run: the last ones are listed."""

    name: str
    status: str
    value: float | None
    error: float | None
    cost_s: float


@dataclass(frozen=True)
class Progress:
    """What was run into the store so far. `ended` is the last status and value of each case, by its id."""

    n_runs: int
    n_failed: int
    spent_s: float
    n_checked: int
    recent_error: float | None
    last_at: str
    cells: Sequence[Cell]
    ended: Mapping[str, tuple[str, float | None]]
    chart: dict[str, object] | None


def progress_of(
    knowledge: Knowledge,
    metric: str,
    *,
    most_cells: int,
    case_ids: Collection[str] | None = None,
    forecast: Sequence[tuple[float, float]] = (),
) -> Progress:
    """Everything that was run (not imported), in the order of its measuring.

    Parameters
    ----------
    case_ids : only these cases
    forecast : seconds spent and the median error to expect then, a fraction, to be drawn beside
    """
    store = knowledge.store()
    runs = sorted(
        (m for m in store.measurements(case_ids=case_ids) if m.provenance in RUN_PROVENANCES),
        key=lambda m: str(m.measured_at or ""),
    )
    ended = {}
    forecasts = {outcome.measurement_id: outcome for outcome in store.outcomes(metric)}
    spent, cells, points = 0.0, [], []
    for run in runs:
        cost = (run.cost.wall_s or 0.0) + (run.cost.startup_s or 0.0)
        spent += cost
        outcome = forecasts.get(run.measurement_id)
        error = None
        if outcome is not None and outcome.prediction.value is not None and outcome.actual > 0:
            error = abs(outcome.prediction.value / outcome.actual - 1)
            points.append((spent, 100 * error, _name(run)))
        value = run.median(metric) if run.status is Status.OK else None
        ended[run.case.case_id] = (str(run.status), value)
        cells.append(Cell(_name(run), str(run.status), value, error, cost))
    recent = [point[1] for point in points[-WINDOW:]]
    return Progress(
        len(runs), sum(run.status is not Status.OK for run in runs), spent, len(points),
        float(np.median(recent)) / 100 if recent else None, str(runs[-1].measured_at or "")[:19] if runs else "",
        cells[: -most_cells - 1 : -1], ended, _chart(points, forecast) if len(points) + len(forecast) > 1 else None,
    )  # fmt: skip


def _name(run: Measurement) -> str:
    work = run.case.workload
    return f"{run.case.deployment.label}: {work.input_tokens:g}→{work.output_tokens:g}, {work.load_label}"


def _chart(points: Sequence[tuple[float, float, str]], forecast: Sequence[tuple[float, float]]) -> dict[str, object]:
    errors = [point[1] for point in points]
    medians = [float(np.median(errors[max(0, i + 1 - WINDOW) : i + 1])) for i in range(len(errors))]
    x = [point[0] for point in points]
    none: list[None] = [None] * len(points)
    said = [point[2] for point in points]
    line = {"x": x, "value": medians, "low": none, "high": none, "load": said, "provenance": ["median"] * len(x)}
    checked = {"x": x, "y": errors, "load": said, "provenance": ["checked"] * len(x), "n_rows": [1] * len(x)}
    return {
        "title": "Error of each forecast when its cell was measured, and the median of the last eight"
        + (", and the error to expect over all cells" if forecast else ""),
        "x": {"label": "Seconds spent", "log": False},
        "y": {"label": "Error (%)", "log": True},
        "level": 0,
        "series": [{"name": "forecasts checked", "line": line, "points": checked}, *_forecast(forecast)],
    }


def _forecast(forecast: Sequence[tuple[float, float]]) -> list[dict[str, object]]:
    if not forecast:
        return []
    n = len(forecast)
    none: list[None] = [None] * n
    line = {
        "x": [spent_s for spent_s, _ in forecast], "value": [100 * error for _, error in forecast], "low": none,
        "high": none, "load": ["all cells"] * n, "provenance": ["forecast"] * n,
    }  # fmt: skip
    none_yet: list[object] = []
    points = {"x": none_yet, "y": none_yet, "load": none_yet, "provenance": none_yet, "n_rows": none_yet}
    return [{"name": "error to expect", "line": line, "points": points}]
