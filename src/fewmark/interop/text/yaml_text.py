"""YAML as tools leave it beside their results: plain values only, one error for what is broken."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import yaml

from fewmark.core import FormatError
from fewmark.core.json_types import Json
from fewmark.interop.text.json_text import read_text

MAX_BYTES: Final = 32 * 2**20  # no report is that long
MAX_VALUES: Final = 1_000_000


def read_yaml(path: Path) -> Json:
    """The one value of a YAML (or JSON) file. Raises `FormatError` with the line where it breaks."""
    values = read_yaml_documents(path)
    if len(values) > 1:
        raise FormatError(f"a single YAML document is needed, not {len(values)}", got=path.name)
    return values[0] if values else None


def read_yaml_documents(path: Path) -> list[Json]:
    """The values of a YAML (or JSON) file's documents, without empty ones. Raises `FormatError`, as `read_yaml`."""
    if path.stat().st_size > MAX_BYTES:
        raise FormatError(f"a YAML file of more than {MAX_BYTES >> 20} MB is too large for a report", got=path.name)
    words = read_text(path)
    try:
        values: list[Json] = [value for value in yaml.safe_load_all(words) if value is not None]
        if _size(values, {}) > MAX_VALUES:
            raise FormatError("the YAML repeats itself by aliases into an endless value", got=path.name)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise FormatError(f"{where}malformed YAML", got=getattr(error, "problem", None) or str(error)) from None
    except RecursionError:
        raise FormatError("the YAML is nested too deeply", hint="no tool writes such a file") from None
    except ValueError as error:  # a date that is none, for example
        raise FormatError("malformed YAML", got=str(error)) from None
    return values


def _size(value: Json, known: dict[int, float]) -> float:
    """How many values there are with aliases written out; infinity if one holds itself."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(value)]


def read_settings(path: Path) -> dict[str, Json]:
    """A tool's settings that lie beside a result; empty if there are none or they cannot be read."""
    try:
        found = read_yaml(path)
    except (OSError, FormatError):
        return {}
    return found if isinstance(found, dict) else {}
