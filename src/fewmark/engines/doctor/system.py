"""The machine as the checks see it: files under a root, environment variables, commands. Tests give their own."""

from __future__ import annotations

import glob
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

COMMAND_TIMEOUT_S: Final = 10.0
UNLIMITED: Final = 2**60  # version 1 of cgroups writes "no limit" as a number near 2**63


def run_command(arguments: Sequence[str]) -> str | None:
    """What a command prints; None if it is not there, fails or does not end."""
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def usable_cpus() -> frozenset[int]:
    """The CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


@dataclass(frozen=True)
class System:
    """Where to look.

    Parameters
    ----------
    root : Path
        What stands for ``/``.
    environment : mapping of str to str
        The environment variables.
    command : callable
        From arguments to what the command prints, None where it cannot.
    cpus : frozenset of int
        The CPUs that this process may run on.
    """

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    command: Callable[[Sequence[str]], str | None] = run_command
    cpus: frozenset[int] = field(default_factory=usable_cpus)

    def text(self, path: str) -> str | None:
        """A file's text without the white space around it; None where it cannot be read."""
        try:
            return (self.root / path.lstrip("/")).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """A file's whole number; None where it holds none."""
        text = self.text(path)
        return int(text) if text is not None and text.lstrip("-").isdigit() else None

    def paths(self, pattern: str) -> list[str]:
        """The paths that match a shell pattern, sorted, as seen from the root."""
        found = glob.glob(str(self.root / pattern.lstrip("/")))  # noqa: PTH207 (patterns span folders)
        return ["/" + str(Path(path).relative_to(self.root)) for path in sorted(found)]

    def pairs(self, path: str) -> dict[str, int]:
        """The numbers of a file whose lines are a name and a number: ``cpu.stat``, ``vmstat``, ``meminfo``."""
        found = {}
        for line in (self.text(path) or "").splitlines():
            name, *rest = line.replace(":", " ").split()[:2] or [""]
            if rest and rest[0].isdigit():
                found[name] = int(rest[0])
        return found

    def cgroup(self, controller: str, name: str) -> str | None:
        """A control file of this process's cgroup, of version 2 (`name`) or of version 1's `controller`.

        In a container the process's own group is usually mounted as the root of the tree; both places are tried.
        """
        own = {"": ""}
        for line in (self.text("/proc/self/cgroup") or "").splitlines():
            _, controllers, path = line.split(":", 2)
            own |= dict.fromkeys(controllers.split(","), path.rstrip("/"))
        folders = [f"/sys/fs/cgroup{own['']}", "/sys/fs/cgroup"]
        folders += [f"/sys/fs/cgroup/{controller}{own.get(controller, '')}", f"/sys/fs/cgroup/{controller}"]
        return next((text for folder in folders if (text := self.text(f"{folder}/{name}")) is not None), None)

    def cpu_quota(self) -> float | None:
        """How many CPUs' time the container may use; None without a limit."""
        quota, _, period = (self.cgroup("cpu", "cpu.max") or "").partition(" ")
        if not quota:
            quota, period = (self.cgroup("cpu", f"cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
        return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None

    def memory_limit_bytes(self) -> int | None:
        """The container's memory limit; None without one."""
        text = self.cgroup("memory", "memory.max") or self.cgroup("memory", "memory.limit_in_bytes") or ""
        return int(text) if text.isdigit() and int(text) < UNLIMITED else None

    @property
    def cpu_share(self) -> float:
        """How many CPUs this process can keep busy: those it may run on, and no more than its quota."""
        quota = self.cpu_quota()
        return float(len(self.cpus)) if quota is None else min(float(len(self.cpus)), quota)


def cpu_list(text: str) -> frozenset[int]:
    """The CPUs behind the kernel's notation: ``0-3,8``."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)
