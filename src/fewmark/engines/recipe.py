"""How an engine is installed into an environment of its own, as data: steps that any machine can follow.

A step runs in a fresh virtual environment. What pip is configured to use (indexes, certificates, caches) holds for it
too. Standard library only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from fewmark.core import EngineError

Log = Callable[[str], None]
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
class Place:
    """Where a recipe is followed: the environment's folder, and what its commands write."""

    folder: Path
    log: Path
    environment: Mapping[str, str]

    @property
    def python(self) -> Path:
        """The interpreter of the environment."""
        return self.folder / "bin" / "python"

    def call(self, command: Sequence[str | Path], cwd: Path | None = None) -> str:
        """Run a command, its words appended to the log; its output. Raises `EngineError` where it fails."""
        words = [str(word) for word in command]
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(words)}\n")
            log.flush()
            try:
                done = subprocess.run(
                    words,
                    cwd=cwd,
                    env=dict(self.environment),
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    check=False,
                )
            except OSError as error:
                raise EngineError("a command of the installation cannot be run", got=f"{words[0]}: {error}") from None
            log.write(done.stdout)
        if done.returncode != 0:
            raise EngineError(
                "a command of the installation failed",
                got=f"{Path(words[0]).name} {' '.join(words[1:6])}…: {_reason(self.log)}",
                hint=f"the whole output is in {self.log}",
            )
        return done.stdout


class Step(Protocol):
    """One step of a recipe; its fields are JSON values, by which a changed recipe is told from an old one."""

    def run(self, place: Place) -> None:
        """Do it. Raises `EngineError`."""


@dataclass(frozen=True, slots=True)
class Pip:
    """``pip install`` with these arguments."""

    arguments: tuple[str, ...]

    def run(self, place: Place) -> None:
        """Install."""
        place.call([place.python, "-m", "pip", "install", "--progress-bar", "off", *self.arguments])


@dataclass(frozen=True, slots=True)
class RequirementsOf:
    """Install what an installed package asks for, without some packages that are there in another build."""

    package: str
    without: tuple[str, ...]

    def run(self, place: Place) -> None:
        """Install."""
        listed = place.call([place.python, "-c", PRINT_REQUIREMENTS, self.package, *self.without])
        wanted = place.folder / f"{self.package}.requirements.txt"
        wanted.write_text(listed, encoding="utf-8")
        place.call([place.python, "-m", "pip", "install", "--progress-bar", "off", "-r", wanted])


@dataclass(frozen=True, slots=True)
class CMake:
    """Build targets of a source distribution with CMake, and keep their programs in the environment's ``bin``.

    `archive` is a requirement of which the registry holds the source; `source` the folder with CMakeLists.txt in it.
    """

    archive: str
    source: str
    targets: tuple[str, ...]
    definitions: tuple[str, ...] = field(default=())

    def run(self, place: Place) -> None:
        """Fetch, build, copy."""
        build = place.folder / "build"
        shutil.rmtree(build, ignore_errors=True)
        build.mkdir()
        fetch = [place.python, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--progress-bar", "off"]
        place.call([*fetch, "--no-build-isolation", "-d", build, self.archive])
        [packed] = build.iterdir()
        shutil.unpack_archive(packed, build / "source", filter="data")
        [top] = [p.parent for p in (build / "source").glob(f"*/{self.source}/CMakeLists.txt")]
        cmake, ninja = place.folder / "bin" / "cmake", place.folder / "bin" / "ninja"
        out = build / "out"
        flags = [f"-D{definition}" for definition in ("CMAKE_BUILD_TYPE=Release", *self.definitions)]
        place.call([cmake, "-S", top, "-B", out, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", *flags])
        place.call([cmake, "--build", out, "--target", *self.targets])
        for target in self.targets:
            shutil.copy2(out / "bin" / target, place.folder / "bin" / target)
        shutil.rmtree(build)


@dataclass(frozen=True, slots=True)
class Recipe:
    """All steps, in order."""

    steps: tuple[Step, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values: what the recipe says, and for which Python."""
        steps = [{"kind": type(step).__name__, **asdict(step)} for step in self.steps]  # type: ignore[call-overload]
        return {"python": list(sys.version_info[:2]), "steps": steps}


def _reason(log: Path) -> str:
    """The last line that says what went wrong."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines[-80:] if "error" in line.lower()]
    return (errors or lines or ["no output"])[-1][:300]
