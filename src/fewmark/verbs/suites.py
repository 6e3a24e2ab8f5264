"""`fewmark suites`: what suites there are, and what a suite holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fewmark.core.files import write_file
from fewmark.core.frozen import thaw
from fewmark.suites import Suite, load_suite, suite_names, suite_schema

__all__ = ["describe_suite", "list_suites", "suite_schema", "write_cases"]


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


def describe_suite(suite: Suite) -> dict[str, Any]:
    """A suite as JSON: its settings and each case with its `case_id`."""
    return {
        "name": suite.name,
        "title": suite.title,
        "description": suite.description,
        "settings": thaw(suite.settings),
        "n_cases": len(suite.cases),
        "cases": [{"case_id": case.case_id, **case.to_dict()} for case in suite.cases],
    }


def write_cases(suite: Suite, path: Path) -> int:
    """Write the suite's cases as the worker program reads them, one a line; how many. Raises `InputError`."""
    write_file(path, "".join(json.dumps(case.to_dict()) + "\n" for case in suite.cases))
    return len(suite.cases)
