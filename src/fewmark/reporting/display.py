"""How names and numbers are shown: units in words, durations in milliseconds where that reads better. Display only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeGuard

UNKNOWN: Final = "–"
_IDENTIFIER: Final = re.compile(r"[a-z][a-z0-9_.]*")
_UNITS: Final = {
    "_tok_s": "tok/s",
    "_req_s": "req/s",
    "_s": "s",
    "_ms": "ms",
    "_w": "W",
    "_j": "J",
    "_gib": "GiB",
    "_mib": "MiB",
    "_percent": "%",
}
_WORDS: Final = {
    "ttft": "TTFT",
    "tpot": "TPOT",
    "itl": "ITL",
    "e2e": "end-to-end",
    "ape": "APE",
    "mape": "MAPE",
    "picp": "PICP",
    "cpu": "CPU",
    "gpu": "GPU",
    "id": "ID",
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A column or an axis as it is shown: its label, and what its numbers are multiplied by."""

    label: str
    scale: float = 1.0

    def show(self, value: object) -> object:
        """The value on the shown scale; None where it is unknown or not finite."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return value
        if not math.isfinite(value):
            return None
        return value if self.scale == 1.0 else float(f"{value * self.scale:.12g}")


def quantity(name: str, values: Iterable[object]) -> Quantity:
    """How the column `name` is shown, given its values (in the unit of the name)."""
    if not _IDENTIFIER.fullmatch(name):
        return Quantity(name)
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix) and name != suffix:
            stem = name.removesuffix(suffix)
            if unit == "s" and _is_short(values):
                return Quantity(f"{_words(stem)} (ms)", 1000.0)
            return Quantity(f"{_words(stem)} ({unit})")
    return Quantity(_words(name))


def show_value(value: object) -> str:
    """A value as text: about four significant digits, thousands apart, unknown as a dash."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return UNKNOWN
    if value.is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.3g}"
    digits = 3 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


def is_number(value: object) -> TypeGuard[float]:
    """Whether the value is a number, and not a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_short(values: Iterable[object]) -> bool:
    known = sorted(abs(value) for value in values if is_number(value) and math.isfinite(value))
    return bool(known) and known[len(known) // 2] < 1.0 and known[-1] < 100.0


def _words(name: str) -> str:
    words = name.removeprefix("n_").replace(".", ": ", 1).split("_")
    text = " ".join(_WORDS.get(word, word) for word in words if word)
    return text[:1].upper() + text[1:]
