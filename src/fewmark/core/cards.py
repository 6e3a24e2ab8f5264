"""Cards: what a report shows, as data. Whoever computes a result makes a card of it; the report only draws."""

from __future__ import annotations

from dataclasses import dataclass, field

from fewmark.core.values import Advice


@dataclass(frozen=True, slots=True)
class Table:
    """A table: a title, column names (units in the names), and rows of numbers, strings or None (unknown)."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a chart. `low` and `high`, where given, are the ends of an interval for each point."""

    name: str
    x: tuple[object, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    style: str = "points"  # points | line | band | bars | highlight
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: a title, axis names, series. `group` lets the reader choose one of several charts.

    `facets` are what a reader may choose a group's charts by, as pairs of a name and this chart's value.
    """

    title: str
    x_name: str
    y_name: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    diagonal: bool = False
    group: str | None = None
    facets: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """One part of a report: a heading, a few sentences, key figures, tables, charts, warnings."""

    kind: str
    title: str
    text: str = ""
    figures: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    advice: tuple[Advice, ...] = ()
    data: object = field(default=None)
