"""Cards about predictions: the curves with their bands, and how measured compares with predicted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from fewmark.core import Advice, Card, Chart, Series, Table
from fewmark.verbs.cells import LABEL, load_of, with_labels

LENGTHS: Final = ("input_tokens", "output_tokens")
AXES: Final = ("load", *LENGTHS)
MAX_SERIES: Final = 8
N_WORST: Final = 10


def curves_card(
    measured: pd.DataFrame, predicted: pd.DataFrame, target: str, *, model: str, confidence_level: float = 0.9
) -> Card:
    """Measured points and predicted curves with their bands, a chart for each deployment.

    Parameters
    ----------
    measured : DataFrame
        Cells with the target's measured values in the column of its name, unknown where not measured.
    predicted : DataFrame
        Cells with ``value``, ``low``, ``high`` and ``provenance``, as `fewmark predict` writes them.
    """
    known = measured[measured[target].notna()].assign(kind="measured")
    answered = predicted[predicted["value"].notna()].assign(kind="predicted")
    both = with_labels(pd.concat([known, answered], ignore_index=True))
    both = both.assign(load=load_of(both))
    charts = tuple(
        chart for label, part in both.groupby(LABEL, sort=True) for chart in _charts(str(label), part, target)
    )
    abstained = len(predicted) - len(answered)
    return Card(
        "curves",
        "Measured points and predicted curves",
        f"Points were measured. Lines are what the model '{model}' predicts after learning from them, and the shades "
        f"are its {confidence_level:.0%} intervals. Click a name in the legend to hide it, drag to zoom, double-click "
        "to go back.",
        charts=charts,
        advice=(
            Advice(
                "abstained", f"The model abstains on {abstained:,} cells.", "Measure more cells of their deployments."
            ),
        )
        if abstained
        else (),
    )


def accuracy_card(checked: pd.DataFrame, target: str, *, how: str, confidence_level: float = 0.9) -> Card:
    """Measured against predicted: the points, the errors, and how many intervals held.

    Parameters
    ----------
    checked : DataFrame
        Cells with the target's measured value in the column of its name, and ``value``, ``low``, ``high`` and
        ``provenance`` of a prediction that was made without it.
    how : str
        How the predictions were made, for people.
    """
    answered = with_labels(checked[checked["value"].notna()])
    figures: list[tuple[str, str]] = [("cells checked", f"{len(answered):,}")]
    if len(checked) > len(answered):
        figures.append(("abstained", f"{len(checked) - len(answered):,}"))
    if answered.empty:
        return Card("accuracy", "Measured against predicted", f"{how} No prediction could be checked.", tuple(figures))
    ape = ((answered["value"] - answered[target]).abs() / answered[target]).to_numpy()
    ranged = answered[answered["low"].notna() & answered["high"].notna()]
    held = ((ranged[target] >= ranged["low"]) & (ranged[target] <= ranged["high"])).to_numpy()
    width = ((ranged["high"] - ranged["low"]) / ranged["value"]).to_numpy()
    figures += [("median APE", f"{np.median(ape):.1%}"), ("p90 APE", f"{np.quantile(ape, 0.9):.1%}")]
    if len(ranged):
        figures += [
            (f"{confidence_level:.0%} intervals that held", f"{held.mean():.1%}"),
            ("median relative width", f"{np.median(width):.1%}"),
        ]
    worst = answered.assign(ape_percent=100 * ape, load=load_of(answered)).nlargest(N_WORST, "ape_percent")
    columns = (LABEL, "input_tokens", "output_tokens", "load", target, "value", "low", "high", "ape_percent")
    shown = (LABEL, "input_tokens", "output_tokens", "batch_or_users", *_metric_columns(target), "ape_percent")
    series = tuple(
        Series(
            str(provenance),
            _values(part["value"]),
            _values(part[target]),
            style="points",
            labels=tuple(_cell_text(row) for row in part.to_dict("records")),
        )
        for provenance, part in answered.groupby("provenance", sort=True)
    )
    chart = Chart(
        "Measured against predicted", f"predicted_{target}", f"measured_{target}", series, True, True, diagonal=True
    )
    return Card(
        "accuracy",
        "Measured against predicted",
        f"{how} On the dashed line, both are equal. APE is the absolute error over the measured value.",
        figures=tuple(figures),
        charts=(chart,),
        tables=(
            Table(
                f"The {len(worst)} largest errors" if len(worst) > 1 else "The largest error",
                shown,
                tuple(tuple(_plain(row[name]) for name in columns) for row in worst.to_dict("records")),
            ),
        ),
    )


def _metric_columns(target: str) -> tuple[str, ...]:
    return tuple(f"{kind}_{target}" for kind in ("measured", "predicted", "low", "high"))


def has_load_curves(cells: pd.DataFrame) -> bool:
    """Whether at least half of a deployment's cells lie on a curve along the load."""
    return bool(_on_curves(cells.assign(load=load_of(cells)), "load").mean() >= 0.5)


def _on_curves(cells: pd.DataFrame, across: str) -> pd.Series:
    others = [axis for axis in AXES if axis != across]
    return cells.groupby(others)[across].transform("nunique") >= 2


def _charts(label: str, part: pd.DataFrame, target: str) -> Iterator[Chart]:
    if has_load_curves(part):
        yield from _length_charts(label, part, target)
        return
    sweeps = {across: part[_on_curves(part, across)] for across in AXES}
    if all(some.empty for some in sweeps.values()):
        yield _chart(label, part, "load", [], target)
    for across, some in sweeps.items():
        if len(some):
            others = [axis for axis in AXES if axis != across]
            yield _chart(f"{label} · along {_axis_name(across, some).replace('_', ' ')}", some, across, others, target)


def _length_charts(label: str, part: pd.DataFrame, target: str) -> Iterator[Chart]:
    if len(part[list(LENGTHS)].drop_duplicates()) <= MAX_SERIES:
        yield _chart(label, part, "load", list(LENGTHS), target)
        return
    by = min(LENGTHS, key=lambda axis: (part[axis].nunique(), axis == "input_tokens"))
    for value, some in part.groupby(by, sort=True):
        yield _chart(f"{label} · {_axis_text(by, value, part)}", some, "load", list(LENGTHS), target)


def _chart(title: str, part: pd.DataFrame, across: str, others: list[str], target: str) -> Chart:
    series = tuple(_series(part, across, others, target))
    return Chart(title, _axis_name(across, part), target, series, log_x=True, log_y=True, group="Deployment")


def _series(part: pd.DataFrame, across: str, others: list[str], target: str) -> Iterator[Series]:
    for key, some in part.groupby(others, sort=True) if others else [((), part)]:
        fixed = dict(zip(others, key, strict=True))
        name = " · ".join(_axis_text(axis, fixed[axis], part) for axis in (*LENGTHS, "load") if axis in fixed)
        name = name or "mixed lengths"
        ordered = some.sort_values(across)
        line = ordered[ordered["kind"] == "predicted"]
        if len(line):
            yield Series(
                name,
                _values(line[across]),
                _values(line["value"]),
                _values(line["low"]),
                _values(line["high"]),
                "line",
                tuple(str(provenance) for provenance in line["provenance"]),
            )
        points = ordered[ordered["kind"] == "measured"]
        if len(points):
            notes = tuple(_measured_text(row) for row in points.to_dict("records"))
            yield Series(name, _values(points[across]), _values(points[target]), style="points", labels=notes)


def _axis_text(axis: str, value: Any, part: pd.DataFrame) -> str:
    if axis == "load":
        return f"batch {value:g}" if _axis_name(axis, part) == "batch_size" else f"{value:g} users"
    return f"{value:g} {'in' if axis == 'input_tokens' else 'out'}"


def _axis_name(axis: str, part: pd.DataFrame) -> str:
    if axis != "load":
        return axis
    return "batch_size" if part["batch_size"].notna().any() else "concurrency"


def _measured_text(row: dict[Any, Any]) -> str:
    n_rows = row.get("n_rows")
    rows = "" if n_rows is None or pd.isna(n_rows) or n_rows < 2 else f", median of {n_rows:g} rows"
    return f"measured at {row['input_tokens']:g} in, {row['output_tokens']:g} out{rows}"


def _cell_text(row: dict[Any, Any]) -> str:
    load = f"batch {row['batch_size']:g}" if not pd.isna(row["batch_size"]) else f"{row['concurrency']:g} users"
    ends = "" if pd.isna(row["low"]) else f", interval {row['low']:.4g} to {row['high']:.4g}"
    return f"{row[LABEL]}: {row['input_tokens']:g} in, {row['output_tokens']:g} out, {load}{ends}"


def _values(column: pd.Series) -> tuple[float | None, ...]:
    return tuple(None if pd.isna(value) else float(value) for value in column)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and pd.isna(value) else value
