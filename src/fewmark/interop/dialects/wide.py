"""Wide tables, with a column for each batch size or concurrency, made long: one row a cell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fewmark.core import FormatError
from fewmark.core.cells import Columns
from fewmark.core.json_types import Json
from fewmark.interop.dialects.headers import COUNT, LABEL, STATUS, Meaning, fold, meaning_of
from fewmark.interop.dialects.notation import is_unknown_word
from fewmark.interop.text.cells import is_unknown

MAX_ROWS: Final = 2_000_000  # of the long table
METRIC_COLUMNS: Final = ("metric", "measure", "kpi", "quantity", "statistic_name")
_LOAD: Final = (
    r"(?P<load>batch[ _-]?size|batch|bsz?|max[ _-]?concurrency|concurrency|concurrent[ _-](?:users|requests)"
    r"|conc|users)"
)
_NUMBER: Final = r"(?P<n>\d{1,7})"
_PATTERNS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?P<metric>.*?)[\s_@,;:(\[|/-]*\b{_LOAD}\s*[=:_ -]*\s*{_NUMBER}\s*[)\]]?",
        rf"(?P<metric>.*?_){_LOAD}[=_]?{_NUMBER}",
        rf"{_LOAD}\s*[=:_ -]*\s*{_NUMBER}[\s_@,;:|/-]+(?P<metric>.+)",
    )
)


@dataclass(frozen=True)
class Wide:
    """One column of a wide table: its name, what its values are (own words), and the load that it is for."""

    own: str
    metric: str
    load: str
    value: int


def wide_columns(names: Sequence[str]) -> list[Wide]:
    """The columns that stand for a load each; empty unless there are two of them."""
    found = [item for name in names if meaning_of(name) is None and (item := _wide(name)) is not None]
    return found if len({item.value for item in found}) > 1 else []


def bare_loads(names: Sequence[str]) -> list[str]:
    """Names that are mere numbers, as a spreadsheet's pivot has them; empty unless there are two of them."""
    found = [name for name in names if re.fullmatch(r"\d{1,7}", name.strip())]
    return found if len(found) > 1 else []


def melt(columns: Columns, value: Meaning | None = None) -> tuple[dict[str, list[Json]], list[str] | None]:
    """The long table, and where each of its rows stood ("row 1, column batch_size=8"); as it is if it is not wide.

    Parameters
    ----------
    value : what the cells are, where neither the columns' names nor a column of metrics says so

    Raises
    ------
    FormatError
        If nothing says which metric the values are, or which load the columns.
    """
    wide = wide_columns(list(columns))
    if not wide:
        bare = bare_loads(list(columns))
        if bare and not any(_is_load(name) for name in columns):
            raise FormatError(
                f"the columns {', '.join(bare[:4])} are numbers, and nothing says of what",
                hint="name them batch_size=1, batch_size=8 … or concurrency=1 …, with the metric before it",
            )
        return {name: list(cells) for name, cells in columns.items()}, None
    loads = {item.load for item in wide}
    metric_column = next((name for name in columns if fold(name) in METRIC_COLUMNS), None)
    shown = ", ".join(item.own for item in wide[:4])
    if len(loads) > 1:
        raise FormatError(f"the columns {shown} give several kinds of load", hint="one of batch_size and concurrency")
    for item in wide:
        _require_metric(item, metric_column, value, shown)
    kept = [name for name in columns if name not in {item.own for item in wide} and name != metric_column]
    n_rows = max(len(cells) for cells in columns.values())
    if n_rows * len(wide) > MAX_ROWS:
        raise FormatError("a wide table has too many cells", got=n_rows * len(wide), hint="import it in parts")
    rows, places = _rows(columns, wide, kept, metric_column, value, n_rows)
    if not rows:
        raise FormatError(f"the columns {shown} have no value in any row")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}, places


def _wide(name: str) -> Wide | None:
    if len(name) > 120:
        return None
    for pattern in _PATTERNS:
        match = pattern.fullmatch(name.strip())
        if match is not None:
            meaning = meaning_of(match["load"])
            if meaning is not None and int(match["n"]) > 0:
                return Wide(name, match["metric"].strip(" _@,;:([|/-"), meaning.column, int(match["n"]))
    return None


def _is_load(name: str) -> bool:
    meaning = meaning_of(name)
    return meaning is not None and meaning.column in ("batch_size", "concurrency")


def _is_metric(meaning: Meaning | None) -> bool:
    return meaning is not None and meaning.kind not in (COUNT, LABEL, STATUS)


def _require_metric(item: Wide, metric_column: str | None, value: Meaning | None, shown: str) -> None:
    if item.metric:
        if not _is_metric(meaning_of(item.metric)):
            raise FormatError(
                f"{item.own}: {item.metric!r} is not a known metric",
                hint=f"such as throughput_tok_s {item.load}={item.value}, ttft_ms {item.load}={item.value}",
            )
    elif metric_column is None and value is None:
        raise FormatError(
            f"the columns {shown} have a value for each {item.load}, and nothing says of what",
            hint=f"name them throughput_tok_s {item.load}={item.value} (or ttft_ms …, e2e_latency_s …), or say so with "
            "--map",
        )


def _rows(
    columns: Columns,
    wide: list[Wide],
    kept: list[str],
    metric_column: str | None,
    value: Meaning | None,
    n_rows: int,
) -> tuple[list[dict[str, Json]], list[str]]:
    rows: dict[tuple[object, ...], dict[str, Json]] = {}
    places: dict[tuple[object, ...], str] = {}
    for position in range(n_rows):
        shared = {name: columns[name][position] for name in kept}
        named = str(columns[metric_column][position]).strip() if metric_column is not None else ""
        if metric_column is not None and not _is_metric(meaning_of(named)):
            raise FormatError(f"row {position + 1}: {metric_column} is not a known metric", got=named)
        for item in wide:
            cell = columns[item.own][position]
            if is_unknown(cell) or (isinstance(cell, str) and is_unknown_word(cell)):
                continue
            # Rows that differ in their metric alone are one cell.
            key = (*map(str, shared.values()), item.value) if metric_column is not None else (position, item.value)
            row = rows.setdefault(key, {**shared, item.load: item.value})
            places.setdefault(key, f"row {position + 1}, column {item.own}")
            row[item.metric or named or (value.column if value is not None else "")] = cell
    return list(rows.values()), [places[key] for key in rows]
