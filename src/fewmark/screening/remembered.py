"""What several rules work out of one table, worked out once: its cells, deployments, workloads, slips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeVar, cast

import numpy as np
import pandas as pd

from fewmark.tables import identity
from fewmark.tables.arrays import IntArray

_Found = TypeVar("_Found")
_SEEN: Final[ContextVar[dict[tuple[int, str], tuple[pd.DataFrame, object]] | None]] = ContextVar("seen", default=None)


@contextmanager
def remembered_tables() -> Iterator[None]:
    """Within it, what is worked out of a table is kept; no table may be changed."""
    token = _SEEN.set({})
    try:
        yield
    finally:
        _SEEN.reset(token)


def remembered_of(frame: pd.DataFrame, what: str, work_out: Callable[[pd.DataFrame], _Found]) -> _Found:
    """What is worked out of a table, once where tables are remembered; not to be changed."""
    seen = _SEEN.get()
    if seen is None:
        return work_out(frame)
    key = (id(frame), what)
    if key not in seen:
        seen[key] = (frame, work_out(frame))  # the table is kept, so that its id stays its own
    return cast(_Found, seen[key][1])


def held_of(number: int, what: str) -> object:
    """What was worked out of the table with that id; None where nothing was."""
    return ((_SEEN.get() or {}).get((number, what)) or (None, None))[1]


def deployment_codes(frame: pd.DataFrame) -> IntArray:
    """As `fewmark.tables.identity.deployment_codes`."""
    return remembered_of(frame, "deployments", identity.deployment_codes)


def workload_codes(frame: pd.DataFrame) -> IntArray:
    """As `fewmark.tables.identity.workload_codes`."""
    return remembered_of(frame, "workloads", identity.workload_codes)


def cell_codes(frame: pd.DataFrame) -> IntArray:
    """As `fewmark.tables.identity.cell_codes`."""
    return remembered_of(frame, "cell codes", _cell_codes)


def _cell_codes(frame: pd.DataFrame) -> IntArray:
    both = pd.DataFrame({"deployment": deployment_codes(frame), "workload": workload_codes(frame)})
    return identity.group_codes(both, ["deployment", "workload"])[0]


def carry(frame: pd.DataFrame, less: pd.DataFrame) -> None:
    """Take what is known of a table's rows for a table of some of them, in which no name or size differs."""
    seen = _SEEN.get()
    if seen is None:
        return
    for what in ("deployments", "workloads"):
        if (id(frame), what) in seen:
            codes = cast(IntArray, seen[id(frame), what][1])
            kept = codes[frame.index.get_indexer(less.index)]
            seen[id(less), what] = (less, np.asarray(pd.factorize(kept)[0], dtype=np.intp))
