"""Where the engines' own environments lie, and which of them are finished."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from fewmark.engines.environments.recipe import Recipe
from fewmark.engines.registry import engine_class

HOME_VARIABLE: Final = "FEWMARK_HOME"
MARKER: Final = "fewmark-environment.json"  # written last: an environment without it was interrupted


def engines_home() -> Path:
    """The folder of the environments: `$FEWMARK_HOME/engines`, by default under the user's data folder."""
    if home := os.environ.get(HOME_VARIABLE):
        return Path(home).expanduser().absolute() / "engines"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "fewmark" / "engines"


def recipe_of(name: str) -> Recipe | None:
    """The recipe that an engine declares as its class's `recipe`, if it does. Raises `EngineError` on unknown names."""
    found = getattr(engine_class(name), "recipe", None)
    return found if isinstance(found, Recipe) else None


def environment_python(name: str) -> Path | None:
    """The interpreter of an engine's finished environment; None where there is none."""
    folder = engines_home() / name
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    python = folder / "bin" / "python"
    return python if isinstance(marker, dict) and marker.get("engine") == name and os.access(python, os.X_OK) else None


def environment_recipe_id(name: str) -> str | None:
    """The recipe behind a finished environment; None where there is none."""
    if environment_python(name) is None:
        return None
    marker = json.loads((engines_home() / name / MARKER).read_text(encoding="utf-8"))
    return str(marker.get("recipe"))
