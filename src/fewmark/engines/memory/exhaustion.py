"""Tells from what a library or the runtime says whether memory ran out: not every one raises `MemoryError`."""

from __future__ import annotations

from typing import Final

SIGNS: Final = (
    "bad_alloc",
    "memoryerror",
    "cannot allocate memory",
    "can't allocate memory",
    "failed to allocate memory",
    "out of memory",
    "out_of_memory",
)


def speaks_of_memory(text: str) -> bool:
    """Whether an error's text, or a process's last words, say that memory ran out."""
    lowered = text.lower()
    return any(sign in lowered for sign in SIGNS)
