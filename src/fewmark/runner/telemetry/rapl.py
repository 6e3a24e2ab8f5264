"""Energy of processors and their memory, from the counters that the kernel shows under ``/sys/class/powercap``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

POWERCAP: Final = Path("/sys/class/powercap")
WHOLE: Final = ("package", "dram", "psys")


@dataclass(frozen=True, slots=True)
class Zone:
    """A counter of microjoules that starts again from 0 beyond `limit_uj`."""

    path: Path
    limit_uj: int

    def read_uj(self) -> int | None:
        """The counter now; None where it cannot be read (only root may, as a rule)."""
        return _number(self.path / "energy_uj")


def zones(root: Path = POWERCAP) -> list[Zone]:
    """The counters that add up to the machine: each package and each memory, no core within a package twice.

    A counter of the whole platform (``psys``) holds the others, and is taken alone.
    """
    named = []
    for path in sorted(root.glob("intel-rapl*:*")):
        try:
            name = (path / "name").read_text(encoding="ascii").strip()
        except OSError:
            continue
        limit = _number(path / "max_energy_range_uj")
        if name.startswith(WHOLE) and limit:
            named.append((name, Zone(path, limit)))
    # The same counters appear a second time behind the memory-mapped interface.
    mapped = [item for item in named if item[1].path.name.startswith("intel-rapl-mmio")]
    named = [item for item in named if item not in mapped] or mapped
    platform = [zone for name, zone in named if name.startswith("psys")]
    return platform or [zone for _, zone in named]


class CpuEnergy:
    """Joules since it was made. `read` as often as a counter may run over: every minute is enough."""

    def __init__(self, root: Path = POWERCAP) -> None:
        self._last = {zone: value for zone in zones(root) if (value := zone.read_uj()) is not None}
        self._sum_uj = 0

    def read(self) -> float | None:
        """Joules until now; None where the hardware does not tell, or not to us."""
        for zone, before in self._last.items():
            now = zone.read_uj()
            if now is None:
                self._last = {}
                break
            self._sum_uj += now - before if now >= before else now - before + zone.limit_uj
            self._last[zone] = now
        return self._sum_uj / 1e6 if self._last else None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
