"""Energy by zeus (the extra ``energy``), where it finds meters: accelerators of NVIDIA and AMD, processors, and those
that only its daemon may read.

A total of 0 joules is what zeus says without any meter, and of a window shorter than a counter's steps: unknown here.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Mapping
from functools import cache
from itertools import count
from typing import Final, Protocol, cast

_KEYS: Final = count()


class _Energy(Protocol):
    gpu_energy: Mapping[int, float]
    cpu_energy: Mapping[int, float] | None
    dram_energy: Mapping[int, float] | None


class _Monitor(Protocol):
    def begin_window(self, key: str, sync_execution: bool = ...) -> None: ...
    def end_window(self, key: str, sync_execution: bool = ...) -> _Energy: ...


@cache
def monitor() -> _Monitor | None:
    """The one monitor of this process; None where zeus is not installed or does not start."""
    with contextlib.suppress(Exception):  # the drivers below it raise errors of their own
        return cast(_Monitor, importlib.import_module("zeus.monitor").ZeusMonitor())
    return None


class Window:
    """The energy from its making to its end."""

    def __init__(self) -> None:
        self._monitor, self._key = monitor(), f"fewmark-{next(_KEYS)}"
        if self._monitor is not None:
            try:  # what it would wait for runs in another process: the worker
                self._monitor.begin_window(self._key, sync_execution=False)
            except Exception:
                self._monitor = None

    def end(self) -> tuple[float | None, float | None]:
        """Joules of the processors with their memory, and of the accelerators; None is unknown."""
        if self._monitor is None:
            return None, None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a window too short for a counter
                told = self._monitor.end_window(self._key, sync_execution=False)
        except Exception:
            return None, None
        processors = _sum(told.cpu_energy)
        if processors is not None:
            processors += _sum(told.dram_energy) or 0.0
        return processors, _sum(told.gpu_energy)


def _sum(joules: Mapping[int, float] | None) -> float | None:
    """Of all meters; None where there is none, or one that has not moved."""
    values = list((joules or {}).values())
    return sum(values) if values and min(values) > 0 else None
