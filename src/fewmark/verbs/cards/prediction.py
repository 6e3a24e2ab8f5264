"""Cards about predictions: the curves with their bands, and how measured compares with predicted."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core import Advice, Card, Chart, Series, Table
from fewmark.core.columns import LOAD_COLUMNS
from fewmark.reporting.display import quantity
from fewmark.tables.columns import load_label, load_of
from fewmark.verbs.cards.labels import LABEL, with_labels

LENGTHS: Final = ("input_tokens", "output_tokens")
AXES: Final = ("load", *LENGTHS)
MAX_SERIES: Final = 8
PROJECTED: Final = "projected"
_SHOWN: Final = ("kind", *LOAD_COLUMNS, "value", "low", "high", "provenance", "n_rows")
Row = dict[Hashable, Any]
N_WORST: Final = 10
METRIC: Final = "Metric"
MAX_BARS: Final = 200  # points whose intervals are drawn; of more, only of those that missed
MISSED: Final = "interval missed"
ASSURANCE: Final = 0.95


def curves_card(
    measured: pd.DataFrame, predicted: pd.DataFrame, target: str, *, model: str, confidence_level: float = 0.9
) -> Card:
    """Measured and projected points and predicted curves with their bands, a chart for each deployment.

    Parameters
    ----------
    measured : DataFrame
        Cells with the target's measured values in the column of its name, unknown where not measured; ``projected``,
        if there, marks those that come from generations cut short.
    predicted : DataFrame
        Cells with ``value``, ``low``, ``high`` and ``provenance``, as `fewmark predict` writes them.
    """
    known = measured[measured[target].notna()]
    known = known.assign(kind=np.where(known["projected"], PROJECTED, "measured") if PROJECTED in known else "measured")
    answered = predicted[predicted["value"].notna()].assign(kind="predicted")
    both = with_labels(pd.concat([known, answered], ignore_index=True))
    both = both.assign(load=load_of(both))
    columns = [name for name in (*AXES, *_SHOWN, target) if name in both]
    charts = tuple(
        replace(chart, facets=((METRIC, quantity(target, ()).label.split(" (")[0]), *_facets(part.iloc[0])))
        for label, part in both.groupby(LABEL, sort=True)
        for chart in _charts_by_load(str(label), part[columns].to_dict("records"), target)
    )
    abstained = len(predicted) - len(answered)
    points = "Points were measured"
    if (known["kind"] == PROJECTED).any():
        points += "; those named 'projected' come from generations cut short"
    return Card(
        "curves",
        "Measured points and predicted curves",
        f"{points}. Lines are what the model '{model}' predicts after learning from them, and the shades "
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


def _facets(row: pd.Series) -> tuple[tuple[str, str], ...]:
    """What a deployment's charts may be chosen by."""
    known = {name: str(row[name]) for name in ("model", "engine", "accelerator") if name in row and pd.notna(row[name])}
    count = row.get("accelerator_count")
    if "accelerator" in known and pd.notna(count) and count != 1:
        known["accelerator"] = f"{count:g}×{known['accelerator']}"
    return tuple((name.capitalize(), known.get(name, "unknown")) for name in ("model", "engine", "accelerator"))


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
    outside = (answered[target] < answered["low"]) | (answered[target] > answered["high"])
    has_bars = len(answered) <= MAX_BARS
    series = tuple(
        Series(
            f"{provenance}, {MISSED}" if missed else str(provenance),
            _values(part[target]),
            _values(part["value"]),
            _values(part["low"]) if has_bars or missed else (),
            _values(part["high"]) if has_bars or missed else (),
            style="points",
            labels=tuple(_cell_text(row) for row in part.to_dict("records")),
        )
        for (missed, provenance), part in answered.groupby([outside, "provenance"], sort=True)
    )
    chart = Chart(
        "Predicted against measured", f"measured_{target}", f"predicted_{target}", series, True, True, diagonal=True
    )
    how += _criterion(held, confidence_level)
    return Card(
        "accuracy",
        "Measured against predicted",
        f"{how} On the dashed line, both are equal; a bar is an interval, and one that does not reach the line missed. "
        "APE is the absolute error over the measured value.",
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


def _criterion(held: NDArray[np.bool_], confidence_level: float) -> str:
    """How many intervals held, and how few may, if they keep what they promise."""
    if not len(held):
        return ""
    from scipy.stats import binom

    least = int(binom.ppf(1 - ASSURANCE, len(held), confidence_level))
    verdict = "so the intervals keep their promise" if held.sum() >= least else "so the intervals promise too much"
    return (
        f" {held.sum():,} of {len(held):,} intervals of {confidence_level:.0%} held; if they keep their promise, "
        f"{least:,} or more do with a probability of {ASSURANCE:.0%}, {verdict}."
    )


def _metric_columns(target: str) -> tuple[str, ...]:
    return tuple(f"{kind}_{target}" for kind in ("measured", "predicted", "low", "high"))


def has_load_curves(cells: pd.DataFrame) -> bool:
    """Whether at least half of a deployment's cells lie on a curve along the load."""
    return _mostly_on_curves(cells.assign(load=load_of(cells))[list(AXES)].to_dict("records"))


def _mostly_on_curves(rows: list[Row]) -> bool:
    return 2 * len(_on_curves(rows, "load")) >= len(rows)


def _on_curves(rows: list[Row], across: str) -> list[Row]:
    """The rows that share their other axes with a row elsewhere along this one."""
    others = [axis for axis in AXES if axis != across]
    seen: dict[tuple[float, ...], set[float]] = {}
    for row in rows:
        seen.setdefault(tuple(row[axis] for axis in others), set()).add(row[across])
    return [row for row in rows if len(seen[tuple(row[axis] for axis in others)]) >= 2]


def _charts_by_load(label: str, rows: list[Row], target: str) -> Iterator[Chart]:
    """The charts of each kind of load by itself: they share no axis."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(_axis_name("load", [row]), []).append(row)
    for name, some in sorted(kinds.items()):
        yield from _charts(label if len(kinds) == 1 else f"{label} · by {name.replace('_', ' ')}", some, target)


def _charts(label: str, rows: list[Row], target: str) -> Iterator[Chart]:
    if _mostly_on_curves(rows):
        yield from _length_charts(label, rows, target)
        return
    sweeps = {across: _on_curves(rows, across) for across in AXES}
    if not any(sweeps.values()):
        yield _chart(label, rows, "load", (), target)
    for across, some in sweeps.items():
        if some:
            others = tuple(axis for axis in (*LENGTHS, "load") if axis != across)
            yield _chart(f"{label} · along {_axis_name(across, some).replace('_', ' ')}", some, across, others, target)


def _length_charts(label: str, rows: list[Row], target: str) -> Iterator[Chart]:
    if len({(row["input_tokens"], row["output_tokens"]) for row in rows}) <= MAX_SERIES:
        yield _chart(label, rows, "load", LENGTHS, target)
        return
    values = {axis: sorted({row[axis] for row in rows}) for axis in LENGTHS}
    by = min(LENGTHS, key=lambda axis: (len(values[axis]), axis == "input_tokens"))
    for value in values[by]:
        some = [row for row in rows if row[by] == value]
        yield _chart(f"{label} · {_axis_text(by, value, some)}", some, "load", LENGTHS, target)


def _chart(title: str, rows: list[Row], across: str, others: tuple[str, ...], target: str) -> Chart:
    groups: dict[tuple[float, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (*(row[axis] for axis in others), row[across])):
        groups.setdefault(tuple(row[axis] for axis in others), []).append(row)
    series: list[Series] = []
    for key, some in groups.items():
        fixed = zip(others, key, strict=True)
        name = " · ".join(_axis_text(axis, value, some) for axis, value in fixed) or "mixed lengths"
        parts = ([row for row in some if row["kind"] == kind] for kind in ("predicted", "measured", PROJECTED))
        series.extend(_series(name, part, across, target) for part in parts if part)
    return Chart(title, _axis_name(across, rows), target, tuple(series), log_x=True, log_y=True, group="Deployment")


def _series(name: str, rows: list[Row], across: str, target: str) -> Series:
    x = tuple(row[across] for row in rows)
    if (kind := rows[0]["kind"]) != "predicted":
        name = f"{name} · {PROJECTED}" if kind == PROJECTED else name
        return Series(name, x, tuple(row[target] for row in rows), style="points", labels=tuple(map(_point_text, rows)))
    value, low, high = (tuple(_plain(row[column]) for row in rows) for column in ("value", "low", "high"))
    return Series(name, x, value, low, high, "line", tuple(str(row["provenance"]) for row in rows))


def _axis_text(axis: str, value: float, rows: list[Row]) -> str:
    if axis == "load":
        return load_label({_axis_name(axis, rows): value})
    return f"{value:g} {'in' if axis == 'input_tokens' else 'out'}"


def _axis_name(axis: str, rows: list[Row]) -> str:
    if axis != "load":
        return axis
    first = rows[0]
    return next((name for name in LOAD_COLUMNS if name in first and not pd.isna(first[name])), "batch_size")


def _point_text(row: Row) -> str:
    n_rows = row.get("n_rows")
    repeats = "" if n_rows is None or pd.isna(n_rows) or n_rows < 2 else f", median of {n_rows:g} rows"
    return f"{row['kind']} at {row['input_tokens']:g} in, {row['output_tokens']:g} out{repeats}"


def _cell_text(row: Row) -> str:
    load = load_label(row)
    ends: str = "" if pd.isna(row["low"]) else f", interval {row['low']:.4g} to {row['high']:.4g}"
    return f"{row[LABEL]}: {row['input_tokens']:g} in, {row['output_tokens']:g} out, {load}{ends}"


def _values(column: pd.Series) -> tuple[float | None, ...]:
    return tuple(None if pd.isna(value) else float(value) for value in column)


def _plain(value: float | None) -> float | None:
    return None if isinstance(value, float) and pd.isna(value) else value
