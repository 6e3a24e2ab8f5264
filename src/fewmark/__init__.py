"""fewmark: benchmark few, know the rest.

The verbs of the command line are functions here too; each is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.2.0"

_VERBS = {
    "assess_plan": "fewmark.verbs.assess",
    "assess_strategies": "fewmark.verbs.assess",
    "compare": "fewmark.verbs.compare",
    "demo": "fewmark.verbs.demo",
    "doctor": "fewmark.verbs.doctor",
    "evaluate": "fewmark.verbs.evaluate",
    "export": "fewmark.verbs.export",
    "find": "fewmark.verbs.find",
    "fit": "fewmark.verbs.fit",
    "import_files": "fewmark.verbs.import_files",
    "ledger": "fewmark.verbs.ledger",
    "list_engines": "fewmark.verbs.engines",
    "list_suites": "fewmark.verbs.suites",
    "load_model": "fewmark.verbs.fit",
    "plan": "fewmark.verbs.plan",
    "predict": "fewmark.verbs.predict",
    "recommend": "fewmark.verbs.recommend",
    "report": "fewmark.verbs.report",
    "run": "fewmark.verbs.run",
    "screen": "fewmark.verbs.screen",
}

__all__ = ["__version__", *sorted(_VERBS)]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(importlib.import_module(_VERBS[name]), name)
    raise AttributeError(f"module 'fewmark' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_VERBS])
