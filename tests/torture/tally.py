"""What a part of the torture tried, how often, and what of it failed."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field

MAX_KEPT = 20


@dataclass
class Tally:
    """One row of the table: `tried` counts, `failed` says what went wrong, with what repeats it.

    `ways` are the distinct kinds of what was tried, where they can be told; `skipped` says
    why nothing was.
    """

    what: str
    tried: int = 0
    failed: list[str] = field(default_factory=list)
    n_failed: int = 0
    slowest_s: float = 0.0
    memory_bytes: int = 0
    ways: set[str] = field(default_factory=set)
    skipped: str | None = None

    def fail(self, text: str) -> None:
        """Count a failure and keep what it was."""
        self.n_failed += 1
        if len(self.failed) < MAX_KEPT:
            self.failed.append(text)

    def fault(self, error: BaseException, where: str) -> None:
        """Count an exception that should not have come."""
        last = traceback.extract_tb(error.__traceback__)[-1]
        self.fail(f"{where}: {type(error).__name__}: {str(error)[:200]} ({last.filename}:{last.lineno})")

    def took(self, seconds: float) -> None:
        """Note how long a try took."""
        self.slowest_s = max(self.slowest_s, seconds)

    def add(self, other: Tally) -> None:
        """Add what another run, or another thread, has tried."""
        self.tried += other.tried
        self.n_failed += other.n_failed
        self.failed = [*self.failed, *other.failed][:MAX_KEPT]
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.memory_bytes = max(self.memory_bytes, other.memory_bytes)
        self.ways |= other.ways
        self.skipped = None if self.tried else self.skipped or other.skipped


class Clock:
    """Says when the time of a part is over."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds

    def __bool__(self) -> bool:
        return time.monotonic() < self.deadline
