"""Immutable mappings and content hashes that are stable across processes and versions."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any, overload

from fewmark.core.errors import InputError
from fewmark.core.json_types import Json, JsonObject
from fewmark.core.text import encodable

_SCALARS = (str, int, float)  # asked first: asking a scalar whether it is a Mapping is slow
_UNKNOWN = ("null", "{}", "[]")
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


class FrozenMap(Mapping[str, Any]):
    """An immutable, hashable mapping from strings to JSON values."""

    __slots__ = ("_canonical", "_hash", "_items")
    _items: dict[str, Json]
    _hash: int | None  # made when it is asked for: of a nested mapping nobody does
    _canonical: str | None  # and so is this

    def __init__(self, items: JsonObject | None = None) -> None:
        frozen = {encodable(str(key)): freeze(value) for key, value in sorted((items or {}).items())}
        object.__setattr__(self, "_items", frozen)
        object.__setattr__(self, "_hash", None)
        object.__setattr__(self, "_canonical", None)

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        if self._hash is None:
            object.__setattr__(self, "_hash", hash(canonical_json(self._items)))
        assert self._hash is not None
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and len(self) == len(other) and thaw(self) == thaw(other)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("FrozenMap is immutable")

    def __repr__(self) -> str:
        return f"FrozenMap({thaw(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (FrozenMap, (thaw(self),))

    @property
    def canonical(self) -> str:
        """The canonical JSON of what is known: what its content hash is made of."""
        if self._canonical is None:
            object.__setattr__(self, "_canonical", _encode(known_only(self._items)))
        assert self._canonical is not None
        return self._canonical


def freeze(value: object) -> Json:
    """A deeply immutable copy of a JSON value: mappings to `FrozenMap`, lists to tuples.

    Raises
    ------
    InputError
        If the value is none that JSON knows, or a number that is not finite.
    """
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, FrozenMap) or value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError("an option must be a finite number", got=value)
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return FrozenMap(value)
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a scalar of NumPy or of the like
        return freeze(value.item())
    raise InputError("an option must be a JSON value", got=value, hint="use strings, numbers, lists or mappings")


def as_number(value: object) -> int | float | None:
    """The finite int or float behind a number of any kind, NumPy's scalars included; None for what is none."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = int(value) if isinstance(value, Integral) else float(value)
        return number if math.isfinite(number) else None
    except (OverflowError, ValueError):
        return None


@overload
def thaw(value: JsonObject) -> dict[str, Any]: ...


@overload
def thaw(value: Json) -> Json: ...


def thaw(value: Json) -> Json:
    """The plain JSON value (dict, list) behind a frozen one."""
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [thaw(item) for item in value]
    return value


def canonical_json(value: object) -> str:
    """JSON with sorted keys, no spaces, and integral floats written as integers."""
    return _encode(_plain(value))


def content_hash(value: object, length: int = 24) -> str:
    """The first `length` hex digits of the SHA-256 of the canonical JSON; unknown (None, empty) keys do not count.

    The canonical JSON of a `FrozenMap` that is a value of a dictionary is made once, however many hashes it goes into.
    """
    if isinstance(value, dict) and any(isinstance(part, FrozenMap) for part in value.values()):
        text = _joined(value)
    else:
        text = _encode(known_only(value))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:length]


def _joined(parts: dict[str, object]) -> str:
    texts = {
        key: part.canonical if isinstance(part, FrozenMap) else _encode(known_only(part)) for key, part in parts.items()
    }
    known = (f"{_encode(key)}:{texts[key]}" for key in sorted(texts) if texts[key] not in _UNKNOWN)
    return "{" + ",".join(known) + "}"


def _plain(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def known_only(value: object) -> object:
    """As `_plain`, without keys whose value is unknown: None, or an empty mapping or list."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, Mapping):
        kept = ((str(key), known_only(item)) for key, item in value.items())
        return {key: item for key, item in kept if item is not None and item != {} and item != []}
    if isinstance(value, (list, tuple)):
        return [known_only(item) for item in value]
    return value
