"""`fewmark suites`: what suites there are, and what a suite holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fewmark.core import Advice
from fewmark.core.files import write_file
from fewmark.core.frozen import thaw
from fewmark.core.json_types import Json
from fewmark.core.near_names import near_names
from fewmark.engines import engine_names
from fewmark.engines.checkpoints.shapes import SHAPES
from fewmark.suites import Suite, load_suite, suite_names, suite_schema
from fewmark.suites.yaml_file import Document, KeyPath, read_document

__all__ = ["describe_suite", "list_suites", "suite_advice", "suite_schema", "write_cases"]

SHAPED_ENGINES: Final = frozenset({"transformers", "deepspeed"})
"""Engines whose models are named shapes, files and folders, and nothing that is fetched by its name."""


def list_suites() -> list[Suite]:
    """List the catalogue's suites, by name.

    Returns
    -------
    list of Suite
        Each with its cases and settings.

    Examples
    --------
    >>> import fewmark
    >>> [suite.name for suite in fewmark.list_suites() if suite.name == "demo"]
    ['demo']
    """
    return [load_suite(name) for name in suite_names()]


def describe_suite(suite: Suite) -> dict[str, Json]:
    """A suite as JSON: its settings and each case with its `case_id`."""
    return {
        "name": suite.name,
        "title": suite.title,
        "description": suite.description,
        "settings": thaw(suite.settings),
        "n_cases": len(suite.cases),
        "cases": [{"case_id": case.case_id, **case.to_dict()} for case in suite.cases],
    }


def suite_advice(suite: Suite, reference: str | None = None) -> list[Advice]:
    """What would keep a suite that is well written from running: engines that nobody has here, models that no engine
    finds; with the line of the file, where `reference` names one.

    Parameters
    ----------
    reference : what the suite was loaded by, a name or a file
    """
    deployments = {case.deployment.deployment_id: case.deployment for case in (*suite.cases, *suite.auto)}
    engines = {found.engine for found in deployments.values()}
    models = {found.model for found in deployments.values() if found.engine in SHAPED_ENGINES}
    document = _document(reference)
    out = []
    for engine in sorted(engines - set(engine_names())):
        near = near_names(engine, engine_names())
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(engine_names())}"
        out.append(Advice("unknown-engine", _where(document, "engine", engine, "no engine has that name here"), hint))
    for model in sorted(models - set(SHAPES)):
        near = near_names(model, SHAPES, cutoff=0.8)
        if near and "/" not in model and not os.path.lexists(model):
            what = _where(document, "model", model, "neither a named shape nor a file here")
            out.append(Advice("unknown-model", what, f"did you mean {near[0]}?"))
    return out


def _document(reference: str | None) -> Document | None:
    return read_document(Path(reference)) if reference is not None and os.path.isfile(reference) else None  # noqa: PTH113


def _where(document: Document | None, key: str, value: str, message: str) -> str:
    """The message, with the line of the key that has this value, where it is found."""
    path = None if document is None else _path_of(document.value, key, value, ())
    if document is None or path is None:
        return f"{key} {value}: {message}"
    return str(document.error(path, f"{value}: {message}").what)


def _path_of(node: Json, key: str, value: str, path: KeyPath) -> KeyPath | None:
    items: Iterable[tuple[str | int, Json]] = ()
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list):
        items = enumerate(node)
    for name, item in items:
        if name == key and (item == value or (isinstance(item, list) and value in item)):
            return (*path, name)
        found = _path_of(item, key, value, (*path, name))
        if found is not None:
            return found
    return None


def write_cases(suite: Suite, path: Path) -> int:
    """Write the suite's cases as the worker program reads them, one a line; how many. Raises `InputError`."""
    write_file(path, "".join(json.dumps(case.to_dict()) + "\n" for case in suite.cases))
    return len(suite.cases)
