"""Programs built from source: once for each version and set of definitions, resumed where a build was interrupted.

What was built is kept beside the environments, in ``builds``: an environment that is made again, for another Python or
by another recipe, takes the programs from there. Sources and objects are kept until the build is whole; CMake and
ninja then go on where they were.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from fewmark.engines.environments.folders import engines_home
from fewmark.engines.environments.recipe import Build

SAY_EVERY_S: Final = 10.0
STEP: Final = re.compile(r"\[(\d+)/(\d+)\]")


class Call(Protocol):
    """Runs a command, hands each line that it prints to `heard`, and raises `EngineError` where it fails."""

    def __call__(self, command: Sequence[str | Path], heard: Callable[[str], None] = ...) -> str: ...


class Builder:
    """Builds into ``builds`` and installs into the environment in `folder`, which has CMake and ninja."""

    def __init__(self, build: Build, folder: Path, call: Call, say: Callable[[str], None]) -> None:
        self.build, self.folder, self.call, self.say = build, folder, call, say
        self.kept = engines_home() / "builds" / build.identity

    def install(self, python: Path) -> None:
        """Put the programs beside `python`, built now or before. Raises `EngineError`."""
        programs = [self.kept / "bin" / target for target in self.build.targets]
        if all(program.is_file() for program in programs):
            self.say(f"{', '.join(self.build.targets)}: built before, taken from {self.kept / 'bin'}")
        else:
            self._make(python)
        for program in programs:
            shutil.copy2(program, self.folder / "bin" / program.name)

    def _make(self, python: Path) -> None:
        source, out, tools = self._source(python), self.kept / "out", self.folder / "bin"
        flags = [f"-D{definition}" for definition in ("CMAKE_BUILD_TYPE=Release", *self.build.definitions)]
        ninja = f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}"
        begun = "going on with" if (out / "build.ninja").exists() else "building"
        minutes = max(1, round(self.build.cpu_minutes / (os.cpu_count() or 1)))
        self.say(f"{begun} {', '.join(self.build.targets)}; the whole takes about {minutes} min on an idle machine")
        self.call([tools / "cmake", "-S", source, "-B", out, "-G", "Ninja", ninja, *flags])
        heard = Progress(self.say)
        self.call([tools / "cmake", "--build", out, "--target", *self.build.targets], heard)
        whole = self.kept / "bin.new"
        whole.mkdir(exist_ok=True)
        for target in self.build.targets:
            shutil.copy2(out / "bin" / target, whole / target)
        shutil.rmtree(self.kept / "bin", ignore_errors=True)
        whole.rename(self.kept / "bin")
        for used in ("out", "source"):
            shutil.rmtree(self.kept / used, ignore_errors=True)

    def _source(self, python: Path) -> Path:
        """The unpacked source; fetched where no earlier attempt has."""
        unpacked = self.kept / "source"
        if not unpacked.is_dir():
            fetched, partial = self.kept / "fetched", self.kept / "source.new"
            for left in (fetched, partial, self.kept / "out"):
                shutil.rmtree(left, ignore_errors=True)
            fetched.mkdir(parents=True)
            self.say(f"fetching the source of {self.build.archive}")
            self.call(
                [
                    python, "-m", "pip", "download", "--progress-bar", "off", "--no-deps", "--no-binary", ":all:",
                    "--no-build-isolation", "-d", fetched, self.build.archive,
                ]
            )  # fmt: skip
            [packed] = fetched.iterdir()
            with tarfile.open(packed) as archive:
                if hasattr(tarfile, "data_filter"):  # Python 3.11's first releases have none
                    archive.extraction_filter = tarfile.data_filter
                archive.extractall(partial)
            shutil.rmtree(fetched)
            partial.rename(unpacked)
        [source] = (path.parent for path in unpacked.glob(f"*/{self.build.source}/CMakeLists.txt"))
        return source


class Progress:
    """Reads ninja's ``[done/total]``, and says now and then how far it is and how long it will take."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.say, self.clock = say, clock
        self.began = self.said = clock()

    def __call__(self, line: str) -> None:
        found, now = STEP.match(line), self.clock()
        if found is None or now - self.said < SAY_EVERY_S:
            return
        self.said, done, total = now, int(found[1]), int(found[2])
        left_s = (now - self.began) / max(done, 1) * (total - done)
        left = f"{left_s:.0f} s" if left_s < 90 else f"{left_s / 60:.0f} min"
        self.say(f"  {done} of {total} steps, about {left} left")
