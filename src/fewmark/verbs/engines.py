"""`fewmark engines`: which engines there are, whether they run here, and how to get the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from fewmark.core import FewmarkError
from fewmark.engines import engine_names, probe
from fewmark.engines.environments.folders import environment_python, recipe_of
from fewmark.engines.environments.install import install_engine
from fewmark.engines.environments.recipe import Recipe
from fewmark.engines.worker.archive import write_archive


class EngineStatus(TypedDict):
    """Whether an engine can run, which version of it, and in which interpreter.

    Else why not, how to get it, and what that takes.
    """

    name: str
    available: bool
    version: str | None
    reason: str
    install: str
    python: str | None
    takes: str


def list_engines() -> list[EngineStatus]:
    """List every engine known to this interpreter.

    `python` is the interpreter that runs it: that of its own environment where it cannot run in this one; None here.

    Returns
    -------
    list of dict
        name, available, version, python; and reason, install and takes (what installing it takes) where it is not
        available.

    Examples
    --------
    >>> import fewmark
    >>> [engine["name"] for engine in fewmark.list_engines() if engine["name"] == "replay"]
    ['replay']
    """
    return [_described(name) for name in engine_names()]


def install(name: str, say: Callable[[str], None] = lambda text: None) -> tuple[Path, bool]:
    """Make the engine's own environment; its interpreter, and whether it was made now. Raises `EngineError`."""
    return install_engine(name, say)


def _described(name: str) -> EngineStatus:
    found = probe(name)
    described: EngineStatus = {
        "name": name,
        "available": found.available,
        "version": found.version,
        "reason": found.reason,
        "install": found.install,
        "python": None,
        "takes": "",
    }
    if not found.available and (python := environment_python(name)) is not None:
        described["available"], described["python"] = True, str(python)
        described["reason"] = described["install"] = ""
    elif not found.available and (recipe := _recipe(name)) is not None:
        described["install"] = f"fewmark engines install {name}"
        described["takes"] = recipe.takes
    return described


def _recipe(name: str) -> Recipe | None:
    try:
        return recipe_of(name)
    except FewmarkError:  # a third party's engine that cannot be imported
        return None


def write_worker(path: Path) -> Path:
    """Write the worker as one zip, for hosts that have the engine but not fewmark. Raises `InputError`."""
    return write_archive(path)
