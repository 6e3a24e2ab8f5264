"""Watches a worker from a thread of the parent while it measures one case."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fewmark.core.json_types import Json
from fewmark.runner.telemetry import processes
from fewmark.runner.telemetry.nvml import Devices
from fewmark.runner.telemetry.rapl import POWERCAP, CpuEnergy
from fewmark.runner.telemetry.zeus import Window

INTERVAL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used. None is unknown, and never 0.

    Parameters
    ----------
    peak_memory_bytes : int or None
        The most resident memory of the worker and its descendants together.
    peak_private_memory_bytes : int or None
        The most of it, as far as it was seen, that was not pages of mapped files: those the kernel can take back.
    cpus_busy : float or None
        The mean number of CPUs that they kept busy.
    cpu_energy_j, accelerator_energy_j : float or None
        Joules of the whole machine's processors and memory, and of the accelerators that the worker may use.
    accelerator_peak_memory_bytes, accelerator_utilisation : int, float or None
        The most memory in use on these accelerators by anybody, and the mean share of time in which they worked.
    """

    peak_memory_bytes: int | None = None
    peak_private_memory_bytes: int | None = None
    cpus_busy: float | None = None
    cpu_energy_j: float | None = None
    accelerator_energy_j: float | None = None
    accelerator_peak_memory_bytes: int | None = None
    accelerator_utilisation: float | None = None

    @property
    def energy_j(self) -> float | None:
        """The joules that are known, together."""
        known = [value for value in (self.cpu_energy_j, self.accelerator_energy_j) if value is not None]
        return sum(known) if known else None

    def facts(self) -> dict[str, Json]:
        """What is known, by name; `energy_of` says what `energy_j` covers."""
        known = {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}
        parts = [name for name in ("cpu", "accelerator") if f"{name}_energy_j" in known]
        return known | ({"energy_of": "+".join(parts)} if parts else {})


class Telemetry:
    """A context in which the process `pid` and its descendants are watched; `usage` is known once it is left.

    Parameters
    ----------
    memory_limit_bytes : int, optional
        Of all of them together; pages of mapped files do not count.
    on_excess : callable
        Told, once and from another thread, that they hold more.
    """

    def __init__(
        self,
        pid: int,
        *,
        memory_limit_bytes: int | None = None,
        on_excess: Callable[[], None] = lambda: None,
        powercap: Path = POWERCAP,
    ) -> None:
        self._pid = pid
        self._limit, self._on_excess = memory_limit_bytes, on_excess
        self._powercap = powercap
        self._over = threading.Event()
        self._peak: int | None = None
        self._private: int | None = None
        self._alone = True
        self.usage = Usage()
        self.exceeded = False

    def __enter__(self) -> Self:
        self._kernel_peak = processes.reset_peak(self._pid)
        self._devices, self._energy, self._window = Devices(), CpuEnergy(self._powercap), Window()
        self._began, self._cpu = time.monotonic(), processes.cpu_seconds(processes.tree(self._pid))
        self._last_cpu = dict(self._cpu)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        elapsed = time.monotonic() - self._began
        peak = self._peak
        if self._kernel_peak and self._alone and (told := processes.peak_bytes(self._pid)) is not None:
            peak = max(peak or 0, told)  # between two looks there may have been more
        processors_j, accelerators_j = self._window.end()  # zeus, where it tells; below it our own readers
        used = sum(now - self._cpu.get(pid, 0.0) for pid, now in self._last_cpu.items())
        self.usage = Usage(
            peak_memory_bytes=peak,
            peak_private_memory_bytes=self._private,
            cpus_busy=round(used / elapsed, 3) if self._last_cpu and elapsed > 0.1 else None,
            cpu_energy_j=self._energy.read() if processors_j is None else processors_j,
            accelerator_energy_j=self._devices.energy_j() if accelerators_j is None else accelerators_j,
            accelerator_peak_memory_bytes=self._devices.peak_memory_bytes,
            accelerator_utilisation=self._devices.utilisation(),
        )
        self._devices.close()

    def _watch(self) -> None:
        while not self._over.wait(INTERVAL_S):
            self._look()
            self._energy.read()  # often enough that no counter runs over twice

    def _look(self) -> None:
        pids = processes.tree(self._pid)
        self._alone &= len(pids) <= 1
        held = processes.resident_bytes(pids)
        self._last_cpu |= processes.cpu_seconds(pids)
        self._devices.sample()
        if held is None:
            return
        resident, private = held
        self._peak, self._private = max(self._peak or 0, resident), max(self._private or 0, private)
        if self._limit is not None and private > self._limit and not self.exceeded:
            self.exceeded = True
            self._on_excess()
