"""How an engine gets an environment of its own, as data beside each engine; followed by
`fewmark.engines.environments.install`."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Final

PRINT_REQUIREMENTS: Final = """
import sys
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
package, without = sys.argv[1], set(sys.argv[2:])
for line in requires(package) or []:
    wanted = Requirement(line)
    if wanted.name.lower().replace("_", "-") in without:
        continue
    if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
        wanted.marker = None
        print(wanted)
"""


@dataclass(frozen=True, slots=True)
class Build:
    """Programs built with CMake (of the environment, with ninja) from a package's source, and kept in its ``bin``.

    Parameters
    ----------
    archive : str
        The requirement whose source distribution the registry holds.
    source : str
        The folder in it that has CMakeLists.txt.
    targets : tuple of str
        The programs.
    definitions : tuple of str
        For CMake, such as ``LLAMA_CURL=OFF``.
    cpu_minutes : float
        About how long one CPU takes for it.
    """

    archive: str
    source: str
    targets: tuple[str, ...]
    definitions: tuple[str, ...] = ()
    cpu_minutes: float = 1.0

    @property
    def identity(self) -> str:
        """What tells these programs from others: source, version, targets and definitions."""
        told = json.dumps([self.archive, self.source, self.targets, self.definitions])
        return hashlib.sha256(told.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is installed into a fresh virtual environment, in this order.

    Parameters
    ----------
    steps : tuple of tuples of str
        The arguments of one ``pip install`` each.
    requirements_of : str
        Then what this installed package asks for …
    without : tuple of str
        … but for these packages, which are there in another build.
    metadata : tuple of (name, version)
        Distributions that are declared as installed: an engine may ask for itself under another name.
    build : Build, optional
        Then a program that is built from source.
    check : str
        Python code that must run in the environment at last.
    needs_gib : float
        Free disk space that it takes.
    """

    steps: tuple[tuple[str, ...], ...]
    requirements_of: str = ""
    without: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    build: Build | None = None
    check: str = ""
    needs_gib: float = 1.0

    @property
    def identity(self) -> str:
        """What tells this recipe, for this Python, from any other."""
        return json.dumps({"python": sys.version_info[:2], **asdict(self)}, sort_keys=True)

    @property
    def takes(self) -> str:
        """What following it takes, for a person who decides whether to begin."""
        text = f"{self.needs_gib:g} GiB of disk space"
        if self.build is not None:
            cpus = os.cpu_count() or 1
            minutes = max(1, round(self.build.cpu_minutes / cpus))
            text += f", and about {minutes} min to build {', '.join(self.build.targets)} on {cpus} CPUs, once"
        return text
