"""How a worker is started: an interpreter, behind any command prefix."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from fewmark.engines import probe
from fewmark.engines.environments.folders import environment_python
from fewmark.engines.registry import is_known
from fewmark.engines.worker.boot import COMMAND


@dataclass(frozen=True, slots=True)
class Launch:
    """The interpreter that a worker runs in, and what stands before it.

    Parameters
    ----------
    python : str, optional
        Path or name of a Python of at least 3.11 that has the engine installed. By default this interpreter, or
        ``python3`` behind a prefix.
    prefix : tuple of str
        A command that runs the command that follows it and passes its standard streams on: ``("ssh", "gpu-host")``,
        ``("docker", "run", "-i", "image")``, ``("srun",)``, ``("numactl", "-N0")``.
    environment : mapping of str to str
        Environment variables that the worker gets besides ours, where the prefix passes them on.
    memory_limit_bytes : int, optional
        The most private memory that each process of the worker may allocate, and, where they run on this machine, the
        most that they may hold together. What needs more ends as ``out_of_memory``.
    """

    python: str | None = None
    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_limit_bytes: int | None = None

    def for_engine(self, name: str) -> Launch:
        """The same with the interpreter of the engine's own environment, where nothing else was asked for.

        An engine that can run in this interpreter does; so does one that has no environment, to say why it cannot.
        """
        if self.python is not None or self.prefix or not is_known(name) or probe(name).available:
            return self
        python = environment_python(name)
        return self if python is None else replace(self, python=str(python))

    def command(self) -> list[str]:
        """The arguments that start a worker."""
        worker = [self.python or ("python3" if self.prefix else sys.executable), "-c", COMMAND]
        if self.prefix and PurePath(self.prefix[0]).name == "ssh":
            worker = [shlex.join(worker)]  # ssh glues its arguments together for a shell on the other side
        return [*self.prefix, *worker]
