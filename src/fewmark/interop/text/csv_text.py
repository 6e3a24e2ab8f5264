"""Text tables (CSV, TSV, semicolons): strict about encoding, header and row lengths, so that nothing is half-read."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from fewmark.core import KNOWN_COLUMNS, FormatError
from fewmark.core.columns import NUMERIC_COLUMNS, OPTION_PREFIX, WORKLOAD_PREFIX
from fewmark.interop.text.decimal_mark import with_points
from fewmark.tables.arrays import FloatArray

SEPARATORS: Final = (",", ";", "\t", "|")
MAX_COLUMNS: Final = 10_000
MIN_PLAIN: Final = 100_000  # bytes; below, nothing is slow
PREFIXES: Final = (OPTION_PREFIX, WORKLOAD_PREFIX)
_PLAIN_NUMBER: Final = r"^([0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?)?$"
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def header_of(head: bytes) -> list[str]:
    """The stripped names of the first line of a file's first bytes; empty if they are no text."""
    if head.lstrip()[:1] in (b"{", b"["):  # JSON, and long to split at its commas
        return []
    encoding = _encoding(head)
    try:
        text = head.decode(encoding, errors="ignore" if len(head) > 4 else "strict")
        if "\x00" in text:
            return []
        lines, separator = _lines(text[:200_000])
        line = next(iter(csv.reader(lines, delimiter=separator)), [])
    except (UnicodeError, csv.Error):
        return []
    return [name.strip() for name in line]


def read_columns(path: Path) -> dict[str, list[str]]:
    """The columns of a tool's table, numbers with a point, however a spreadsheet saved it. See `read_text_table`."""
    columns, separator = read_text_table(path)
    return columns if separator == "," else with_points(columns, separator)


def read_text_table(path: Path) -> tuple[dict[str, list[str]], str]:
    """The columns of a text table as text, and what separates them (comma, semicolon, tab or bar).

    Blank lines, and lines before the header that begin with ``#``, are skipped; names are stripped. UTF-8, or UTF-16
    with its mark.

    Raises
    ------
    FormatError
        If the file is empty, no such text, has rows of unequal length, or an empty or repeated column name.
    """
    raw = path.read_bytes()
    if not raw.strip():
        raise FormatError("the file is empty", got=str(path))
    try:
        text = raw.decode(_encoding(raw))
    except UnicodeError as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
        raise FormatError(
            "a CSV file must be UTF-8 text", got=f"{path.name}: {reason}", hint="save it again with the encoding UTF-8"
        ) from None
    if "\x00" in text:
        raise FormatError("a CSV file must be text; this one holds zero bytes", got=path.name)
    try:
        lines, separator = _lines(text)
        rows = [row for row in csv.reader(lines, delimiter=separator, strict=True) if row]
    except csv.Error as error:
        raise FormatError("the file is not well-formed CSV", got=f"{path.name}: {error}") from None
    if not rows:
        raise FormatError("the file is empty", got=path.name)
    names, rows = _header([name.strip() for name in rows[0]], rows[1:])
    width = len(names)
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            raise FormatError(
                f"row {number}: {width} fields are needed, one for each column, not {len(row)}",
                got=separator.join(row[:100]),
                hint="a text with commas needs quotes; a truncated file must be written again",
            )
    cells = list(map(list, zip(*rows, strict=True))) if rows else [[] for _ in names]
    return dict(zip(names, cells, strict=True)), separator


def read_plain_table(path: Path) -> dict[str, list[str] | FloatArray] | None:
    """What `read_text_table` reads of a large file that is as plain as a program writes it, much faster; else None.

    Plain is: commas without any quote, UTF-8 without a mark, columns by their canonical names, options, and properties
    of workloads alone, and nothing but digits where a number stands. Numbers are arrays, with NaN for unknown.
    """
    if path.stat().st_size < MIN_PLAIN:
        return None
    raw = path.read_bytes()
    if raw.startswith((*(mark for mark, _ in _MARKS), b"#")) or b'"' in raw or b"\x00" in raw:
        return None
    if b"\r" in raw and raw.count(b"\r") != raw.count(b"\r\n"):
        return None
    header = raw[: raw.find(b"\n")].decode("utf-8", errors="replace")
    names = header.strip("\r").split(",")
    if len(set(names)) < len(names) or not all(n in KNOWN_COLUMNS or n.startswith(PREFIXES) for n in names):
        return None
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv as arrow_csv

    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(raw),
            read_options=arrow_csv.ReadOptions(use_threads=False, column_names=names, skip_rows=1),
            parse_options=arrow_csv.ParseOptions(quote_char=False),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        ).combine_chunks()
    except pa.ArrowInvalid:  # `read_text_table` says what is wrong
        return None
    out: dict[str, list[str] | FloatArray] = {}
    for name in names:
        cells = table[name]
        if name in NUMERIC_COLUMNS:
            if not pc.all(pc.match_substring_regex(cells, _PLAIN_NUMBER), min_count=0).as_py():
                return None
            known = pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)
            out[name] = np.array(known.cast(pa.float64()).to_numpy(), dtype=np.float64)
            if np.isinf(out[name]).any():
                return None
            continue
        words = cells.dictionary_encode().combine_chunks()
        held = words.dictionary.to_pylist()
        out[name] = [held[code] for code in words.indices.to_pylist()]
    return out


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


def _encoding(raw: bytes) -> str:
    return next((encoding for mark, encoding in _MARKS if raw.startswith(mark)), "utf-8")


def _lines(text: str) -> tuple[io.StringIO, str]:
    """The text from its header on, and what separates the header's names."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end].strip()
        if line.lower().startswith("sep=") and len(line) == 5:  # what a spreadsheet writes for itself
            return io.StringIO(text[end + 1 :], newline=""), line[4]
        if line and not line.startswith("#"):
            break
        start = end + 1
    end = text.find("\n", start)
    return io.StringIO(text[start:], newline=""), separator_of(text[start : end if end >= 0 else len(text)])


def separator_of(header: str) -> str:
    """The separator that makes the most names of a header; a comma where none does."""
    counts = Counter({mark: len(next(iter(csv.reader([header], delimiter=mark)), [])) for mark in SEPARATORS})
    best, n_names = counts.most_common(1)[0]
    return best if n_names > counts[","] else ","


def _header(names: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    if len(names) > MAX_COLUMNS:
        raise FormatError("the table has too many columns", got=len(names), hint=f"at most {MAX_COLUMNS}")
    counts_rows = not names[0] and len(names) > 1 and all(row[0].strip().isdigit() for row in rows)
    if counts_rows:  # a frame written with its index, which says nothing about what was measured
        names, rows = names[1:], [row[1:] for row in rows]
    if not all(names):
        raise FormatError("every column needs a name", got=names[:100])
    repeated = sorted(name for name, n in Counter(names).items() if n > 1)
    if repeated:
        raise FormatError(
            f"the column {repeated[0]} appears twice", got=names[:100], hint="remove or rename one of the two"
        )
    return names, rows
