"""Single cells as people write them: numbers with units and prefixes; words for unknown and for failures."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from fewmark.core import FormatError, Status
from fewmark.interop.dialects.headers import COUNT, UNITS, fold
from fewmark.interop.text.decimal_mark import MAX_CELL, NUMBER, ambiguous, is_malformed, mark_of

UNKNOWN_WORDS: Final = frozenset(
    (
        *("", "-", "--", "---", "–", "—", "n/a", "na", "n.a.", "#n/a", "#n/a n/a", "nan", "null", "none", "nil"),
        *("unknown", "?", "tbd", "not available", "not measured", "not reported", "n/m", ".", "<na>", "nat"),
    )
)
_WORDS: Final = {
    Status.OK: (
        *("ok", "okay", "success", "succeeded", "successful", "pass", "passed", "done", "completed", "complete"),
        *("finished", "good", "true", "yes", "y"),
    ),
    Status.OUT_OF_MEMORY: (
        *("oom", "out of memory", "outofmemory", "cuda oom", "cuda out of memory", "out_of_memory", "oom error"),
        *("gpu oom", "hip out of memory", "does not fit", "oom killed", "oomkilled", "outofmemoryerror"),
    ),
    Status.TIMEOUT: ("timeout", "timed out", "time out", "timedout", "deadline exceeded"),
    Status.CRASHED: (
        *("crashed", "crash", "failed", "fail", "failure", "error", "err", "exception", "segfault", "killed", "died"),
        *("false", "no", "aborted"),
    ),
    Status.UNSUPPORTED: ("unsupported", "not supported", "not_supported", "n/s", "not implemented"),
    Status.INVALID: (
        *("invalid", "skipped", "skip", "pending", "cancelled", "canceled", "incomplete", "not run", "running"),
        *("interrupted", "partial", "queued"),
    ),
}
STATUS_WORDS: Final = {word: status for status, words in _WORDS.items() for word in words}
_PREFIXES: Final = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_OOM: Final = re.compile(r"\boom\b")


@dataclass(frozen=True)
class Notation:
    """How a table writes numbers: its decimal mark, or None where no number tells."""

    decimal: str | None = None


def is_unknown_word(text: str) -> bool:
    """Whether a cell's text says that nothing is known."""
    return text.strip().lower() in UNKNOWN_WORDS


def status_of(text: str) -> Status | None:
    """The status that a word such as "OOM", "success" or "CUDA out of memory" says; None if it says none."""
    folded = " ".join(text.strip().lower().replace("_", " ").split())
    if folded in STATUS_WORDS:
        return STATUS_WORDS[folded]
    if len(folded) <= 300 and ("out of memory" in folded or "outofmemory" in folded or _OOM.search(folded)):
        return Status.OUT_OF_MEMORY
    found = STATUS_WORDS.get(folded.replace(" ", "_"))
    return found if found is not None else STATUS_WORDS.get(re.split(r"[:(,;]", folded, maxsplit=1)[0].strip())


def parse_quantity(
    text: str, name: str, row: int, kind: str, factor: float | None, notation: Notation
) -> tuple[float, bool]:
    """The number behind a cell, in the canonical unit, and whether the cell itself named the unit.

    Parameters
    ----------
    text, name, row : the cell, its column's name and 1-based data row, for the message
    kind : what the column holds, one of the kinds of `fewmark.interop.dialects.headers`
    factor : what a number without unit is multiplied with; None is 1, to be decided later

    Raises
    ------
    FormatError
        If the cell is no number, has a unit of something else, or can be read in two ways.
    """
    try:
        plain = float(text) if "_" not in text else math.nan
    except ValueError:
        plain = math.nan
    stripped = text.strip()
    if math.isfinite(plain) and not (notation.decimal == "," and "." in stripped):
        return scaled(plain, factor), False
    if is_unknown_word(stripped):
        return math.nan, False
    match = NUMBER.fullmatch(stripped) if len(stripped) <= MAX_CELL else None
    if match is None or "_" in match["digits"]:
        raise FormatError(
            f"row {row}: {name} must be a finite number", got=text, hint="leave the cell empty where it is unknown"
        )
    number = _plain_number(match["digits"].strip(), text, name, row, notation)
    value = float(f"{number}{match['exponent'] or ''}")
    if match["sign"] in ("-", "−"):
        value = -value
    value *= _PREFIXES[match["prefix"]] if match["prefix"] else 1.0
    if not math.isfinite(value):
        raise FormatError(f"row {row}: {name} must be a finite number", got=text)
    if match["unit"] is None:
        return scaled(value, factor), False
    return scaled(value, _unit_factor(match["unit"], text, name, row, kind)), True


def scaled(value: float, factor: float | None) -> float:
    """The value in the canonical unit; 41.2 ms are 0.0412 s, not 0.041200000000000004 s."""
    if factor is None or factor == 1.0:
        return value
    return value / round(1 / factor) if factor < 1 else value * factor


def _unit_factor(unit: str, text: str, name: str, row: int, kind: str) -> float:
    spelled = fold(unit.replace("/", "_").replace("per", "_per_"))
    if kind == COUNT and spelled in ("tokens", "tok", "token", "gpus", "gpu", "users", "requests"):
        return 1.0
    found = UNITS.get(spelled)
    if found is None or found[0] != kind:
        raise FormatError(
            f"row {row}: {name} has a unit that is none of its own",
            got=text,
            hint=f"{unit.strip()!r} is not a unit of a {kind}",
        )
    return found[1]


def _plain_number(digits: str, text: str, name: str, row: int, notation: Notation) -> str:
    """The digits with a point for the decimal mark and nothing between thousands."""
    spaced = re.sub(r"(?<=\d)['’\s\u00a0\u202f](?=\d{3}(?:\D|$))", "", digits)
    mark = mark_of(spaced)
    if re.search(r"\s|['’]", spaced) or is_malformed(spaced, mark):
        raise FormatError(f"row {row}: {name} must be a finite number", got=text)
    if mark is None and ("," in spaced or "." in spaced):  # one mark, three digits behind it
        mark = notation.decimal or ("." if "." in spaced else None)
        if mark is None:
            raise ambiguous(name, text)
    if mark is None:
        return spaced
    return spaced.replace("," if mark == "." else ".", "").replace(mark, ".")
