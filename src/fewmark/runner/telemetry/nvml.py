"""NVIDIA devices through their management library (`nvidia-ml-py`, the extra ``telemetry``): energy, memory, use."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Mapping
from functools import cache
from types import ModuleType


@cache
def library() -> ModuleType | None:
    """The module; None where it is not installed, which is looked for once."""
    with contextlib.suppress(ImportError):
        return importlib.import_module("pynvml")
    return None


class Devices:
    """The devices that a worker may use; none where there is no driver or no `nvidia-ml-py`.

    Energy comes from the device's own counter of millijoules; where it has none, from power times time, which is as
    good as the sampling.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._handles: list[object] = []
        self._nvml: ModuleType | None = None
        if (nvml := library()) is not None:
            with contextlib.suppress(Exception):  # the library raises errors of its own for every lack of hardware
                nvml.nvmlInit()
                self._nvml = nvml
                self._handles = _visible(nvml, os.environ if environment is None else environment)
        self._began = [self._energy_mj(handle) for handle in self._handles]
        self._integral_j = [0.0] * len(self._handles)
        self._power = [(time.monotonic(), self._power_w(handle)) for handle in self._handles]
        self._use: list[float] = []
        self.peak_memory_bytes: int | None = None

    def sample(self) -> None:
        """Look at every device once."""
        nvml = self._nvml
        if nvml is None:
            return
        used, busy = [], []
        for number, handle in enumerate(self._handles):
            with contextlib.suppress(Exception):
                used.append(int(nvml.nvmlDeviceGetMemoryInfo(handle).used))
                busy.append(nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
            moment, before = self._power[number]
            now, power = time.monotonic(), self._power_w(handle)
            if power is not None and before is not None:
                self._integral_j[number] += (now - moment) * (power + before) / 2
            self._power[number] = (now, power)
        if used:
            self.peak_memory_bytes = max(self.peak_memory_bytes or 0, sum(used))
        if busy:
            self._use.append(sum(busy) / len(busy))

    def energy_j(self) -> float | None:
        """Joules of all devices since this was made; None where one of them does not tell."""
        total = 0.0
        for number, handle in enumerate(self._handles):
            before, now = self._began[number], self._energy_mj(handle)
            if before is not None and now is not None:
                total += (now - before) / 1000
            elif self._power[number][1] is not None:
                total += self._integral_j[number]
            else:
                return None
        return total if self._handles else None

    def utilisation(self) -> float | None:
        """The mean share of the time in which the devices worked, 0 to 1."""
        return sum(self._use) / len(self._use) if self._use else None

    def close(self) -> None:
        """Give the library back."""
        if self._nvml is not None:
            with contextlib.suppress(Exception):
                self._nvml.nvmlShutdown()
            self._nvml, self._handles = None, []

    def _energy_mj(self, handle: object) -> float | None:
        with contextlib.suppress(Exception):
            assert self._nvml is not None
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        return None

    def _power_w(self, handle: object) -> float | None:
        with contextlib.suppress(Exception):
            assert self._nvml is not None
            return float(self._nvml.nvmlDeviceGetPowerUsage(handle)) / 1000
        return None


def _visible(nvml: ModuleType, environment: Mapping[str, str]) -> list[object]:
    """The devices that CUDA would show."""
    everything = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return everything
    chosen = []
    for name in filter(None, map(str.strip, given.split(","))):
        if name.isdigit() and int(name) < len(everything):
            chosen.append(everything[int(name)])
        elif name.startswith("GPU-"):
            chosen.append(nvml.nvmlDeviceGetHandleByUUID(name))
        else:
            break  # as CUDA does: the list ends at the first that is none
    return chosen
