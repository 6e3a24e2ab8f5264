"""Measurements that no longer hold."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from fewmark.core.columns import EXPIRED, FLAG_SEPARATOR
from fewmark.screening.base import Finding

REASON = "the system has changed since: cells measured again later tell so"


class Expired:
    """What a store marks as expired, after cells were measured again with a new version, is not believed any more."""

    name = EXPIRED
    description = "a measurement from before the system changed"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude what carries the flag."""
        if "flag" not in frame.columns:
            return
        for label, flags in frame["flag"].dropna().items():
            if EXPIRED in str(flags).split(FLAG_SEPARATOR):
                yield Finding(int(label) + 1, self.name, REASON, "exclude")  # type: ignore[call-overload]
