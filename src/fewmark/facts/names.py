"""How names of models and accelerators are read: as words, of which an entry of the facts asks for some."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeVar

_Facts = TypeVar("_Facts")
UNITS: Final = {"m": 1e6, "b": 1e9, "t": 1e12}
COUNT = re.compile(r"\b\d+x(?=[a-z])")  # of "8xH100"
_WORD = re.compile(r"\d+(?:\.\d+)?|[a-z]+")


@lru_cache(maxsize=4096)
def says(text: str | None, patterns: str) -> bool:
    parts = words(text or "")
    return any(contains(tuple(pattern.split()), parts) for pattern in patterns.split(", "))


def words(name: str) -> tuple[str, ...]:
    """The words of a name: "Meta-Llama-3-8B" gives meta, llama, 3, 8, b."""
    return tuple(_WORD.findall(name.lower()))


def longest(parts: tuple[str, ...], entries: Sequence[tuple[tuple[str, ...], _Facts]]) -> _Facts | None:
    best: _Facts | None = None
    length, there = 0, set(parts)
    for pattern, facts in entries:
        if len(pattern) >= length and there.issuperset(pattern) and contains(pattern, parts):
            best, length = facts, len(pattern)
    return best


def contains(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    return place_of(pattern, parts) is not None


def place_of(pattern: tuple[str, ...], parts: tuple[str, ...]) -> int | None:
    """Where a pattern first stands, its words side by side."""
    size = len(pattern)
    return next((at for at in range(len(parts) - size + 1) if parts[at : at + size] == pattern), None)


def contains_spread(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Whether a pattern that ends in a size ("llama", "8", "b") occurs with other words before the size."""
    family, size = pattern[:-2], pattern[-2:]
    if not family or size[-1] not in UNITS:
        return False
    at = place_of(family, parts)
    return at is not None and contains(size, parts[at + len(family) :])
