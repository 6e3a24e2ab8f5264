"""Cards as one HTML file that needs no network: text, tables and charts, with what draws them inside.

Everything shown is escaped. The policy in the page's head allows only the scripts written here, by their hash, and
no request at all, so that a hostile name could do nothing even if it got through.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.resources
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import fewmark
from fewmark.core.cards import Card, Chart, Series, Table
from fewmark.reporting.display import Quantity, is_number, quantity, show_value

SHORT: Final = 16  # characters
TABS: Final = "Metric"  # the facet of a chart that has tabs
COMPRESSED: Final = 200_000  # characters of data from which they are compressed


@dataclass(frozen=True, slots=True)
class _Figure:
    """Charts that share one place on the page: the reader chooses among them."""

    key: str
    chooser: str | None
    charts: tuple[Chart, ...]

    @property
    def tabs(self) -> list[str]:
        """The metrics that the reader has tabs for; none where there is one."""
        found = self._values(TABS)
        return found if len(found) > 1 else []

    @property
    def pickers(self) -> list[tuple[str, list[str]]]:
        """What else the charts may be chosen by, each with its values."""
        names = dict.fromkeys(name for chart in self.charts for name, _ in chart.facets if name != TABS)
        return [(name, sorted(values, key=str.casefold)) for name in names if len(values := self._values(name)) > 1]

    def _values(self, facet: str) -> list[str]:
        return list(dict.fromkeys(dict(c.facets)[facet] for c in self.charts if facet in dict(c.facets)))

    @property
    def first(self) -> int:
        """Which chart is shown at first: the one with the most values."""
        sizes = [sum(len(series.x) for series in chart.series) for chart in self.charts]
        return sizes.index(max(sizes))


def render_html(cards: Sequence[Card], title: str) -> str:
    """One self-contained HTML file that shows the cards."""
    numbers = itertools.count(1)
    views: list[dict[str, object]] = []
    data: dict[str, object] = {}
    for index, card in enumerate(cards, start=1):
        figures = tuple(_figures(card, numbers))
        for figure in figures:
            data[figure.key] = [_chart_data(chart) for chart in figure.charts]
        views.append(
            {
                "id": f"part-{index}",
                "card": card,
                "paragraphs": [part for part in card.text.split("\n\n") if part.strip()],
                "tables": [_table_view(table) for table in card.tables],
                "charts": figures,
            }
        )
    scripts = [_plotly(), _resource("report.js")] if data else []
    packed = _script_json(data)
    is_packed = len(packed) > COMPRESSED
    if is_packed:
        packed = base64.b64encode(gzip.compress(packed.encode(), 9, mtime=0)).decode("ascii")
    environment = Environment(
        loader=PackageLoader("fewmark.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=title,
        views=views,
        data=Markup(packed),
        data_type="application/gzip" if is_packed else "application/json",
        styles=Markup(_resource("report.css")),
        scripts=[Markup(script) for script in scripts],
        script_hashes=[_hash(script) for script in scripts],
        version=fewmark.__version__,
    )


def _figures(card: Card, numbers: Iterator[int]) -> Iterator[_Figure]:
    groups: dict[str, list[Chart]] = {}
    for chart in card.charts:
        groups.setdefault(chart.group or f"\0{len(groups)}", []).append(chart)
    for charts in groups.values():
        yield _Figure(f"chart-{next(numbers)}", charts[0].group, tuple(charts))


def _table_view(table: Table) -> dict[str, object]:
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    shown = [quantity(name, values) for name, values in zip(table.columns, columns, strict=True)]
    return {
        "title": table.title,
        "columns": [item.label for item in shown],
        "kinds": [_kind(values) for values in columns],
        "rows": [[show_value(q.show(value)) for q, value in zip(shown, row, strict=True)] for row in table.rows],
    }


def _kind(values: Sequence[object]) -> str:
    """The class of a column's cells: numbers, short texts that stay on one line, or text."""
    if any(map(is_number, values)):
        return "number"
    return "short" if all(len(show_value(value)) <= SHORT for value in values) else "text"


def _chart_data(chart: Chart) -> dict[str, object]:
    x = quantity(chart.x_name, (value for series in chart.series for value in series.x))
    y = quantity(chart.y_name, (value for series in chart.series for value in series.y))
    if chart.diagonal:  # both axes show the same quantity, and must share its scale
        y = quantity(chart.y_name, (value for series in chart.series for value in series.x))
    categorical = not all(is_number(value) for series in chart.series for value in series.x)
    return {
        "title": chart.title,
        "x": {"label": x.label, "type": "category" if categorical else "log" if chart.log_x else "linear"},
        "y": {"label": y.label, "type": "log" if chart.log_y else "linear"},
        "diagonal": chart.diagonal,
        **({"facets": dict(chart.facets)} if chart.facets else {}),
        "series": [_series_data(series, x, y) for series in chart.series],
    }


def _series_data(series: Series, x: Quantity, y: Quantity) -> dict[str, object]:
    out = {
        "name": series.name,
        "style": series.style,
        "x": [_number(x.show(value)) for value in series.x],
        "y": [_number(y.show(value)) for value in series.y],
        "low": [_number(y.show(value)) for value in series.low],
        "high": [_number(y.show(value)) for value in series.high],
        "labels": list(series.labels),
    }
    return {key: value for key, value in out.items() if value or key not in ("low", "high", "labels")}


def _number(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, int) else str(value)


def _script_json(value: object) -> str:
    # Inside <script>, HTML ends at "</script" and changes its rules at "<!--", whatever the JSON says.
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _plotly() -> str:
    script = importlib.resources.files("fewmark.reporting").joinpath("vendor", "plotly", "plotly-basic.min.js")
    return script.read_text(encoding="utf-8").replace("</script", "<\\/script")


def _resource(name: str) -> str:
    return importlib.resources.files("fewmark.reporting").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
