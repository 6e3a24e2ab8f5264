"""The most memory that this process and its CUDA device held while a case was measured. Unknown is left out."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from fewmark.core.json_types import Json

STATUS: Final = Path("/proc/self/status")
CLEAR_REFS: Final = Path("/proc/self/clear_refs")


class PeakMemory:
    """Begins a watch: resets the high-water marks where the kernel and the device let it."""

    def __init__(self) -> None:
        self.reset = False
        with contextlib.suppress(OSError):
            CLEAR_REFS.write_text("5", encoding="ascii")  # 5: only the peak of the resident memory (Linux 4.0)
            self.reset = True
        self._before = resident_bytes()
        if (cuda := _cuda()) is not None:
            cuda.reset_peak_memory_stats()

    def facts(self) -> dict[str, Json]:
        """``peak_memory_bytes``, ``resident_before_bytes``, ``peak_device_memory_bytes``; JSON values.

        Where the mark could not be reset, the peak is that of the process's life and says so.
        """
        facts: dict[str, Json] = {}
        if (peak := resident_bytes("VmHWM")) is not None:
            facts["peak_memory_bytes"] = peak
            if not self.reset:
                facts["peak_memory_of"] = "process"
        if self._before is not None:
            facts["resident_before_bytes"] = self._before
        if (cuda := _cuda()) is not None:
            facts["peak_device_memory_bytes"] = int(cuda.max_memory_allocated())
        return facts


def resident_bytes(name: str = "VmRSS") -> int | None:
    """Resident memory of this process, now or (``VmHWM``) at its highest; None where it cannot be known."""
    try:
        lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith(name + ":")]
    return int(found[0][1]) * 1024 if found else None


def _cuda() -> ModuleType | None:
    # Only where the engine has brought torch along and used the device: asking must not start anything.
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None
