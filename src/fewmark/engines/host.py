"""Facts about the machine that a worker runs on, and how busy others keep it. Unknown facts are left out."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path

from fewmark.core.json_types import Json
from fewmark.engines.doctor import examine
from fewmark.engines.measuring.faults import use_so_far

CGROUP = Path("/sys/fs/cgroup")
UNLIMITED = 2**60  # how version 1 of cgroups writes "no limit": a number near 2**63


def host_facts() -> dict[str, Json]:
    """The machine now: JSON values, memory in bytes, the unknown left out; ``doctor`` holds what the checks found."""
    memory = _memory()
    facts = {
        "host": platform.node() or None,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "cpu_usable": usable_cpus(),
        "cpu_limit": _cpu_limit(),
        "load_average_1m": _load_average(),
        "memory_total_bytes": memory.get("MemTotal"),
        "memory_available_bytes": available_memory_bytes(),
        "memory_limit_bytes": _memory_limit(),
        "threads_variable": os.environ.get("OMP_NUM_THREADS"),
        "container": _container(),
        "doctor": [finding.to_dict() for finding in examine()],
    }
    return {key: value for key, value in facts.items() if value is not None}


def usable_cpus() -> int:
    """How many CPUs this process may be scheduled on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory_bytes() -> int | None:
    """Memory that this process can still take: the machine's and, in a container, what its limit leaves."""
    free = _memory().get("MemAvailable")
    limit, used = _memory_limit(), _number(CGROUP / "memory.current", CGROUP / "memory/memory.usage_in_bytes")
    if limit is not None and used is not None:
        left = max(0, limit - used + _reclaimable())
        free = left if free is None else min(free, left)
    return free


def limit_memory(n_bytes: int) -> None:
    """Let this process, and each that it starts, allocate at most so much private memory; asking for more fails.

    It is the data that is limited (Linux' ``RLIMIT_DATA``), not the address space: device drivers reserve much more
    of that than they use. A lower limit that is in force stays.
    """
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = n_bytes if hard == resource.RLIM_INFINITY else min(n_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


class CpuWatch:
    """How many CPUs other processes kept busy since this was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._busy, self._own = _busy_cpu_s(), _own_cpu_s()

    def facts(self) -> dict[str, Json]:
        """``load_average_1m`` and ``other_cpus_busy`` (a mean number of CPUs), where they can be known."""
        elapsed, busy = time.perf_counter() - self._began, _busy_cpu_s()
        facts: dict[str, Json] = {}
        if (load := _load_average()) is not None:
            facts["load_average_1m"] = load
        if busy is not None and self._busy is not None and elapsed > 0.1:  # the counters tick every 10 ms
            others = (busy - self._busy) - (_own_cpu_s() - self._own)
            facts["other_cpus_busy"] = round(max(0.0, others) / elapsed, 3)
        return facts


def _busy_cpu_s() -> float | None:
    line = _text(Path("/proc/stat")).partition("\n")[0].split()
    if len(line) < 9 or line[0] != "cpu":
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(part) for part in line[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_cpu_s() -> float:
    """CPU seconds of this process, of those that came of it and run (an engine's server), and of those that ended."""
    used, alive = os.times(), use_so_far()
    own = used.user + used.system if alive is None else alive.cpu_s
    return own + used.children_user + used.children_system


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _cpu_model() -> str | None:
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or None


def _cpu_limit() -> float | None:
    quota, _, period = _text(CGROUP / "cpu.max").strip().partition(" ")
    if not quota:  # version 1 of cgroups
        quota, period = (_text(CGROUP / f"cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return round(int(quota) / int(period), 3) if quota.isdigit() and period.isdigit() else None


def _memory() -> dict[str, int]:
    found = {}
    for line in _text(Path("/proc/meminfo")).splitlines():
        name, _, rest = line.partition(":")
        parts = rest.split()
        if len(parts) == 2 and parts[1] == "kB":
            found[name] = int(parts[0]) * 1024
    return found


def _memory_limit() -> int | None:
    limit = _number(CGROUP / "memory.max", CGROUP / "memory/memory.limit_in_bytes")
    return limit if limit is not None and limit < UNLIMITED else None


def _reclaimable() -> int:
    for path in (CGROUP / "memory.stat", CGROUP / "memory/memory.stat"):
        for line in _text(path).splitlines():
            if line.startswith("inactive_file "):
                return int(line.split()[1])
    return 0


def _container() -> str | None:
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    return os.environ.get("container") or None  # noqa: SIM112 (systemd's name for it)


def _number(*paths: Path) -> int | None:
    for path in paths:
        text = _text(path).strip()
        if text.isdigit():
            return int(text)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
