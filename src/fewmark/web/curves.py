"""Measured points and predicted curves with their bands, as what the page draws.

Notation: a curve has k points; its band is the interval at the confidence level asked for, point by point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.metrics import METRICS
from fewmark.reporting.display import quantity
from fewmark.tables.arrays import BoolArray, FloatArray, IntArray
from fewmark.tables.columns import accelerator_counts, load_kind_of, load_label, load_of, numbers_of
from fewmark.tables.identity import cell_columns
from fewmark.tables.metrics import derive
from fewmark.tables.repeats import is_complete, reduce_cells
from fewmark.web.deployments import Deployments
from fewmark.web.knowledge import Knowledge, Snapshot, plain

N_POINTS: Final = 24  # of a curve, beside those measured
LENGTHS: Final = ("input_tokens", "output_tokens")
INTERACTIVITY: Final = "interactivity"
LOADS: Final = dict(zip(LOAD_COLUMNS, ("Batch size", "Concurrency", "Request rate"), strict=True))
AXES: Final = {
    "load": "Load",
    **LOADS,
    "input_tokens": "Input tokens",
    "output_tokens": "Output tokens",
    INTERACTIVITY: "Interactivity",
}


@dataclass(frozen=True)
class View:
    """What is looked at: a metric over an axis, for some deployments, at fixed lengths; None: at those measured."""

    target: str
    axis: str
    lengths: tuple[float, float] | None
    keys: tuple[str, ...]
    confidence_level: float


def known_cells(snapshot: Snapshot, target: str) -> tuple[pd.DataFrame, Deployments]:
    """The measured cells of a metric with ``n_rows`` and ``projected``, and their deployments."""

    def make() -> tuple[pd.DataFrame, Deployments]:
        sound = snapshot.sound
        rows = derive(sound[is_complete(sound)])
        cells = reduce_cells(rows, target)
        return cells, Deployments.of(cells)

    return snapshot.remember(("known_cells", target), make)


def length_pairs(cells: pd.DataFrame) -> list[tuple[float, float, int]]:
    """The pairs of lengths that were measured, with the number of cells; those with most first."""
    counts = cells.groupby(list(LENGTHS)).size().sort_values(ascending=False, kind="stable")
    pairs = counts.index.to_frame().to_numpy(float)
    return [(float(a), float(b), int(n)) for (a, b), n in zip(pairs, counts, strict=True)]


def lengths_of(snapshot: Snapshot, target: str) -> tuple[list[tuple[float, float, int]], bool]:
    """The pairs of lengths of a metric's cells, and whether these have curves; see `length_pairs`, `has_curves`."""

    def make() -> tuple[list[tuple[float, float, int]], bool]:
        cells, _ = known_cells(snapshot, target)
        pairs = length_pairs(cells)
        return pairs, has_curves(cells, pairs[0])

    return snapshot.remember(("lengths", target), make)


def has_curves(cells: pd.DataFrame, pair: tuple[float, float, int]) -> bool:
    """Whether the commonest lengths were measured at more than one load: else each load has lengths of its own."""
    at = (cells["input_tokens"] == pair[0]) & (cells["output_tokens"] == pair[1])
    return len(np.unique(load_of(cells[at]))) > 1


def load_axes(cells: pd.DataFrame, pair: tuple[float, float] | None) -> dict[str, str]:
    """The axes of load, the commonest first: one for each kind where several were measured, since a batch of eight,
    eight users and eight requests a second have nothing in common."""
    kinds = load_kind_of(cells)
    if pair is not None:
        kinds = kinds[((cells["input_tokens"] == pair[0]) & (cells["output_tokens"] == pair[1])).to_numpy()]
    counts = pd.Series(kinds[kinds >= 0]).value_counts()
    if len(counts) < 2:
        return {"load": AXES["load"]}
    return {LOAD_COLUMNS[kind]: AXES[LOAD_COLUMNS[kind]] for kind in counts.index}


def chart(knowledge: Knowledge, snapshot: Snapshot, view: View) -> tuple[dict[str, object], bool]:
    """The chart as JSON, and whether its curves are there: while a model learns, the points alone are shown.

    Raises `InputError`, `ModelError`.
    """
    whole = knowledge.promptly(snapshot, ("chart", view), lambda: _chart(knowledge, snapshot, view))
    if whole is not None:
        return whole, True
    return _chart(None, snapshot, view), False


def _chart(knowledge: Knowledge | None, snapshot: Snapshot, view: View) -> dict[str, object]:
    per_accelerator = view.axis == INTERACTIVITY
    cells, deployments = known_cells(snapshot, view.target)
    curves = []
    for position in deployments.chosen(view.keys, len(view.keys)):
        key = ("grid", replace(view, keys=(deployments.items[position].key,)))
        own = deployments.rows(position)
        curves.append((deployments.items[position], *snapshot.remember(key, partial(_at_and_grid, cells, own, view))))
    if not curves:
        return {"series": [], "x": {"label": "", "log": True}, "y": {"label": "", "log": True}, "rows": []}
    lines = _lines(knowledge, snapshot, view, {item.key: grid for item, _, grid in curves})
    predicted = pd.concat(lines.values(), ignore_index=True)
    values = pd.concat([predicted["value"], *(fixed[view.target] for _, fixed, _ in curves)]).dropna()
    y_name = f"{view.target}" if not per_accelerator else "throughput_per_accelerator_tok_s"
    shown = quantity(y_name, values.tolist())
    series = []
    for item, fixed, _ in curves:
        line = lines[item.key]
        line = line[line["x"].notna()].sort_values("x", kind="stable").drop_duplicates("x")
        points = _points(snapshot, fixed, view)
        series.append(
            {
                "name": item.label,
                "key": item.key,
                "line": {
                    "x": _numbers(line["x"]),
                    **{name: _numbers(line[name] * shown.scale) for name in ("value", "low", "high")},
                    "provenance": line["provenance"].tolist(),
                    "load": _load_labels(line),
                },
                "points": {
                    "x": _numbers(points["x"]),
                    "y": _numbers(points["y"] * shown.scale),
                    "provenance": points["provenance"].tolist(),
                    "n_rows": points["n_rows"].astype(int).tolist(),
                    "load": _load_labels(points),
                },
            }
        )
    return {
        "title": f"{shown.label} by {AXES[view.axis].lower()}",
        "x": {"label": _axis_label(cells, view), "log": True},
        "y": {"label": shown.label, "log": True, "definition": METRICS[view.target].definition},
        "level": view.confidence_level,
        "series": series,
    }


def _lines(
    knowledge: Knowledge | None, snapshot: Snapshot, view: View, grids: Mapping[str, pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """What is predicted on the grid of each curve, by the deployment's key; those drawn before are not asked again."""
    found = {
        key: grid.iloc[:0].assign(x=0.0, value=0.0, low=0.0, high=0.0, provenance="")
        for key, grid in grids.items()
        if knowledge is None or grid.empty  # a deployment may have no cell on this axis
    }
    if knowledge is None:
        return found
    kept = {key: ("line", replace(view, keys=(key,))) for key in grids}
    found |= {key: part for key in grids if (part := snapshot.answers.get(kept[key])) is not None}
    new = [key for key in grids if key not in found]
    if new:
        cases = pd.concat([grids[key] for key in new], ignore_index=True)
        number = np.repeat(np.arange(len(new)), [len(grids[key]) for key in new])
        predicted = knowledge.predict(cases, view.target, view.confidence_level).table
        if view.axis == INTERACTIVITY:
            tpot = knowledge.predict(cases, "tpot_s", view.confidence_level).table["value"].to_numpy(float)
            counts = accelerator_counts(predicted)
            predicted = predicted.assign(x=1.0 / tpot, **{n: predicted[n] / counts for n in ("value", "low", "high")})
        else:
            predicted = predicted.assign(x=_axis(predicted, view.axis))
        for at, key in enumerate(new):
            found[key] = snapshot.remember(kept[key], partial(_rows_at, predicted, number == at))
    return {key: found[key] for key in grids}


def _at_and_grid(cells: pd.DataFrame, rows: IntArray, view: View) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The measured cells on the curve of one deployment, whose rows these are, and the cells of the curve."""
    own = cells.iloc[rows]
    fixed = own[_is_at(own, view)]
    return fixed, _grid(own, fixed, view)


def _load_labels(table: pd.DataFrame) -> list[str]:
    names = [name for name in LOAD_COLUMNS if name in table]
    return [load_label(row) for row in table[names].to_dict("records")]


def _rows_at(table: pd.DataFrame, mask: BoolArray) -> pd.DataFrame:
    return table[mask]


def _is_at(cells: pd.DataFrame, view: View) -> FloatArray:
    """Which cells lie on the curve: those of the lengths that are not the axis."""
    out = np.ones(len(cells), dtype=bool)
    if view.axis in LOADS:
        out &= load_kind_of(cells) == LOAD_COLUMNS.index(view.axis)
    if view.lengths is None:
        return out
    for name, value in zip(LENGTHS, view.lengths, strict=True):
        if view.axis != name:
            out &= numbers_of(cells, name) == value
    if view.axis in LENGTHS:  # at the load that most of its lengths were measured at
        load, kind = load_of(cells), load_kind_of(cells)
        at = pd.Series(list(zip(kind[out], load[out], strict=True))).mode()
        if len(at):
            out &= (kind == at.iloc[0][0]) & (load == at.iloc[0][1])
    return out


def _grid(own: pd.DataFrame, fixed: pd.DataFrame, view: View) -> pd.DataFrame:
    """The cells of a deployment's curve: what was measured, and points between and a doubling beyond."""
    if view.axis in LOADS:
        own = own[load_kind_of(own) == LOAD_COLUMNS.index(view.axis)]
    base = fixed if len(fixed) else own
    if base.empty:
        return base[cell_columns(base)]
    row = base[cell_columns(base)].iloc[[0]]
    if view.lengths is None:
        return base[cell_columns(base)]
    kind = LOAD_COLUMNS[int(load_kind_of(row)[0])]
    axis = view.axis if view.axis in LENGTHS else kind
    values = numbers_of(base, axis)
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    most = 2 * high if axis == "batch_size" or axis in LENGTHS else high
    between = np.geomspace(low, max(most, low), N_POINTS)
    if axis != "request_rate":
        between = np.round(between)
    points = np.unique(np.concatenate([values, between]))
    out = pd.DataFrame({name: [row[name].iloc[0]] * len(points) for name in row})
    for name, value in zip(LENGTHS, view.lengths, strict=True):
        out[name] = value
    out[axis] = points
    return out


def _axis(cells: pd.DataFrame, axis: str) -> FloatArray:
    return load_of(cells) if axis in ("load", *LOADS) else numbers_of(cells, axis)


def _axis_label(cells: pd.DataFrame, view: View) -> str:
    if view.axis == INTERACTIVITY:
        return "Interactivity (tok/s per user)"
    if view.axis in LENGTHS:
        return AXES[view.axis]
    words = ("Batch size", "Concurrency (requests in flight)", "Request rate (req/s)")
    if view.axis in LOADS:
        return words[LOAD_COLUMNS.index(view.axis)]
    kinds = set(load_kind_of(cells).tolist()) - {-1}
    return words[kinds.pop()] if len(kinds) == 1 else "Batch size, concurrency or request rate"


def _points(snapshot: Snapshot, fixed: pd.DataFrame, view: View) -> pd.DataFrame:
    """The measured points on a curve."""
    points = fixed.assign(
        y=fixed[view.target], provenance=np.where(fixed["projected"].astype(bool), "projected", "measured")
    )
    if view.axis != INTERACTIVITY:
        return points.assign(x=_axis(fixed, view.axis))
    tpot, _ = known_cells(snapshot, "tpot_s")
    columns = [name for name in cell_columns(fixed) if name in tpot]
    values = tpot.set_index([tpot[name].astype(str) for name in columns])["tpot_s"]
    keys = pd.MultiIndex.from_arrays([fixed[name].astype(str) for name in columns])
    x = 1.0 / values[~values.index.duplicated()].reindex(keys).to_numpy(float)
    return points.assign(x=x, y=points["y"] / accelerator_counts(fixed))[np.isfinite(x)]


def _numbers(values: Sequence[object] | pd.Series) -> list[float | None]:
    return [None if (number := plain(value)) is None else float(f"{number:.7g}") for value in values]
