"""Checks of memory and disk."""

from __future__ import annotations

import shutil
from typing import Final

from fewmark.engines.doctor.finding import BAD, OK, UNKNOWN, WARN, Finding
from fewmark.engines.doctor.system import System
from fewmark.engines.memory.allocator import has_glibc, replacement

GIB: Final = 2**30
SWAPPED_BYTES: Final = 2**28  # swapped out by now, from which pages that are needed may be among them
LOW_MEMORY: Final = 0.1  # of the machine's memory
LOW_DISK_BYTES, NO_DISK_BYTES = GIB, 64 * 2**20


def memory(system: System) -> Finding:
    """Room that is left, of the machine's memory and of the container's limit."""
    kib = system.pairs("/proc/meminfo")
    if "MemAvailable" not in kib or not kib.get("MemTotal"):
        return Finding("memory", UNKNOWN, "the kernel tells no free memory")
    total, free = kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024
    seen = f"{free / GIB:.1f} of {total / GIB:.1f} GiB available"
    limit = system.memory_limit_bytes()
    if limit is not None and limit < total:
        seen += f", container limit {limit / GIB:.1f} GiB"
    if free >= LOW_MEMORY * total:
        return Finding("memory", OK, seen)
    return Finding("memory", WARN, seen, "end what holds memory; cases that do not fit are recorded as out_of_memory")


def swap(system: System) -> Finding:
    """Whether memory has been moved to disk."""
    kib = system.pairs("/proc/meminfo")
    if "SwapTotal" not in kib:
        return Finding("swap", UNKNOWN, "the kernel tells no swap")
    used = (kib["SwapTotal"] - kib.get("SwapFree", 0)) * 1024
    seen = f"{used / GIB:.1f} of {kib['SwapTotal'] * 1024 / GIB:.1f} GiB of swap in use"
    if used <= SWAPPED_BYTES:
        return Finding("swap", OK, seen)
    return Finding("swap", WARN, seen, "free memory, then sudo swapoff -a; a model that is swapped measures the disk")


def page_cache(system: System) -> Finding:
    """How much of the files that were read the kernel still holds; it decides what placement on disk measures."""
    kib = system.pairs("/proc/meminfo")
    if "Cached" not in kib:
        return Finding("page-cache", UNKNOWN, "the kernel tells no page cache")
    return Finding("page-cache", OK, f"{kib['Cached'] / 2**20:.1f} GiB of files are cached, and more can be")


def allocator(system: System) -> Finding:
    """Which allocator engines run on; glibc's maps large blocks anew at each step until it has freed larger ones."""
    if (other := replacement(system.environment)) is not None:
        return Finding("allocator", OK, f"{other} is preloaded")
    if not has_glibc():
        return Finding("allocator", UNKNOWN, "no glibc: first repeats may be slower than later ones")
    return Finding("allocator", OK, "glibc; engines keep freed memory, unless allocator: system asks otherwise")


def disk(system: System) -> Finding:
    """Room for the store in the working folder."""
    try:
        free = shutil.disk_usage(".").free
    except OSError:
        return Finding("disk-space", UNKNOWN, "the free space of the working folder cannot be read")
    seen = f"{free / GIB:.1f} GiB free in the working folder"
    if free >= LOW_DISK_BYTES:
        return Finding("disk-space", OK, seen)
    return Finding("disk-space", BAD if free < NO_DISK_BYTES else WARN, seen, "free some space before a long run")
