"""Page faults and kernel time of each repeat: whether a time is the engine's or the memory system's."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fewmark.core.json_types import Json

PROC: Final = Path("/proc")
FLAG: Final = "page-faults"
MIN_SHARE: Final = 0.05  # of a repeat's CPU time by which the kernel's parts of the repeats differ
MIN_FAULTS: Final = 10_000  # by which they differ; fewer cost some milliseconds


class Use(NamedTuple):
    """What a process and its descendants have used since they began."""

    faults: int
    kernel_s: float
    cpu_s: float

    def since(self, before: Use) -> Use:
        """What was used between the two."""
        return Use(self.faults - before.faults, self.kernel_s - before.kernel_s, self.cpu_s - before.cpu_s)


def use_so_far(pid: int | None = None, proc: Path = PROC) -> Use | None:
    """The use of this process and its descendants; None where the kernel does not tell."""
    total, waiting = Use(0, 0.0, 0.0), [pid or os.getpid()]
    tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
    found = False
    while waiting:
        folder = proc / str(waiting.pop())
        try:
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            faults, user, kernel = int(fields[7]), int(fields[11]) * tick_s, int(fields[12]) * tick_s
            tasks = list((folder / "task").iterdir())
        except (OSError, ValueError, IndexError):
            continue  # it has ended, or is not ours to look at
        found = True
        total = Use(total.faults + faults, total.kernel_s + kernel, total.cpu_s + user + kernel)
        for task in tasks:
            try:
                waiting += map(int, (task / "children").read_text(encoding="ascii").split())
            except (OSError, ValueError):
                continue
    return total if found else None


def facts(repeats: Sequence[Use]) -> dict[str, Json]:
    """What is kept of the repeats: ``page_faults``, ``kernel_s`` and ``cpu_s`` (the kernel's part included) of each."""
    if not repeats:
        return {}
    return {
        "page_faults": [use.faults for use in repeats],
        "kernel_s": [round(use.kernel_s, 3) for use in repeats],
        "cpu_s": [round(use.cpu_s, 3) for use in repeats],
    }


def differ(repeats: Sequence[Use]) -> bool:
    """Whether the repeats' times differ by what the kernel did about memory: one of them is then no other's like."""
    if len(repeats) < 2:
        return False
    faults, kernel_s = [use.faults for use in repeats], [use.kernel_s for use in repeats]
    usual_s = statistics.median(use.cpu_s for use in repeats)
    return max(faults) - min(faults) > MIN_FAULTS and max(kernel_s) - min(kernel_s) > MIN_SHARE * usual_s > 0
