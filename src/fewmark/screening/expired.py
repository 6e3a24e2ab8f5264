"""Measurements that no longer hold."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from fewmark.core.columns import EXPIRED, FLAG_SEPARATOR, REPLACED, RETRACTED
from fewmark.screening.base import Finding

REASON = "the system has changed since: cells measured again later tell so"


class Retracted:
    """What somebody took back (`fewmark retract`) is not believed, whatever it says."""

    name = RETRACTED
    description = "a measurement that was retracted"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude what carries the flag."""
        yield from _flagged(
            frame,
            RETRACTED,
            "it was retracted; fewmark retract ID --undo believes it again, fewmark show tells its id and why",
        )


class Expired:
    """What a store marks as expired, after cells were measured again with a new version, is not believed any more."""

    name = EXPIRED
    description = "a measurement from before the system changed"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude what carries the flag."""
        yield from _flagged(frame, EXPIRED, REASON)


class Replaced:
    """What a later import was said to supersede (`fewmark import --supersede`) is not believed any more."""

    name = REPLACED
    description = "a measurement that a later import of the same cell superseded"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude what carries the flag."""
        yield from _flagged(frame, REPLACED, "a later import superseded it; fewmark show tells which file")


def _flagged(frame: pd.DataFrame, flag: str, reason: str) -> Iterable[Finding]:
    if "flag" not in frame.columns:
        return
    for label, flags in frame["flag"].dropna().items():
        if flag in str(flags).split(FLAG_SEPARATOR):
            yield Finding(int(label) + 1, flag, reason, "exclude")  # type: ignore[call-overload]
