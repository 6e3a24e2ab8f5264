"""CSV files as text: strict about encoding, header and row lengths, so that nothing is half-read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from fewmark.core import KNOWN_COLUMNS, FormatError


def header_of(head: bytes) -> list[str]:
    """The stripped names of the first line of a file's first bytes; empty if they are no text."""
    try:
        text = head.decode("utf-8-sig", errors="ignore" if len(head) > 4 else "strict")
        line = next(iter(csv.reader(io.StringIO(text, newline=""))), [])
    except (UnicodeDecodeError, csv.Error):
        return []
    return [name.strip() for name in line] if "\x00" not in text else []


def read_columns(path: Path) -> dict[str, list[str]]:
    """The columns of a CSV file as text, blank lines skipped, names stripped.

    Raises
    ------
    FormatError
        If the file is empty, no UTF-8 text, has rows of unequal length, or an empty or repeated column name.
    """
    raw = path.read_bytes()
    if not raw.strip():
        raise FormatError("the file is empty", got=str(path))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            "a CSV file must be UTF-8 text", got=f"{path}: {error}", hint="save it again with the encoding UTF-8"
        ) from None
    if "\x00" in text:
        raise FormatError("a CSV file must be text; this one holds zero bytes", got=str(path))
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise FormatError("the file is no well-formed CSV", got=f"{path}: {error}") from None
    if not rows:
        raise FormatError("the file is empty", got=str(path))
    names, rows = _header([name.strip() for name in rows[0]], rows[1:])
    for number, row in enumerate(rows, start=1):
        if len(row) != len(names):
            raise FormatError(
                f"row {number}: {len(names)} fields are needed, one for each column, not {len(row)}",
                got=",".join(row),
                hint="a text with commas needs quotes; a truncated file must be written again",
            )
    return {name: [row[position] for row in rows] for position, name in enumerate(names)}


def canonical_name(name: str) -> str:
    """The canonical column that a name stands for, whatever its case, blanks and hyphens; else the name itself."""
    folded = "_".join(name.strip().lower().replace("-", " ").replace("_", " ").split())
    return folded if folded in KNOWN_COLUMNS else name.strip()


def unique_names(columns: Mapping[str, str]) -> None:
    """Raise `FormatError` if two original names (the keys) stand for the same column (the values)."""
    seen: dict[str, str] = {}
    for original, name in columns.items():
        if name in seen:
            raise FormatError(f"two columns stand for {name}", got=[seen[name], original], hint="remove one of the two")
        seen[name] = original


def _header(names: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    counts_rows = not names[0] and len(names) > 1 and all(row[0].strip().isdigit() for row in rows)
    if counts_rows:  # a frame written with its index, which says nothing about what was measured
        names, rows = names[1:], [row[1:] for row in rows]
    if not all(names):
        raise FormatError("every column needs a name", got=names)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise FormatError(f"the column {repeated[0]} appears twice", got=names, hint="remove or rename one of the two")
    return names, rows
