"""All checks of a host, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from fewmark.engines.doctor import cpu, gpu, memory, software
from fewmark.engines.doctor.finding import UNKNOWN, Finding
from fewmark.engines.doctor.system import System

Check = Callable[[System], Finding | Iterable[Finding]]
CHECKS: Final[tuple[Check, ...]] = (
    cpu.load,
    cpu.threads,
    cpu.pinning,
    cpu.numa,
    cpu.governor,
    cpu.throttling,
    cpu.quota,
    cpu.steal,
    cpu.clock,
    memory.memory,
    memory.swap,
    memory.page_cache,
    memory.allocator,
    memory.disk,
    software.container,
    software.virtual_machine,
    software.debug_build,
    software.debug_settings,
    software.core_dumps,
    gpu.gpus,
)


def examine(system: System | None = None, checks: Iterable[Check] = CHECKS) -> list[Finding]:
    """What every check finds; none takes longer than a few milliseconds where there is no accelerator.

    A check that meets files of an unexpected form answers "unknown" with the reason: looking must never stop a run.
    """
    system = system or System()
    findings: list[Finding] = []
    for check in checks:
        try:
            found = check(system)
            findings += [found] if isinstance(found, Finding) else list(found)
        except Exception as error:  # an odd file is no reason not to measure
            name = check.__name__.replace("_", "-")
            findings.append(Finding(name, UNKNOWN, f"cannot be read: {type(error).__name__}: {error}"))
    return findings
