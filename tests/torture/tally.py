"""What a part of the torture tried, how often, and what of it failed."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field

MAX_KEPT = 20


@dataclass
class Tally:
    """One row of the table: `tried` counts, `failed` says what went wrong, with the seed that repeats it."""

    what: str
    tried: int = 0
    failed: list[str] = field(default_factory=list)
    n_failed: int = 0
    slowest_s: float = 0.0

    def fail(self, text: str) -> None:
        """Count a failure and keep what it was."""
        self.n_failed += 1
        if len(self.failed) < MAX_KEPT:
            self.failed.append(text)

    def fault(self, error: BaseException, where: str) -> None:
        """Count an exception that should not have come."""
        last = traceback.extract_tb(error.__traceback__)[-1]
        self.fail(f"{where}: {type(error).__name__}: {str(error)[:200]} ({last.filename}:{last.lineno})")


class Clock:
    """Says when the time of a part is over."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds

    def __bool__(self) -> bool:
        return time.monotonic() < self.deadline
