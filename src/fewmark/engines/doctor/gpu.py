"""Checks of NVIDIA accelerators, read from `nvidia-smi`: other work, throttling, clocks, state."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fewmark.engines.doctor.finding import BAD, OK, UNKNOWN, WARN, Finding
from fewmark.engines.doctor.system import System

FIELDS: Final = (
    "index", "name", "driver_version", "utilization.gpu", "memory.used", "memory.total", "temperature.gpu",
    "power.draw", "power.limit", "power.default_limit", "clocks.sm", "clocks.max.sm", "clocks_throttle_reasons.active",
    "persistence_mode", "mig.mode.current",
)  # fmt: skip
QUERY: Final = ("nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits")
# Bits of the active throttle reasons (NVML's nvmlClocksEventReason…). An idle device reports bit 0, which says nothing.
REASONS: Final = {
    0x2: "clocks set by an application", 0x4: "power limit", 0x8: "hardware slowdown", 0x10: "sync boost",
    0x20: "software heat limit", 0x40: "hardware heat limit", 0x80: "power brake",
}  # fmt: skip
HEAT_OR_POWER: Final = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
HARDWARE: Final = 0x8 | 0x40 | 0x80
BUSY_PERCENT: Final = 5.0
HELD_FRACTION: Final = 0.05  # of its memory; a driver keeps some of it in any case
HOT_C: Final = 80.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device as `nvidia-smi` shows it; None where it does not tell."""

    values: dict[str, str]

    def number(self, name: str) -> float | None:
        """A field's number."""
        try:
            return float(self.values[name])
        except (KeyError, ValueError):
            return None

    @property
    def label(self) -> str:
        """Index and name."""
        return f"{self.values['index']} ({self.values['name']})"

    @property
    def reasons(self) -> int:
        """The bits of why the clock is held down."""
        try:
            return int(self.values["clocks_throttle_reasons.active"], 16)
        except ValueError:
            return 0


def read_gpus(system: System) -> list[Gpu]:
    """The devices of the machine; none where there is no driver."""
    text = system.command(QUERY) or ""
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    return [Gpu(dict(zip(FIELDS, map(str.strip, row), strict=True))) for row in rows if len(row) == len(FIELDS)]


def gpus(system: System) -> Iterator[Finding]:
    """Everything about the accelerators, with one question to the driver."""
    found = read_gpus(system)
    if not found:
        yield Finding("gpu", UNKNOWN, "no NVIDIA device answers (nvidia-smi)")
        return
    names = ", ".join(gpu.label for gpu in found)
    yield Finding("gpu", OK, f"{names}; driver {found[0].values['driver_version']}")
    yield _load(found)
    yield _throttling(found)
    yield _clocks(found)
    yield _persistence(found)


def _load(found: list[Gpu]) -> Finding:
    busy = [gpu for gpu in found if (gpu.number("utilization.gpu") or 0.0) > BUSY_PERCENT]
    held = [
        gpu
        for gpu in found
        if (gpu.number("memory.used") or 0.0) > HELD_FRACTION * (gpu.number("memory.total") or float("inf"))
    ]
    advice = "end what uses it (nvidia-smi lists the processes), or choose another with CUDA_VISIBLE_DEVICES"
    if busy:
        seen = ", ".join(f"{gpu.label} {gpu.number('utilization.gpu'):g}% busy" for gpu in busy)
        return Finding("gpu-load", BAD, seen, advice)
    if held:
        seen = ", ".join(f"{gpu.label} has {gpu.number('memory.used'):g} MiB in use" for gpu in held)
        return Finding("gpu-load", WARN, seen, advice)
    return Finding("gpu-load", OK, "idle, memory free")


def _throttling(found: list[Gpu]) -> Finding:
    held = [gpu for gpu in found if gpu.reasons & HEAT_OR_POWER]
    hot = [gpu for gpu in found if (gpu.number("temperature.gpu") or 0.0) >= HOT_C]
    if held:
        seen = ", ".join(
            f"{gpu.label}: {' and '.join(text for bit, text in REASONS.items() if gpu.reasons & bit & HEAT_OR_POWER)}"
            for gpu in held
        )
        verdict = BAD if any(gpu.reasons & HARDWARE for gpu in held) else WARN
        return Finding("gpu-throttling", verdict, seen, "improve cooling or power: results drift with heat")
    if hot:
        seen = ", ".join(f"{gpu.label} at {gpu.number('temperature.gpu'):g} °C" for gpu in hot)
        return Finding("gpu-throttling", WARN, seen, "let it cool down before measuring")
    return Finding("gpu-throttling", OK, "no clock is held down by heat or power")


def _clocks(found: list[Gpu]) -> Finding:
    lowered = []
    for gpu in found:
        limit, usual = gpu.number("power.limit"), gpu.number("power.default_limit")
        if limit is not None and usual is not None and limit < usual:
            lowered.append(f"{gpu.label} is limited to {limit:g} of {usual:g} W")
        if gpu.reasons & 0x2:
            lowered.append(f"{gpu.label}: {REASONS[0x2]}")
    if lowered:
        advice = "note it with the results, or undo it: nvidia-smi -pl and -rac"
        return Finding("gpu-clocks", WARN, ", ".join(lowered), advice)
    return Finding("gpu-clocks", OK, "full power limit, no clock set by hand")


def _persistence(found: list[Gpu]) -> Finding:
    off = [gpu for gpu in found if gpu.values["persistence_mode"] == "Disabled"]
    if off:
        seen = f"off on {', '.join(gpu.label for gpu in off)}: the driver unloads between runs"
        return Finding("gpu-persistence", WARN, seen, "sudo nvidia-smi -pm 1")
    return Finding("gpu-persistence", OK, "on, or not told")
