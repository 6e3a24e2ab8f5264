"""Seconds of the real-time clock, which is the kernel's for receive times, and a watch on its steps."""

from __future__ import annotations

import time
from typing import Final

from fewmark.load.records import ClockStep

STEP_S: Final = 0.001  # a smaller jump is not told apart from a pause between two readings of two clocks
MAX_SLEW: Final = 0.001  # NTP may slew the clock by 500 parts in a million without stepping it


def realtime_ns() -> int:
    """Now, in nanoseconds of the real-time clock."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


class StepWatch:
    """Compares the real-time clock with the monotonic one; a jump between two looks is a step.

    A reading is a triple real, monotonic, real, taken again while the pair of real ones is too far apart: a process
    that is put aside between two readings must not look like a step.
    """

    def __init__(self) -> None:
        self.steps: list[ClockStep] = []
        self._offset_ns, self._at_ns = self._read()

    def look(self) -> None:
        """Compare now with the time before, and keep a step if there was one."""
        offset_ns, at_ns = self._read()
        moved_s = (offset_ns - self._offset_ns) / 1e9
        elapsed_s = (at_ns - self._at_ns) / 1e9
        if abs(moved_s) > STEP_S + MAX_SLEW * elapsed_s:
            self.steps.append(ClockStep((at_ns + offset_ns) / 1e9, moved_s))
        self._offset_ns, self._at_ns = offset_ns, at_ns

    @staticmethod
    def _read() -> tuple[int, int]:
        best: tuple[int, int, int] | None = None
        for _ in range(5):
            before = realtime_ns()
            monotonic = time.monotonic_ns()
            apart = realtime_ns() - before
            if best is None or abs(apart) < best[0]:
                best = (abs(apart), before + apart // 2 - monotonic, monotonic)
            if best[0] < 100_000:
                break
        assert best is not None
        return best[1], best[2]
