"""Checks of the processors: who else uses them, how fast they may run, where this process is put."""

from __future__ import annotations

from collections import Counter
from typing import Final

from fewmark.engines.doctor.finding import BAD, OK, UNKNOWN, WARN, Finding
from fewmark.engines.doctor.system import System, cpu_list

BUSY_FRACTION: Final = 0.25  # of the CPUs, kept busy by others, from which a machine counts as busy
STOLEN_FRACTION: Final = 0.02  # of the time, taken by other virtual machines
THROTTLED_FRACTION: Final = 0.01  # of the scheduler's periods in which the container ran out of its quota
THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PRECISE_CLOCKS: Final = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "timebase")


def load(system: System) -> Finding:
    """Other work on the machine in the last minute."""
    text = system.text("/proc/loadavg")
    if not text:
        return Finding("busy-machine", UNKNOWN, "the kernel tells no load average")
    average, n_cpus = float(text.split()[0]), len(system.cpus)
    seen = f"load average {average:g} on {n_cpus} CPUs"
    if average <= BUSY_FRACTION * n_cpus:
        return Finding("busy-machine", OK, seen)
    advice = "stop other work, or run with fewer threads; results of a busy machine scatter and are slow"
    return Finding("busy-machine", BAD if average > n_cpus else WARN, seen, advice)


def governor(system: System) -> Finding:
    """Who decides on the clock."""
    texts = [system.text(path) for path in system.paths("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")]
    found = Counter(filter(None, texts))
    if not found:
        return Finding("cpu-governor", UNKNOWN, "the kernel tells no frequency governor, as in virtual machines")
    seen = ", ".join(f"{name} on {count} CPUs" for name, count in found.most_common())
    if set(found) == {"performance"}:
        return Finding("cpu-governor", OK, seen)
    return Finding("cpu-governor", WARN, seen, "sudo cpupower frequency-set -g performance")


def throttling(system: System) -> Finding:
    """Whether heat has slowed the CPUs down since the machine started."""
    paths = system.paths("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = [count for path in paths if (count := system.number(path)) is not None]
    if not counts:
        return Finding("cpu-throttling", UNKNOWN, "the kernel counts no thermal throttling here")
    seen = f"{sum(counts)} thermal throttlings since the machine started"
    if not any(counts):
        return Finding("cpu-throttling", OK, seen)
    return Finding("cpu-throttling", WARN, seen, "improve the cooling, or measure in a random order with pauses")


def pinning(system: System) -> Finding:
    """Which CPUs the process may use."""
    online = cpu_list(system.text("/sys/devices/system/cpu/online") or "")
    seen = f"{len(system.cpus)} of {len(online) or len(system.cpus)} CPUs usable"
    siblings: dict[str, set[int]] = {}
    for cpu in system.cpus:
        text = system.text(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.setdefault(text or str(cpu), set()).add(cpu)
    split = [key for key, used in siblings.items() if len(used) < len(cpu_list(key))]
    if split and online:
        return Finding(
            "cpu-pinning", WARN, f"{seen}, and the other hyper-thread of {len(split)} of their cores is open to others",
            "pin to whole cores: taskset -c with both threads of each (lscpu -e shows them)",
        )  # fmt: skip
    return Finding("cpu-pinning", OK, seen)


def threads(system: System) -> Finding:
    """Whether the numerical libraries will start as many threads as there is room for."""
    room = system.cpu_share
    given = {name: system.environment[name] for name in THREAD_VARIABLES if system.environment.get(name)}
    large = [f"{name}={value}" for name, value in given.items() if value.isdigit() and int(value) > room]
    if large:
        seen = f"{', '.join(large)} on {room:g} usable CPUs"
        return Finding("thread-count", BAD, seen, f"export OMP_NUM_THREADS={max(1, int(room))}")
    if given:
        return Finding("thread-count", OK, ", ".join(f"{name}={value}" for name, value in given.items()))
    if room < len(system.cpus):
        seen = f"no thread count is set, {len(system.cpus)} CPUs are visible and the container may use {room:g}"
        return Finding("thread-count", WARN, seen, f"export OMP_NUM_THREADS={max(1, int(room))}")
    return Finding("thread-count", OK, f"none is set; libraries choose for {room:g} CPUs")


def numa(system: System) -> Finding:
    """Whether memory may be far from the CPUs that use it."""
    nodes = [cpu_list(system.text(path) or "") for path in system.paths("/sys/devices/system/node/node[0-9]*/cpulist")]
    nodes = [cpus for cpus in nodes if cpus]
    if not nodes:
        return Finding("numa", UNKNOWN, "the kernel tells no memory nodes")
    used = sum(bool(cpus & system.cpus) for cpus in nodes)
    seen = f"the usable CPUs are of {used} of {len(nodes)} memory nodes"
    if used <= 1:
        return Finding("numa", OK, seen)
    return Finding("numa", WARN, seen, "bind to one node: --worker-prefix 'numactl -N0 -m0'")


def steal(system: System) -> Finding:
    """Time that the host gave to other virtual machines."""
    fields = (system.text("/proc/stat") or "").partition("\n")[0].split()
    if len(fields) < 9 or fields[0] != "cpu":
        return Finding("stolen-time", UNKNOWN, "the kernel tells no stolen time")
    times = [int(field) for field in fields[1:9]]
    busy = sum(times) - times[3] - times[4]  # all but idle and waiting for disks
    share = times[7] / busy if busy else 0.0
    seen = f"{share:.1%} of the busy time since the start was given to other virtual machines"
    if share <= STOLEN_FRACTION:
        return Finding("stolen-time", OK, seen)
    return Finding("stolen-time", WARN, seen, "use a dedicated host, or a kind of machine that is not oversubscribed")


def quota(system: System) -> Finding:
    """Whether the container's share of the CPUs has run out."""
    limit = system.cpu_quota()
    if limit is None:
        return Finding("cpu-limit", OK, "no container limit on CPU time")
    lines = (line.split() for line in (system.cgroup("cpu", "cpu.stat") or "").splitlines())
    counts = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}
    periods, throttled = counts.get("nr_periods", 0), counts.get("nr_throttled", 0)
    seen = f"{limit:g} CPUs' time, used up in {throttled} of {periods} periods"
    if throttled <= THROTTLED_FRACTION * periods:
        return Finding("cpu-limit", OK, seen)
    advice = "raise the container's CPU limit, or pin whole CPUs instead (cpuset)"
    return Finding("cpu-limit", WARN, seen, advice)


def clock(system: System) -> Finding:
    """Whether reading the clock is quick and even."""
    source = system.text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if not source:
        return Finding("clock", UNKNOWN, "the kernel tells no clock source")
    if source in PRECISE_CLOCKS:
        return Finding("clock", OK, source)
    return Finding("clock", WARN, f"the slow clock source {source}", "boot with clocksource=tsc where it is stable")
