"""The cells of one column as their meaning has them: numbers in canonical units, labels, words for failures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from fewmark.core import FormatError, Status
from fewmark.core.cells import Cell
from fewmark.core.json_types import Json
from fewmark.interop.dialects.headers import COUNT, Meaning
from fewmark.interop.dialects.notation import (
    Notation,
    is_unknown_word,
    parse_quantity,
    scaled,
    status_of,
)
from fewmark.interop.text.cells import UNKNOWN_LABELS, is_unknown, text_to_cell, to_float
from fewmark.interop.text.decimal_mark import MAX_CELL

_UNLIMITED: Final = frozenset(("inf", "infinity", "+inf", "unlimited", "max"))


def numbers(
    own: str,
    meaning: Meaning,
    given: tuple[Sequence[Cell], list[float | None] | None],
    notation: Notation,
    statuses: list[Status | None],
    notes: list[list[str]],
) -> tuple[list[float | None], list[bool]]:
    """The column's numbers in the canonical unit, and which cells named their unit themselves."""
    cells, plain = given
    if plain is not None and notation.decimal != ",":
        if meaning.factor is not None and meaning.factor != 1.0:
            plain = [None if value is None else scaled(value, meaning.factor) for value in plain]
        return plain, [False] * len(cells)
    values: list[float | None] = [None] * len(cells)
    named = [False] * len(cells)
    for position, cell in enumerate(cells):
        if cell is None or cell == "":
            continue
        row = position + 1
        if meaning.column == "request_rate" and str(cell).strip().lower() in _UNLIMITED:
            notes[position].append(f"{own} {cell}: requests are sent as soon as the concurrency allows")
            continue
        if isinstance(cell, str):
            try:
                value, named[position] = parse_quantity(cell, own, row, meaning.kind, meaning.factor, notation)
                values[position] = None if math.isnan(value) else value
            except FormatError:
                found = status_of(cell) if meaning.kind != COUNT or meaning.column in ("n_repeats",) else None
                if found is None or found is Status.OK:
                    raise
                statuses[position] = statuses[position] or found
                notes[position].append(f"{own} said {cell.strip()[:MAX_CELL]!r}")
        elif isinstance(cell, bool) or not isinstance(cell, (int, float, np.integer, np.floating)):
            raise FormatError(f"row {row}: {own} must be a number", got=cell)
        else:
            values[position] = _number(cell, own, row, meaning)
    return values, named


def foreign(cells: Sequence[Json]) -> list[Json]:
    """The values of a column that nobody understood; equal texts are read once."""
    read = {cell: text_to_cell(cell) for cell in {cell for cell in cells if isinstance(cell, str)}}
    return [read[cell] if isinstance(cell, str) else cell for cell in cells]


def floats(cells: Sequence[Cell]) -> list[float | None] | None:
    """The numbers of a column of texts that are all plain ones, or empty; None where a cell needs a closer look."""
    if not set(map(type, cells)) <= {str}:
        return None
    texts = [str(cell) for cell in cells]
    try:
        values = [float(text) if text else None for text in texts]
    except ValueError:
        return None
    finite = math.isfinite(sum(value for value in values if value is not None))  # else a cell may not be
    return values if finite and "_" not in "".join(texts) else None


def _number(cell: Json, own: str, row: int, meaning: Meaning) -> float | None:
    try:
        value = to_float(cell)
    except OverflowError:
        value = math.inf
    if math.isnan(value):
        return None
    if not math.isfinite(value):
        raise FormatError(f"row {row}: {own} must be a finite number", got=cell)
    return scaled(value, meaning.factor)


def labels(cells: Sequence[Cell], typed: bool) -> list[Json]:
    """`_label` of each; of equal texts it is found once."""
    found = {cell: _label(cell, typed) for cell in {cell for cell in cells if type(cell) is str}}
    return [found[cell] if type(cell) is str else _label(cell, typed) for cell in cells]


def _label(cell: Json, typed: bool) -> Json:
    if is_unknown(cell):
        return None
    is_word = isinstance(cell, str) and not typed and cell.strip().lower() in UNKNOWN_LABELS
    return None if is_word else cell


def status_cell(cell: Json, name: str, row: int) -> str | None:
    if is_unknown(cell) or (isinstance(cell, str) and is_unknown_word(cell)):
        return None
    if isinstance(cell, (bool, np.bool_)):
        return str(Status.OK if cell else Status.CRASHED)
    text = str(cell)
    if name in ("success", "succeeded") and text in ("0", "1", "0.0", "1.0"):
        return str(Status.OK if text.startswith("1") else Status.CRASHED)
    folded = text.strip().lower()
    if folded in tuple(map(str, Status)):
        return folded
    found = status_of(text)
    if found is None:
        allowed = ", ".join(map(str, Status))
        raise FormatError(f"row {row}: unknown status", got=text, hint=f"one of {allowed}, or empty")
    return str(found)
