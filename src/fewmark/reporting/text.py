"""Cards as Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from fewmark.core.cards import Card, Chart, Table
from fewmark.reporting.display import is_number, quantity, show_value

JSON_VERSION: Final = 1
_MARKDOWN_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def render_json(cards: Sequence[Card], title: str) -> str:
    """The cards as they are, in the units of their names; unknown and not finite are null."""
    content = {"version": JSON_VERSION, "title": title, "cards": [_plain(dataclasses.asdict(card)) for card in cards]}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def render_markdown(cards: Sequence[Card], title: str) -> str:
    """The cards as Markdown; a chart becomes the table of its values."""
    blocks = [f"# {_escape(title)}"]
    for card in cards:
        blocks.append(f"## {_escape(card.title)}")
        if card.text:
            blocks.append(_escape(card.text, keep_lines=True))
        blocks.extend(f"> **{_escape(advice.message)}** {_escape(advice.hint)}".rstrip() for advice in card.advice)
        if card.figures:
            blocks.append("\n".join(f"- {_escape(name)}: **{_escape(value)}**" for name, value in card.figures))
        blocks.extend(_markdown_table(table) for table in card.tables)
        blocks.extend(_markdown_table(values_table(chart)) for chart in card.charts)
    return "\n\n".join(blocks) + "\n"


FORMULA_STARTS: Final = frozenset("=+-@\t\r")


def render_csv(cards: Sequence[Card], title: str) -> str:
    """The cards as one long table, a row a value: card, part, item, row, column, value. `title` is not written."""
    del title
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("card", "part", "item", "row", "column", "value"))
    for card in cards:
        for name, value in card.figures:
            writer.writerow(_inert((card.title, "figure", name, "", "", value)))
        for advice in card.advice:
            writer.writerow(
                _inert((card.title, "advice", advice.code, "", "", f"{advice.message} {advice.hint}".rstrip()))
            )
        for part, tables in (("table", card.tables), ("chart", map(values_table, card.charts))):
            for table in tables:
                for row, column, cell in _long(table):
                    writer.writerow(_inert((card.title, part, table.title, row, column, cell)))
    return out.getvalue()


def _inert(row: Sequence[object]) -> list[object]:
    """The row with an apostrophe before each text that a spreadsheet would take for a formula."""
    return [f"'{cell}" if isinstance(cell, str) and cell[:1] in FORMULA_STARTS else cell for cell in row]


def values_table(chart: Chart) -> Table:
    """A chart's values as a table: its text alternative."""
    intervals = any(series.low or series.high for series in chart.series)
    notes = any(series.labels for series in chart.series)
    columns = (
        "series",
        chart.x_name,
        chart.y_name,
        *(("low", "high") if intervals else ()),
        *(("note",) if notes else ()),
    )
    rows = []
    for series in chart.series:
        for i, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            low = series.low[i] if series.low else None
            high = series.high[i] if series.high else None
            note = series.labels[i] if series.labels else None
            rows.append((series.name, x, y, *((low, high) if intervals else ()), *((note,) if notes else ())))
    return Table(chart.title, columns, tuple(rows))


def _long(table: Table) -> Iterator[tuple[int, str, object]]:
    for number, row in enumerate(table.rows, start=1):
        for column, value in zip(table.columns, row, strict=True):
            if value is not None and not (isinstance(value, float) and not math.isfinite(value)):
                yield number, column, value


def _markdown_table(table: Table) -> str:
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    shown = [quantity(name, values) for name, values in zip(table.columns, columns, strict=True)]
    numeric = [any(map(is_number, values)) for values in columns]
    lines = [
        f"**{_escape(table.title)}**",
        "",
        "| " + " | ".join(_escape(item.label) for item in shown) + " |",
        "|" + "|".join("--:" if right else ":--" for right in numeric) + "|",
    ]
    lines.extend(
        "| " + " | ".join(_escape(show_value(q.show(value))) for q, value in zip(shown, row, strict=True)) + " |"
        for row in table.rows
    )
    return "\n".join(lines)


def _escape(text: str, *, keep_lines: bool = False) -> str:
    escaped = _MARKDOWN_SPECIAL.sub(r"\\\1", text)
    return escaped if keep_lines else " ".join(escaped.split())


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return str(value)
