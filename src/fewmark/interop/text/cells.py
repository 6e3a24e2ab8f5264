"""Single cells: text to number, value to text, and back without loss."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import SupportsFloat, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core import FormatError
from fewmark.core.cells import Cell
from fewmark.core.json_types import Json
from fewmark.core.text import encodable
from fewmark.tables.arrays import ObjectArray

UNKNOWN_LABELS = frozenset(("-", "--", "–", "—", "n/a", "#n/a", "nan", "null", "?", "unknown"))  # in lower case
ColumnArray: TypeAlias = NDArray[np.float64] | NDArray[np.object_]
LARGEST = float(np.finfo(np.float64).max)
_PLAIN_NUMBERS = frozenset((float, int, type(None)))
EXACT_INTEGER = 2**53  # beyond it a float64 no longer tells neighbouring integers apart


def is_unknown(value: object) -> bool:
    """Whether a cell says nothing: None, NaN, NA, or blank text."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str) and not value.strip()


def parse_number(value: object, name: str, row: int) -> float:
    """A finite float; NaN where the cell is empty. `row` is the 1-based data row, for the message.

    Raises
    ------
    FormatError
        If the cell holds anything else, such as text, ``nan`` or ``inf``.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    number = math.inf
    if isinstance(value, str):
        text = value.strip()
        if "_" not in text:  # Python reads 1_000; other tools do not
            try:
                number = float(text)
            except ValueError:
                number = math.inf
    elif isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    if not math.isfinite(number):
        raise FormatError(
            f"row {row}: {name} must be a finite number", got=value, hint="leave the cell empty where it is unknown"
        )
    return number


def text_to_cell(text: str) -> Json:
    """The value behind the text of a foreign column: a number, a truth value, or the text itself; empty is None."""
    if not text.strip():
        return None
    value = _scalar_of_json(text)
    return text if value is None else value


def cell_to_text(value: object) -> str:
    """The text from which `text_to_cell` gets the value back."""
    if is_unknown(value) and not isinstance(value, str):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, float, np.integer, np.floating)):
        return number_to_text(float(value) if isinstance(value, (float, np.floating)) else int(value))
    text = str(value)
    plain = text == text.strip() and text.isprintable() and text and _scalar_of_json(text) is None
    return text if plain else json.dumps(text)


def label_to_cell(text: str) -> str | None:
    """The value behind the text of a label (an engine, a model…): always text, without surrounding blanks."""
    if text.startswith('"') and isinstance(value := _scalar_of_json(text), str):
        return value
    return text.strip() or None


def label_to_text(value: object) -> str:
    """The text from which `label_to_cell` gets the label back."""
    if is_unknown(value):
        return ""
    text = str(value)
    plain = text == text.strip() and text.isprintable() and not text.startswith('"')
    return text if plain and text.lower() not in UNKNOWN_LABELS else json.dumps(text)


def number_to_text(value: float) -> str:
    """The shortest text that reads back as the same number; whole numbers without a fraction."""
    number = value
    if isinstance(number, float) and number.is_integer() and abs(number) <= EXACT_INTEGER:
        number = int(number)
    return repr(number) if isinstance(number, float) else str(number)


def to_float(value: Cell) -> float:
    """The float behind a cell that is a number or the text of one. Raises `TypeError` or `ValueError` if it is none."""
    if not isinstance(value, (str, SupportsFloat)):
        raise TypeError(f"{type(value).__name__} is no number")
    return float(value)


def objects(values: Sequence[object]) -> ObjectArray:
    """The values as they are, (n,); lists among them stay single entries."""
    return np.fromiter(values, dtype=object, count=len(values))


def tidy_column(values: Sequence[Cell]) -> ColumnArray:
    """A foreign column: float64 if every known value is a number that float64 holds exactly, else objects and None."""
    if (kinds := set(map(type, values))) <= _PLAIN_NUMBERS and kinds != {type(None)}:
        try:
            numbers = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
        except OverflowError:
            numbers = np.array([math.inf])
        if (np.abs(numbers[~np.isnan(numbers)]) <= (EXACT_INTEGER if int in kinds else LARGEST)).all():
            return numbers if not np.isnan(numbers).all() else objects([None] * len(values))
    known = [value for value in values if not (is_unknown(value) and not isinstance(value, str))]
    if known and all(_is_exact_number(value) for value in known):
        return np.array([math.nan if is_unknown(value) else to_float(value) for value in values], dtype=np.float64)
    return objects(
        [encodable(value) if isinstance(value, str) else None if is_unknown(value) else value for value in values]
    )


def option_to_cell(value: Json) -> Json:
    """The cell for an option's JSON value: scalars as they are, lists and mappings as JSON text."""
    if isinstance(value, str):
        return json.dumps(value) if isinstance(_json(value), (str, list, dict)) else value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return json.dumps(value, sort_keys=True)


def cell_to_option(value: Json) -> Json:
    """The JSON value behind `option_to_cell`'s cell; None is unknown."""
    if isinstance(value, str):
        parsed = _json(value)
        return parsed if isinstance(parsed, (str, list, dict)) else value
    if is_unknown(value):
        return None
    if isinstance(value, np.generic):
        return value.item()
    return value


def _is_exact_number(value: object) -> bool:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    if isinstance(value, (int, np.integer)):
        return abs(int(value)) <= EXACT_INTEGER
    return math.isfinite(value)


def _scalar_of_json(text: str) -> Json:
    value = _json(text)
    return value if isinstance(value, (str, bool, int, float)) else None


def _json(text: str) -> Json:
    """The finite JSON value of a text, or None if it has none."""
    try:
        value: Json = json.loads(text, parse_constant=_refuse)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return value


def _refuse(name: str) -> Json:
    raise ValueError(name)
