"""Engines in environments of their own: ``$FEWMARK_HOME/engines/NAME``, so that conflicting versions never meet.

FEWMARK_HOME is ``~/.local/share/fewmark`` unless it is set (XDG_DATA_HOME is honoured). An environment is whole when
it holds the marker of the recipe that it was made by; anything else there is an interrupted attempt, and made again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fewmark.core import EngineError
from fewmark.engines.recipe import Place, Recipe
from fewmark.engines.registry import engine_class

MARKER: Final = "installed.json"


def home() -> Path:
    """Where fewmark keeps what it installs."""
    given = os.environ.get("FEWMARK_HOME")
    if given:
        return Path(given)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "fewmark"


def installed_python(name: str) -> Path | None:
    """The interpreter of an engine's own environment; None where there is no whole one."""
    folder = home() / "engines" / name
    python = folder / "bin" / "python"
    return python if (folder / MARKER).is_file() and python.exists() else None


def install(name: str) -> tuple[Path, bool]:
    """Make an engine's environment; its interpreter, and whether anything had to be done.

    Raises
    ------
    EngineError
        If the engine is unknown or has no recipe, or a step of it fails; the environment is then not whole.
    """
    recipe: Recipe | None = getattr(engine_class(name), "recipe", lambda: None)()
    if recipe is None:
        raise EngineError("this engine needs no environment of its own", got=name, hint="see `fewmark engines`")
    folder = home() / "engines" / name
    wanted = json.dumps(recipe.to_dict(), sort_keys=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_suffix(".lock")):
            marker = folder / MARKER
            if marker.is_file() and marker.read_text(encoding="utf-8") == wanted and installed_python(name):
                return folder / "bin" / "python", False
            shutil.rmtree(folder, ignore_errors=True)
            place = Place(folder, folder.with_suffix(".log"), _environment())
            place.log.write_text("", encoding="utf-8")
            place.call([sys.executable, "-m", "venv", folder])
            for step in recipe.steps:
                step.run(place)
            marker.write_text(wanted, encoding="utf-8")
    except OSError as error:
        raise EngineError(
            f"the engine {name!r} cannot be installed",
            got=f"{error.filename or folder}: {error.strerror or error}",
            hint="FEWMARK_HOME says where engines go",
        ) from None
    return folder / "bin" / "python", True


def _environment() -> dict[str, str]:
    """Variables of the steps: those of this process, without what would lead into another environment."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PYTHONNOUSERSITE": "1"}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock: a second installation of the same engine waits for the first."""
    with path.open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
