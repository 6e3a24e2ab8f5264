"""Which of comma and point is the decimal mark of a text table: one rule for tools' tables and anybody's.

The mark is a property of a whole table. One number that can be read in one way only settles it for those that can be
read in two ("1,234" is 1.234 or 1234). Where none does, commas between cells say that points are decimal marks; any
other separator says nothing, and a number that can be read in two ways is refused by its column's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fewmark.core import FormatError

MAX_CELL: Final = 60  # letters; a longer cell is no number
NUMBER: Final = re.compile(
    r"(?P<sign>[+\-−]?)\s*(?P<digits>\d[\d.,'’_\s\u00a0\u202f]*|[.,]\d+)(?P<exponent>[eE][+\-]?\d{1,4})?"
    r"\s*(?P<prefix>[kKMG](?![a-zA-Zµ]))?\s*(?P<unit>[^\d\s±+][^±]*?)?(?:\s*(?:±|\+/-)\s*[\d.,]+\s*\S*)?"
)
_GROUPED: Final = re.compile(r"\d{1,3}(?:[.,'’\s\u00a0\u202f]\d{3})+")
_UNIT: Final = re.compile(r"[A-Za-zµ/%_ ]{1,12}")
_BARE: Final = re.compile(r"(?P<sign>[+-]?)(?P<digits>\d[\d.,]*|[.,]\d+)(?P<exponent>[eE][+-]?\d+)?")
_DIGITS: Final = re.compile(r"\d,\d")
_LIST: Final = re.compile(r"[\d.]+(?:,[\d.]+){2,}")
_LIST_NAME: Final = re.compile(r"(?i)(?:ids|devices|tensor[_ ]split)$|^(?:gpu|device)s?$")  # "0,1" there is a list
_NOUGHT: Final = re.compile(r"\s*(?:0,0+)?\s*")  # 0.00, which llama-bench writes for no split
_NO_NUMBER: Final = re.compile(r"(?i)version|build|commit|driver|cuda|model")  # a point there is no decimal mark


def decimal_mark(columns: Mapping[str, Iterable[str]], separator: str) -> str | None:
    """The decimal mark of a table's numbers; None where they do not tell, or contradict one another.

    Parameters
    ----------
    columns : the cells of each column that may hold numbers; what is no number does not count
    separator : what stands between the table's columns
    """
    marks: set[str] = set()
    for name, cells in columns.items():
        written = [cell.strip() for cell in cells if ("," in cell or "." in cell) and len(cell) <= MAX_CELL]
        if not written or _NO_NUMBER.search(name) or _is_list(name, written):
            continue
        by_comma = [cell for cell in written if "," in cell]
        if by_comma and _may_be_lists(by_comma, separator):
            written = [cell for cell in written if "," not in cell]
        for cell in written:
            found = NUMBER.fullmatch(cell)
            if found is None or (found["unit"] and not _UNIT.fullmatch(found["unit"])):
                continue
            digits = found["digits"].strip()
            mark = mark_of(digits)
            if mark is not None and not is_malformed(digits, mark):
                marks.add(mark)
        if len(marks) > 1:
            return None
    if marks:
        return marks.pop()
    return "." if separator == "," else None


def mark_of(digits: str) -> str | None:
    """The decimal mark that a number itself gives away; None where it has none or could have either."""
    comma, point = digits.count(","), digits.count(".")
    if comma and point:
        last = "," if digits.rfind(",") > digits.rfind(".") else "."
        return last if digits.count(last) == 1 else None
    mark, count = (",", comma) if comma else (".", point)
    if not count:
        return None
    if count > 1:
        return "." if mark == "," else ","
    before, after = digits.split(mark)
    if len(after) != 3 or len(before) > 3 or before.lstrip("0") == "":
        return mark
    return None


def is_malformed(digits: str, mark: str | None) -> bool:
    """Whether marks stand where no number has them: ``1,23,4``, a list, a version."""
    comma, point = digits.count(","), digits.count(".")
    if comma and point and mark is None:
        return True
    if comma + point < 2:
        return False
    whole = digits.split(mark)[0] if mark is not None and digits.count(mark) == 1 else digits
    return _GROUPED.fullmatch(whole) is None


def ambiguous(column: str, got: str) -> FormatError:
    """The refusal of a number that can be read in two ways."""
    return FormatError(
        f"the column {column} can be read in two ways: its comma is a decimal mark or parts thousands",
        got=got,
        hint="save it with points as the decimal mark and nothing between thousands, or import it with a mapping",
    )


def with_points(columns: Mapping[str, list[str]], separator: str) -> dict[str, list[str]]:
    """The columns of a table with a point as the decimal mark and nothing between thousands.

    Spreadsheets of many languages save a table anew with semicolons between cells and a comma as the decimal mark.
    Lists, and what is no number, stay as they are.

    Raises
    ------
    FormatError
        If a number such as ``1,234`` can be read in two ways, and no other tells which.
    """
    mark = decimal_mark(columns, separator)
    return {name: _plain(name, cells, mark, separator) for name, cells in columns.items()}


def _plain(name: str, cells: list[str], mark: str | None, separator: str) -> list[str]:
    by_comma = [cell.strip() for cell in cells if "," in cell]
    if not (by_comma or (mark == "," and any("." in cell for cell in cells))) or _is_list(name, cells):
        return cells
    if mark != "," and by_comma and _may_be_lists(by_comma, separator):
        return cells
    return [_plain_cell(name, cell, mark) for cell in cells]


def _plain_cell(name: str, cell: str, mark: str | None) -> str:
    found = _BARE.fullmatch(cell.strip())
    if found is None or not ("," in cell or (mark == "," and "." in cell)):
        return cell
    digits = found["digits"]
    own = mark_of(digits)
    if is_malformed(digits, own):
        return cell
    own = own or mark
    if own is None:
        raise ambiguous(name, cell)
    if own == "," and "," not in digits and _NO_NUMBER.search(name):
        return cell  # a version, not thousands
    plain = digits.replace("," if own == "." else ".", "").replace(own, ".")
    return f"{found['sign']}{plain}{found['exponent'] or ''}"


def _may_be_lists(by_comma: Sequence[str], separator: str) -> bool:
    """Whether a column's cells with commas may be lists of two, as in ``3,1``: spreadsheets write semicolons."""
    return separator != ";" and all(map(_DIGITS.fullmatch, by_comma))


def _is_list(name: str, cells: Sequence[str]) -> bool:
    if _LIST_NAME.search(name) and not all(map(_NOUGHT.fullmatch, cells)):
        return True
    return any(_LIST.fullmatch(cell) and is_malformed(cell, mark_of(cell)) for cell in map(str.strip, cells))
