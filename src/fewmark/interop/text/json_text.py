"""JSON as tools leave it: documents run together, lines of text between, UTF-16, NaN; one error for what is broken.

Reading needs no memory beyond the file's own, and never raises anything but `FormatError`. What a faster decoder takes,
it takes as the standard library does; all else (NaN, numbers beyond double precision, halves of characters, errors)
is left to the standard library.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from fewmark.core import FormatError
from fewmark.core.json_types import Json

try:  # with the extra `load`, several times as fast
    from msgspec.json import decode as _msgspec_decode

    fast_decode: Callable[[bytes], Json] | None = _msgspec_decode
except ImportError:
    fast_decode = None

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECODER: Final = json.JSONDecoder()
_OPENS: Final = re.compile(r"\s*(\{|\[\s*([\[{\"\-\d\]]|true|false|null|NaN|$))")  # but no "[INFO] …" of a log
_LINE: Final = re.compile(
    r"^[^\S\n]*\{[^\S\n]*(\"|$)", re.MULTILINE
)  # blank lines would be looked at once for each of them
_BLANKS: Final = re.compile(r"\s*")
_WHOLE: Final = re.compile(rb"\s*(\{|\[\s*\{)")
_HEADS: Final = 4  # first bytes of files that are remembered as text: every format looks at the same ones


def encoding_of(head: bytes) -> str:
    """The encoding that a file's first bytes name by a byte order mark; else UTF-8."""
    return next((name for mark, name in _BOMS if head.startswith(mark)), "utf-8")


@lru_cache(_HEADS)
def head_text(head: bytes) -> str:
    """A file's first bytes as text, for sniffing: what cannot be decoded is dropped. Raises nothing."""
    return head.decode(encoding_of(head), errors="ignore")


@lru_cache(_HEADS)
def opens_json(words: str) -> bool:
    """Whether a text begins with a JSON object or list, or has a line that does (after headings)."""
    return _OPENS.match(words) is not None or _LINE.search(words) is not None


def read_text(path: Path) -> str:
    """The whole file as text. Raises `FormatError` if it is empty or no text."""
    return _text_of(path.read_bytes(), path)


def _text_of(raw: bytes, path: Path) -> str:
    try:
        text = raw.decode(encoding_of(raw))
    except UnicodeDecodeError as error:
        raise FormatError("the file is not UTF-8 or UTF-16 text", got=str(error)) from None
    if not text.strip():
        raise FormatError("the file is empty", got=path.name)
    if "\x00" in text:
        raise FormatError("the file is not text: it holds zero bytes", got=path.name)
    return text


def read_json(path: Path) -> Json:
    """The one JSON value of a file. Raises `FormatError` with the line where it breaks."""
    raw = path.read_bytes()
    if (whole := _fast(raw)) is not None:
        return whole
    return parse_json(_text_of(raw, path))


def parse_json(text: str) -> Json:
    """The JSON value of a text. Raises `FormatError` with the line where it breaks."""
    if (whole := _fast(text)) is not None:
        return whole
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(error, text) from None
    return value


def read_documents(path: Path) -> list[tuple[int, Json]]:
    """Every JSON object or list of a file with its 1-based line: one document, JSON lines, or objects run together.

    Lines that do not begin one (headings, log lines) are passed over.

    Raises
    ------
    FormatError
        If one breaks off or is malformed, or there is none.
    """
    raw = path.read_bytes()
    opening = _WHOLE.match(raw)
    if opening is not None and (whole := _fast(raw)) is not None:
        return [(1 + raw.count(b"\n", 0, opening.start(1)), whole)]
    text = _text_of(raw, path)
    found = list(_documents(text))
    if not found:
        raise FormatError("the file holds no JSON", got=text.strip().splitlines()[0])
    return found


def read_objects(path: Path) -> list[tuple[int, dict[str, Json]]]:
    """The JSON objects of a file with their lines, those within a top-level list too. Raises `FormatError`."""
    found: list[tuple[int, dict[str, Json]]] = []
    for line, value in read_documents(path):
        items = value if isinstance(value, list) else [value]
        for position, item in enumerate(items, start=1):
            if not isinstance(item, dict):
                raise FormatError(f"line {line}: entry {position} must be a JSON object", got=item)
            found.append((line, item))
    if not found:
        raise FormatError("the file holds an empty list", hint="a run that wrote no result leaves such a file")
    return found


def _fast(raw: bytes | str) -> Json:
    """The JSON value of the whole of a text; None where that is for the slower decoder to say."""
    if fast_decode is None:
        return None
    try:
        return fast_decode(raw.encode() if isinstance(raw, str) else raw)
    except Exception:  # whatever the decoder raises
        return None


def _documents(text: str) -> Iterator[tuple[int, Json]]:
    position, line, counted, tried = 0, 1, 0, -1
    while True:
        position = _BLANKS.match(text, position).end()  # type: ignore[union-attr]
        if position >= len(text):
            return
        line += text.count("\n", counted, position)
        counted = position
        if text[position] not in "{[" or _is_log_line(text, position):
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
            continue
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        if end != tried and (whole := _fast(text[position:end])) is not None:  # a document a line
            yield line, whole
            position = end
            continue
        tried = end
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise _broken(error, text) from None
        yield line, value


def _is_log_line(text: str, position: int) -> bool:
    """Whether "[" opens a log line, such as ``[2026-01-01 10:00:00] …`` or ``[INFO] …``, and not a list."""
    if text[position] != "[":
        return False
    rest = text[position + 1 : position + 60].lstrip()
    return bool(rest) and (rest[0].isalpha() or re.match(r"\d{4}-\d\d-\d\d", rest) is not None)


def _broken(error: Exception, text: str) -> FormatError:
    if isinstance(error, RecursionError):
        return FormatError("the JSON is nested too deeply", hint="no tool writes such a file")
    if isinstance(error, json.JSONDecodeError):
        cut = error.pos >= len(text.rstrip()) - 1 or "Unterminated" in error.msg
        hint = "the file breaks off: the run or the copy was stopped; fetch it again" if cut else None
        return FormatError(f"line {error.lineno}: malformed JSON", got=error.msg, hint=hint)
    return FormatError("malformed JSON", got=str(error))
