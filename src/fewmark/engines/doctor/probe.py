"""How evenly this machine works: a fixed amount of work, done over and over for two seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any, Final

from fewmark.core.json_types import Json
from fewmark.engines.doctor.finding import BAD, OK, WARN, Finding
from fewmark.engines.doctor.system import System

PROBE_S: Final = 2.0
ROUND_S: Final = 0.01
SCATTER, LARGE_SCATTER = 0.05, 0.25  # (90% − 10% quantile) / median of the rounds' times
LOST, MUCH_LOST = 0.05, 0.25  # of the wall time in which the loop did not have its CPU


def noise(system: System | None = None, *, duration_s: float = PROBE_S) -> tuple[Finding, dict[str, Json]]:
    """The finding, and its numbers: `scatter`, `lost_fraction`, `steal_s` (None: unknown), `rounds`.

    The scatter is the distance between the 10% and the 90% quantile of the rounds' times over their median; what is
    lost is wall time in which the loop, which never waits, was not given its CPU.
    """
    size = _calibrate()
    stolen = _steal_s(system or System())
    times: list[float] = []
    wall, cpu = time.perf_counter(), time.thread_time()
    while time.perf_counter() - wall < duration_s or len(times) < 10:
        began = time.perf_counter()
        _work(size)
        times.append(time.perf_counter() - began)
    wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
    after = _steal_s(system or System())
    deciles = statistics.quantiles(times, n=10)
    facts: dict[str, Json] = {
        "rounds": len(times),
        "scatter": (deciles[-1] - deciles[0]) / statistics.median(times),
        "lost_fraction": max(0.0, 1.0 - cpu / wall),
        "steal_s": None if stolen is None or after is None else after - stolen,
    }
    return judge(facts), facts


def judge(facts: Mapping[str, Any]) -> Finding:
    """The verdict on the probe's numbers."""
    scatter, lost, stolen = facts["scatter"], facts["lost_fraction"], facts["steal_s"]
    seen = f"equal work scatters by {scatter:.1%}; {lost:.1%} of the time the CPU was elsewhere"
    if stolen:
        seen += f"; {stolen:.2f} s went to other virtual machines"
    advice = "stop other work, pin the worker (--worker-prefix 'taskset -c …'), use fewer threads; allow more repeats"
    if scatter > LARGE_SCATTER or lost > MUCH_LOST:
        return Finding("noise", BAD, seen, advice)
    if scatter > SCATTER or lost > LOST:
        return Finding("noise", WARN, seen, advice)
    return Finding("noise", OK, seen)


def _calibrate() -> int:
    size = 1000
    while True:
        began = time.perf_counter()
        _work(size)
        took = time.perf_counter() - began
        if took >= ROUND_S / 2:
            return max(1, round(size * ROUND_S / took))
        size *= 2


def _work(size: int) -> int:
    value = 1
    for _ in range(size):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
    return value


def _steal_s(system: System) -> float | None:
    fields = (system.text("/proc/stat") or "").partition("\n")[0].split()
    return int(fields[8]) / 100 if len(fields) > 8 and fields[0] == "cpu" else None
