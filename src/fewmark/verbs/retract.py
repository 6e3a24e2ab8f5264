"""`fewmark retract`: take measurements back. They are marked, never deleted."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fewmark.core import InputError
from fewmark.core.columns import FLAG_SEPARATOR, RETRACTED
from fewmark.store import Annotation, open_store

MIN_PREFIX = 6


@dataclass(frozen=True)
class Retraction:
    """What was marked: the measurements, how many of them had not been, and whether they are believed again."""

    measurement_ids: tuple[str, ...]
    n_new: int
    undone: bool


def retract(case: str, *, why: str = "", store: str | None = None, undo: bool = False) -> Retraction:
    """Mark the measurements of a case, or one measurement, as retracted: no model learns from them any more.

    The next run of their suite measures the case again. A later mark with `undo` believes them again.

    Parameters
    ----------
    case : str
        The id of a case or of a measurement, or how it begins.
    why : str
        Kept with the mark; needed unless `undo`.

    Raises
    ------
    InputError
        If nothing has that id, or no reason is given.
    StoreError
        If the store cannot be opened or written.
    """
    if not why.strip() and not undo:
        raise InputError("say why it is taken back", hint='--why "the fan was broken"')
    if re.fullmatch(rf"[0-9a-f]{{{MIN_PREFIX},32}}", case) is None:
        raise InputError(
            f"an id has {MIN_PREFIX} to 32 of the digits 0-9a-f",
            got=case,
            hint="fewmark show lists the cases and their ids",
        )
    with open_store(store, create=False) as opened:
        keys = opened.ids_of(case)
        if not keys:
            raise InputError(
                "nothing in the store has that id", got=case, hint="fewmark show lists the cases and their ids"
            )
        action = "clear" if undo else "exclude"
        before = {key for key, flags in opened.withdrawn().items() if RETRACTED in flags.split(FLAG_SEPARATOR)}
        n_new = sum((key in before) == undo for key in keys)
        marked = keys if not undo else [key for key in keys if key in before]
        opened.annotate(Annotation(key, RETRACTED, action, why.strip()) for key in marked)
    return Retraction(tuple(keys), n_new, undo)
