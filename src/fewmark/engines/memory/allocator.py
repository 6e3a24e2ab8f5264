"""What glibc does with memory that is freed: kept for the next allocation, or given back to the system.

By default a block that is larger than any freed before in the process is mapped anew, and given back when it is freed.
A cache of keys and values that grows by concatenation is such a block at each token from some length on: each step then
pays for thousands of page faults, until the process has freed a larger one. So a time would depend on what was measured
before it. Engines run with freed memory kept (``allocator: keep``), and each case begins with the heap trimmed.

``allocator: system`` among a deployment's engine options leaves the defaults, for those who measure servers that run
with them. Thresholds that were set cannot be unset, so such a deployment needs a process of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Mapping
from typing import Final

OPTION: Final = "allocator"
KEEP: Final = "keep"
SYSTEM: Final = "system"
CHOICES: Final = (KEEP, SYSTEM)

M_TRIM_THRESHOLD: Final = -1  # of glibc's malloc.h, like the next
M_MMAP_THRESHOLD: Final = -3
KEPT_BYTES: Final = 2**31 - 1  # mallopt takes an int
BLOCK_BYTES: Final = 2**20
VARIABLES: Final = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")  # for the processes that an engine starts
OTHERS: Final = ("jemalloc", "mimalloc", "tcmalloc")

_in_force = SYSTEM


def is_glibc() -> bool:
    """Whether this process allocates through glibc."""
    return has_glibc() and replacement() is None


def has_glibc() -> bool:
    """Whether the C library is glibc."""
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


def replacement(environment: Mapping[str, str] = os.environ) -> str | None:
    """The allocator that was preloaded in glibc's place, by name; None where there is none."""
    preloaded = environment.get("LD_PRELOAD", "")
    return next((name for name in OTHERS if name in preloaded), None)


def settle(choice: str) -> bool:
    """Keep freed memory from now on, or leave it to the system's defaults; whether that holds now.

    False only where ``system`` is asked for after ``keep`` in the same process. Without glibc nothing is changed.
    """
    global _in_force
    if choice == SYSTEM:
        return _in_force == SYSTEM
    if is_glibc() and _set(M_MMAP_THRESHOLD, KEPT_BYTES) and _set(M_TRIM_THRESHOLD, KEPT_BYTES):
        for name in VARIABLES:
            os.environ.setdefault(name, str(KEPT_BYTES))
        _in_force = KEEP
    return True


def in_force() -> str:
    """How memory is allocated here, for the environment: ``keep``, ``system`` or the name of another allocator."""
    return replacement() or _in_force


def give_back_at_once() -> None:
    """Let blocks of 1 MiB and more go back to the system when they are freed, until `keep_again`.

    For a model that only passes through memory, module by module: it would fill memory as if it were loaded.
    """
    if is_glibc():
        _set(M_MMAP_THRESHOLD, BLOCK_BYTES)


def keep_again() -> None:
    """End what `give_back_at_once` began."""
    if is_glibc():  # the system's own threshold cannot be asked for; it comes to this after the first large blocks
        _set(M_MMAP_THRESHOLD, KEPT_BYTES if _in_force == KEEP else 2**25)


def trim() -> None:
    """Give what is free back to the system, so that a case does not find what the one before it left."""
    if _in_force == KEEP:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _set(parameter: int, value: int) -> bool:
    try:
        return bool(ctypes.CDLL(None).mallopt(parameter, value))
    except (OSError, AttributeError):
        return False
