"""Figures on a terminal: four digits, the unit in the heading, a spread or an interval in the value's own notation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

UNKNOWN: Final = "–"
DIGITS: Final = 4
MOST_PLACES: Final = 6
_SHORT: Final = {"throughput_tok_s": "tok/s", "total_throughput_tok_s": "in+out tok/s", "e2e_latency_s": "latency"}


def figure(value: float | None, places: int | None = None) -> str:
    """A number with about four digits, thousands apart; unknown as a dash."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.{places_of(value) if places is None else places}f}"


def places_of(value: float, digits: int = DIGITS) -> int:
    """The decimal places that show so many digits of a number."""
    if not value or not math.isfinite(value):
        return 0
    return min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), MOST_PLACES)


def with_spread(value: float, half: float | None) -> str:
    """``119.6 ± 3.2``; without a spread the value alone. Both have the same decimal places."""
    if half is None or not math.isfinite(half):
        return figure(value)
    places = places_of(value)
    if half > 0:  # a spread is shown with one digit at least
        places = max(places, places_of(half, 1))
    return f"{figure(value, places)} ± {figure(half, places)}"


def with_interval(value: float, low: float, high: float) -> str:
    """``119.6 [110.2, 130.0]``; without an interval the value alone. All have the same decimal places."""
    if not (math.isfinite(low) and math.isfinite(high)) or not math.isfinite(value):
        return figure(value)
    places = places_of(value)
    return f"{figure(value, places)} [{figure(low, places)}, {figure(high, places)}]"


def heading(metric: str, values: Iterable[float]) -> tuple[str, float]:
    """What a metric's column is headed, its unit in it, and what its values are multiplied by to be shown."""
    stem, scale, unit = metric, 1.0, ""
    if metric in _SHORT and not metric.endswith("_latency_s"):
        return _SHORT[metric], 1.0
    if metric.endswith("_req_s"):
        stem, unit = metric.removesuffix("_req_s"), "req/s"
    elif metric.endswith("_s"):
        known = [abs(value) for value in values if math.isfinite(value)]
        short = bool(known) and max(known) < 10
        stem, unit, scale = metric.removesuffix("_s"), "ms" if short else "s", 1e3 if short else 1.0
    words = " ".join(word.upper() if word in ("ttft", "tpot", "itl") else word for word in stem.split("_"))
    return f"{words} {unit}".replace("e2e latency", "latency").strip(), scale


def text_table(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Rows, the first of them headings, as aligned text; the columns of `left` to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
