"""The card of a comparison: the verdict, every cell's ratio with its interval, and the cells as a table."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fewmark.core import Advice, Card, Chart, Series, Table
from fewmark.core.columns import LOAD_COLUMNS
from fewmark.tables.columns import load_label
from fewmark.tables.identity import is_identity

if TYPE_CHECKING:
    from fewmark.verbs.compare import Compared

VERDICTS = ("FAIL", "INCONCLUSIVE", "PASS")


def comparison_card(found: Compared) -> Card:
    """What `fewmark compare` found, worst cells first."""
    if found.cells.empty:
        return Card("comparison", f"B against A: {found.verdict}", found.words, advice=_advice(found))
    worst = found.cells["ratio"].to_numpy() * (1 if found.higher_is_better else -1)
    cells = found.cells.iloc[np.argsort(worst, kind="stable")]
    varying = [name for name in cells if is_identity(str(name)) and cells[name].map(str).nunique() > 1]
    records = cells.to_dict("records")
    names = [_label(record, varying) for record in records]
    ratio = f"{found.metric} of B / A"
    limit = 1 - found.threshold if found.higher_is_better else 1 + found.threshold
    series = []
    for verdict in VERDICTS:
        at = [i for i, record in enumerate(records) if record["verdict"] == verdict]
        y, low, high = (tuple(_known(records[i][name]) for i in at) for name in ("ratio", "low", "high"))
        if at:
            x = tuple(i + 1 for i in at)
            series.append(Series(verdict, x, y, low, high, labels=tuple(names[i] for i in at)))
    series.append(Series("threshold", (1, len(cells)), (limit, limit), style="line"))
    columns = [name for name in cells if name not in ("equivalent", "faster")]
    titles = {"n_a": "runs of A", "n_b": "runs of B", f"{found.metric}.a": "A", f"{found.metric}.b": "B"}
    shown = tuple(titles.get(str(name), str(name)) for name in columns)
    rows = tuple(tuple(_known(record[name]) for name in columns) for record in records)
    apart = [(name, f"{_values(a)} → {_values(b)}") for name, (a, b) in found.common.compared.items()]
    return Card(
        "comparison",
        f"B against A: {found.verdict}",
        found.words,
        figures=(("A", found.names[0]), ("B", found.names[1]), *apart),
        charts=(Chart("Each cell's ratio and its interval", "cell, worst first", ratio, tuple(series)),),
        tables=(Table(f"Cells ({found.metric} of A and B)", shown, rows),),
        advice=_advice(found),
    )


_Cell = TypeVar("_Cell")


def _advice(found: Compared) -> tuple[Advice, ...]:
    return tuple(Advice("comparison", note) for note in found.notes)


def _label(record: Mapping[Hashable, object], varying: Sequence[Hashable]) -> str:
    own = {name: record[name] for name in varying if name not in LOAD_COLUMNS}
    texts = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in own.items()]
    return ", ".join([*texts, load_label(record)])


def _values(values: tuple[object, ...]) -> str:
    return ", ".join("unknown" if value is None else str(value) for value in values)


def _known(value: _Cell) -> _Cell | None:
    return None if isinstance(value, float) and not np.isfinite(value) else value
