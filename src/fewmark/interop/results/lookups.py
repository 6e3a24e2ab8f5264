"""Small questions that importers ask of JSON objects and of the first bytes of a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fewmark.core import FormatError
from fewmark.core.json_types import Json, JsonObject
from fewmark.interop.results.run_rows import nested, number, text
from fewmark.interop.text.json_text import head_text, read_json

UNKNOWN_WORDS: Final = frozenset(("", "none", "null", "nan", "unknown", "n/a", "na", "-"))
SIBLING_BYTES: Final = 50_000_000
_COUNTED: Final = re.compile(r"\s*\(x\s*\d+\)\s*$")


def has_keys(head: bytes, *names: str) -> bool:
    """Whether a file's first bytes hold all of the names as JSON keys. Raises nothing."""
    found = head_text(head)
    return all(re.search(rf'"{re.escape(name)}"\s*:', found) for name in names)


def is_object(head: bytes) -> bool:
    """Whether a file's first bytes begin a JSON object (or a list of them)."""
    return re.match(r"[\s\ufeff]*(\[\s*)?\{", head_text(head)) is not None


def first_known(data: JsonObject, *names: str) -> Json:
    """The value of the first of the names that says something."""
    return next((value for name in names if (value := data.get(name)) not in (None, "")), None)


def label(value: object) -> str | None:
    """A text that names something; words such as "Unknown" and "None" are none."""
    found = text(value)
    return None if found is None or found.lower() in UNKNOWN_WORDS else found


def mapping(value: object) -> JsonObject:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> list[Json]:
    """The value if it is a JSON list, else an empty one."""
    return value if isinstance(value, list) else []


def sibling(path: Path, name: str) -> JsonObject:
    """The JSON object of another file of the same folder; empty if there is none that can be read."""
    other = path.parent / name
    try:
        if not other.is_file() or other.stat().st_size > SIBLING_BYTES:
            return {}
        return mapping(read_json(other))
    except (OSError, FormatError):
        return {}


def truth(value: object) -> bool | None:
    """A truth value, also as the word or number for it; None for anything else."""
    if isinstance(value, str):
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(value.lower())
    return bool(value) if isinstance(value, (bool, int)) and value in (0, 1) else None


def accelerator_name(value: object) -> str | None:
    """The name of a chip without a trailing count such as "(x8)"."""
    found = label(value)
    return None if found is None else _COUNTED.sub("", found)


def value_at(data: Json, *path: str | int) -> float | None:
    """The number at a path of keys, or nothing."""
    return number(nested(data, *path))
