"""A report's charts as SVG files, for papers and slides; drawn with matplotlib (the extra `figures`)."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fewmark.core.cards import Card, Chart, Series
from fewmark.core.errors import InputError
from fewmark.core.files import new_file
from fewmark.reporting.display import Quantity, is_number, quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

# Okabe and Ito's colours: told apart with any colour vision.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
MARKERS: Final = ("o", "s", "D", "^", "v", "*", "h")
STYLE: Final[dict[RcKeyType, object]] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "svg.hashsalt": "fewmark",
    "svg.fonttype": "none",
}
MOST_NAMED: Final = 14  # series in a legend
MOST_LETTERS: Final = 80  # of a file's name


def require(folder: Path) -> None:
    """Raises `InputError` if figures cannot be drawn, or not into that folder."""
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("figures as SVG need matplotlib", hint="pip install 'fewmark[figures]'")
    if folder.exists() and not folder.is_dir():
        raise InputError("figures are written to a folder", got=str(folder))


def write_svgs(cards: Sequence[Card], folder: Path) -> list[Path]:
    """Write every chart of the cards; the paths, in their order."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    seen: Counter[str] = Counter()
    out = []
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # texts stay texts in SVG: whoever shows them has the font
        for card in cards:
            for chart in card.charts:
                metric = dict(chart.facets).get("Metric", "")
                stem = re.sub(r"[^a-z0-9]+", "-", f"{card.kind} {metric} {chart.title}".lower()).strip("-")
                stem = stem[:MOST_LETTERS].rstrip("-")
                seen[stem] += 1
                name = stem if seen[stem] == 1 else f"{stem}-{seen[stem]}"
                out.append(folder / f"{name}.svg")
                figure = draw(chart)
                with new_file(out[-1]) as path:
                    figure.savefig(path, format="svg", metadata={"Date": None})
    return out


def draw(chart: Chart) -> Figure:
    """The chart as a matplotlib figure."""
    from matplotlib.figure import Figure

    x = quantity(chart.x_name, _all(chart.series, "x"))
    y = x if chart.diagonal else quantity(chart.y_name, _all(chart.series, "y"))
    y_label = quantity(chart.y_name, _all(chart.series, "x" if chart.diagonal else "y")).label
    figure = Figure(figsize=(5, 5) if chart.diagonal else (7, 4.2), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(series.name for series in chart.series))
    labelled: set[str] = set()
    for series in chart.series:
        place = names.index(series.name)
        look = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        name = _text(series.name) if series.name not in labelled and place < MOST_NAMED else None
        labelled.add(series.name)
        _draw(axes, series, x, y, look, name)
    numeric = all(is_number(value) for value in _all(chart.series, "x"))
    axes.set_xscale("log" if chart.log_x and numeric else "linear") if numeric else axes.tick_params("x", rotation=30)
    axes.set_yscale("log" if chart.log_y else "linear")
    if chart.diagonal:
        axes.axline((1, 1), (10, 10), color="#666666", linestyle="--", linewidth=1)
    axes.set(xlabel=_text(x.label), ylabel=_text(y_label))
    axes.set_title(_text(chart.title), fontsize=10, loc="left", wrap=True)
    if len(names) > 1:
        axes.legend(fontsize=8, loc="best")
    return figure


def _draw(axes: Axes, series: Series, x: Quantity, y: Quantity, look: dict[str, str], name: str | None) -> None:
    across: NDArray[np.float64] | list[str]  # numbers, or names where there are no numbers
    across = np.array([_number(x.show(value)) for value in series.x])
    if not all(map(is_number, series.x)):
        across = [_text(str(value)) for value in series.x]
    values = [_number(y.show(value)) for value in series.y]
    low, high = ([_number(y.show(value)) for value in ends] for ends in (series.low, series.high))
    if series.style == "bars":
        axes.bar(across, values, color=look["color"], label=name)
        return
    if low and high and series.style in ("line", "band"):
        axes.fill_between(across, low, high, color=look["color"], alpha=0.15, linewidth=0)
    if series.style == "band":
        return
    if series.style == "line":
        axes.plot(across, values, color=look["color"], linewidth=1.6, label=name)
    elif series.style == "highlight":
        axes.plot(across, values, "*", color="#d00000", markeredgecolor="white", markersize=16, label=name, zorder=5)
    else:
        size = 3 if len(values) > 400 else 6
        axes.plot(across, values, look["marker"], color=look["color"], markersize=size, label=name)
        if low and high:
            axes.vlines(across, low, high, color=look["color"], alpha=0.4, linewidth=1)


def _all(series: Iterable[Series], name: str) -> list[object]:
    return [value for one in series for value in getattr(one, name)]


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _text(text: str) -> str:
    """A text without what matplotlib takes for mathematics."""
    return text.replace("$", r"\$")
