"""`fewmark store`: whether a store is whole, and what of a damaged one can be saved."""

from __future__ import annotations

from pathlib import Path

from fewmark.core import InputError
from fewmark.store import Salvage, check_store, open_store, salvage_store

__all__ = ["check_store", "salvage"]


def salvage(into: str | Path, *, store: str | None = None) -> Salvage:
    """Everything that can still be read of a store, into a new one. Raises `InputError`, `StoreError`."""
    if "://" not in str(into) and Path(into).exists():
        raise InputError("the new store must not exist yet", got=str(into), hint="name another file")
    check_store(store)  # before a new store is made: nothing may be there to be saved
    with open_store(into) as opened:
        return salvage_store(store, opened)
