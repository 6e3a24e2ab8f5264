"""Make an engine's own environment by its recipe; `fewmark.engines.environments.folders` knows where it lies.

An environment is whole when it holds the marker of the recipe that it was made by; anything else there is an
interrupted attempt, and made again. What pip is configured to use (indexes, certificates, caches) holds here too.
Programs that take minutes to build (`fewmark.engines.environments.building`) outlive the environments.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fewmark.core import EngineError
from fewmark.engines.environments.building import Builder
from fewmark.engines.environments.folders import (
    HOME_VARIABLE,
    MARKER,
    engines_home,
    environment_python,
    environment_recipe_id,
    recipe_of,
)
from fewmark.engines.environments.recipe import PRINT_REQUIREMENTS, Recipe

FOREIGN: Final = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # variables that lead into another environment


def install_engine(name: str, say: Callable[[str], None] = lambda text: None) -> tuple[Path, bool]:
    """Make an engine's environment; its interpreter, and whether it was made now.

    Raises
    ------
    EngineError
        If the engine is unknown or has no recipe, or a step of it fails; the environment is then not whole.
    """
    recipe = recipe_of(name)
    if recipe is None:
        raise EngineError("this engine needs no environment of its own", got=name, hint="see `fewmark engines`")
    folder = engines_home() / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.parent / f"{name}.lock"):
            python = environment_python(name)
            if python is not None and environment_recipe_id(name) == recipe.identity:
                return python, False
            free = shutil.disk_usage(folder.parent).free / 2**30
            if free < recipe.needs_gib:
                raise EngineError(
                    f"the engine {name!r} needs {recipe.needs_gib:g} GiB of disk space",
                    got=f"{free:.1f} GiB free in {folder.parent}",
                    hint=f"make room, or set {HOME_VARIABLE}",
                )
            shutil.rmtree(folder, ignore_errors=True)
            _Follower(folder, folder.parent / f"{name}.log", say).follow(recipe)
            marker = {"engine": name, "recipe": recipe.identity}
            (folder / MARKER).write_text(json.dumps(marker), encoding="utf-8")
    except OSError as error:
        raise EngineError(
            f"the engine {name!r} cannot be installed",
            got=f"{error.filename or folder}: {error.strerror or error}",
            hint=f"{HOME_VARIABLE} says where engines go",
        ) from None
    return folder / "bin" / "python", True


class _Follower:
    """Follows a recipe in a folder; every command and its output go to the log."""

    def __init__(self, folder: Path, log: Path, say: Callable[[str], None]) -> None:
        self.folder, self.log, self.say = folder, log, say
        self.python = folder / "bin" / "python"
        kept = {key: value for key, value in os.environ.items() if key not in FOREIGN}
        self.environment = {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PYTHONNOUSERSITE": "1"}
        log.write_text("", encoding="utf-8")

    def follow(self, recipe: Recipe) -> None:
        """Every step, in order. Raises `EngineError`."""
        self.say(f"making {self.folder}; what is done is told in {self.log}")
        self._call([sys.executable, "-m", "venv", self.folder])
        for step in recipe.steps:
            self._pip("install", *step)
        if recipe.requirements_of:
            asked = self._call([self.python, "-c", PRINT_REQUIREMENTS, recipe.requirements_of, *recipe.without])
            listed = self.folder / "requirements.txt"
            listed.write_text(asked, encoding="utf-8")
            self._pip("install", "-r", str(listed))
        for package, version in recipe.metadata:
            self._declare(package, version)
        if recipe.build is not None:
            builder = Builder(recipe.build, self.folder, self._call, self.say)
            builder.install(self.python)
        if recipe.check:
            self.say("checking")
            self._call([self.python, "-c", recipe.check])

    def _pip(self, *arguments: str) -> None:
        self.say(f"pip {' '.join(arguments)}")
        self._call([self.python, "-m", "pip", arguments[0], "--progress-bar", "off", *arguments[1:]])

    def _declare(self, package: str, version: str) -> None:
        site = sysconfig.get_path("purelib", "venv", {"base": str(self.folder), "platbase": str(self.folder)})
        told = Path(site) / f"{package}-{version}.dist-info"
        told.mkdir(parents=True, exist_ok=True)
        (told / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n", encoding="utf-8"
        )

    def _call(self, command: Sequence[str | Path], heard: Callable[[str], None] = lambda line: None) -> str:
        """What a command printed; every line goes to the log, and to `heard` as it comes. Raises `EngineError`."""
        words = [str(word) for word in command]
        printed = []
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(words)}\n")
            log.flush()
            with subprocess.Popen(
                words, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                errors="replace",
            ) as process:  # fmt: skip
                assert process.stdout is not None
                for line in process.stdout:
                    printed.append(line)
                    log.write(line)
                    log.flush()
                    heard(line)
        if process.returncode != 0:
            raise EngineError(
                "a step of the installation failed",
                got=f"{' '.join(words[1:8])}: {_reason(self.log)}",
                hint=f"the whole output is in {self.log}",
            )
        return "".join(printed)


def _reason(log: Path) -> str:
    """The last line that says what went wrong."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines[-80:] if "error" in line.lower()]
    return (errors or lines or ["no output"])[-1][:300]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock: a second installation of the same engine waits for the first."""
    with path.open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
