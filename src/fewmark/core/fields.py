"""The fields of a frozen value: written as a plain dictionary, built from one, checked."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import fields
from functools import cache
from typing import TypeVar

from fewmark.core.errors import InputError
from fewmark.core.frozen import as_number, thaw
from fewmark.core.json_types import Json
from fewmark.core.validity import MAX_TOKENS

_Value = TypeVar("_Value")


def known_fields(value: object) -> dict[str, Json]:
    """The fields that are known, as a plain dictionary."""
    out = {}
    kind: type = value.__class__
    for name in field_names(kind):
        content = getattr(value, name)
        if content is not None and (content or not isinstance(content, (tuple, Mapping))):
            out[name] = thaw(content)
    return out


@cache
def field_names(cls: Hashable) -> tuple[str, ...]:
    """The names of a dataclass's fields."""
    return tuple(item.name for item in fields(cls))  # type: ignore[arg-type]


def build(cls: type[_Value], data: object) -> _Value:
    """The value behind `known_fields`. Raises `InputError` on unknown or missing fields."""
    known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
    if not isinstance(data, Mapping):
        raise InputError(f"a {cls.__name__.lower()} must be a mapping", got=data)
    unknown = set(data) - known
    if unknown:
        raise InputError(
            f"a {cls.__name__.lower()} has no field {', '.join(sorted(map(repr, unknown)))}",
            hint=f"known: {', '.join(sorted(known))}",
        )
    try:
        return cls(**data)
    except TypeError as error:
        raise InputError(f"a {cls.__name__.lower()} is incomplete", got=dict(data), hint=str(error)) from None


def require_text(name: str, value: object) -> None:
    """Raise `InputError` unless a field is a text that says something."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name} must be a non-empty string", got=value)


def positive(name: str, value: object, *, whole: bool = False) -> float:
    """The positive number of a field, an int where it is whole. Raises `InputError` if it is none."""
    found = as_number(value)
    if found is None or found <= 0:
        raise InputError(f"{name} must be a positive number", got=value)
    if found > MAX_TOKENS:
        raise InputError(f"{name} is implausibly large", got=value, hint=f"at most {MAX_TOKENS:g}")
    if float(found).is_integer():
        return int(found)
    if whole:
        raise InputError(f"{name} must be a whole number", got=found)
    return float(found)
