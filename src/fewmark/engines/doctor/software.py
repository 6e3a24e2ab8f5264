"""Checks of the software that the engine will run in: debug builds and settings that slow everything down."""

from __future__ import annotations

import importlib.util
import re
import sysconfig
from pathlib import Path
from typing import Final

from fewmark.engines.doctor.finding import BAD, OK, UNKNOWN, WARN, Finding
from fewmark.engines.doctor.system import System

SLOW_VARIABLES: Final = {
    "CUDA_LAUNCH_BLOCKING": "1",
    "PYTHONDEVMODE": None,
    "PYTHONMALLOC": "debug",
    "PYTHONTRACEMALLOC": None,
    "PYTHONPROFILEIMPORTTIME": None,
    "MALLOC_CHECK_": None,
    "TORCH_DISTRIBUTED_DEBUG": "DETAIL",
    "NCCL_DEBUG": "TRACE",
    "ATEN_CPU_CAPABILITY": "default",
}
SANITISERS: Final = ("libasan", "libtsan", "libubsan", "valgrind")


def debug_build(system: System) -> Finding:
    """Whether the interpreter, or torch, was built for debugging."""
    slow = ["Python"] if sysconfig.get_config_var("Py_DEBUG") else []
    if _torch_debug():
        slow.append("torch")
    if slow:
        return Finding("debug-build", BAD, f"{' and '.join(slow)} built for debugging", "install a release build")
    return Finding("debug-build", OK, "no debug build found")


def debug_settings(system: System) -> Finding:
    """Environment variables that make everything slower."""
    found = []
    for name, value in SLOW_VARIABLES.items():
        given = system.environment.get(name, "")
        if given not in ("", "0") and (value is None or given == value):
            found.append(f"{name}={given}")
    preloaded = system.environment.get("LD_PRELOAD", "")
    found += [f"LD_PRELOAD={preloaded}"] if any(name in preloaded for name in SANITISERS) else []
    if found:
        names = " ".join(sorted({item.partition("=")[0] for item in found}))
        return Finding("debug-settings", BAD, ", ".join(found), f"unset {names}")
    return Finding("debug-settings", OK, "no variable that slows things down")


def container(system: System) -> Finding:
    """What the process is contained in; limits are looked at by the checks of what they limit."""
    kind = system.environment.get("container")
    if system.text("/.dockerenv") is not None:
        kind = "docker"
    elif system.text("/run/.containerenv") is not None:
        kind = "podman"
    elif "KUBERNETES_SERVICE_HOST" in system.environment:
        kind = "kubernetes"
    return Finding("container", OK, kind or "none found")


def virtual_machine(system: System) -> Finding:
    """Whether the CPUs are virtual: neighbours may then be felt, and clocks cannot be seen."""
    text = system.text("/proc/cpuinfo")
    if text is None:
        return Finding("virtual-machine", UNKNOWN, "the kernel tells nothing of its CPUs")
    virtual = re.search(r"^flags\s*:.*\bhypervisor\b", text, re.MULTILINE) is not None
    seen = "the CPUs are virtual; clocks and heat cannot be seen from inside" if virtual else "none"
    return Finding("virtual-machine", OK, seen)


def core_dumps(system: System) -> Finding:
    """Whether a crash would write a dump of all memory, which takes long and fills disks."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    if soft == 0:
        return Finding("core-dumps", OK, "off")
    advice = "ulimit -c 0, unless you want them: a crashed engine writes its whole memory"
    return Finding("core-dumps", WARN, "on", advice)


def _torch_debug() -> bool:
    """Read from a file: importing torch takes seconds."""
    try:
        found = importlib.util.find_spec("torch")
        assert found is not None and found.origin is not None
        text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    except (AssertionError, ImportError, ValueError, OSError):
        return False
    return re.search(r"^debug\s*(?::[^=]*)?=\s*True", text, re.MULTILINE) is not None
