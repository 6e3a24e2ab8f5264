"""`fewmark suites`: what suites there are, and what a suite holds."""

from __future__ import annotations

from typing import Any

from fewmark.core.frozen import thaw
from fewmark.suites import Suite, load_suite, suite_names, suite_schema

__all__ = ["describe_suite", "list_suites", "suite_schema"]


def list_suites() -> list[Suite]:
    """The catalogue's suites, by name."""
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
