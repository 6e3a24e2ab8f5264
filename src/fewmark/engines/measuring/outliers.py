"""Marks on the repeats of one case: which lie apart from the others, and whether the first was still a warm-up.

A repeat of latency x is an outlier among n ≥ 4 with the median m where

    |x − m| > 3.5 · max(1.4826 · MAD, 0.01 · m),        MAD = median |x_i − m|

the modified z-score of Iglewicz & Hoaglin (1993, "How to detect and handle outliers", ASQC Quality Press). The floor of
1% keeps a very quiet machine's last digits from being called apart. Nothing is left out: the median, which every figure
is made from, hardly moves, and the raw samples stay as they are.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

Z_LIMIT: Final = 3.5
NORMAL: Final = 1.4826  # the standard deviation of normal values over their median absolute deviation
FLOOR: Final = 0.01  # of the median
FEWEST: Final = 4  # with three, the deviation is that of a single pair
OUTLIER_FLAG: Final = "outlier"
WARM_UP_FLAG: Final = "warm-up"


def outliers(latencies: Sequence[float]) -> list[int]:
    """The positions of the repeats that lie apart; none below four repeats."""
    if len(latencies) < FEWEST:
        return []
    middle = statistics.median(latencies)
    spread = statistics.median(abs(value - middle) for value in latencies)
    limit = Z_LIMIT * max(NORMAL * spread, FLOOR * middle)
    return [number for number, value in enumerate(latencies) if abs(value - middle) > limit]


def quality_flags(latencies: Sequence[float]) -> list[str]:
    """The marks of a case: ``warm-up`` where the first repeat alone was slow, ``outlier`` where another lies apart."""
    apart = outliers(latencies)
    if not apart:
        return []
    slow_start = apart[0] == 0 and latencies[0] > statistics.median(latencies)
    flags = [WARM_UP_FLAG] if slow_start else []
    return flags + ([OUTLIER_FLAG] if len(apart) > slow_start else [])
