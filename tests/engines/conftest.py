import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[1] / "runner" / "plugin"


@pytest.fixture
def plugin(monkeypatch):
    """The folder of a third party's engine, importable here and in every child process."""
    monkeypatch.setenv("PYTHONPATH", str(PLUGIN))
    monkeypatch.syspath_prepend(str(PLUGIN))
    yield PLUGIN
    sys.modules.pop("dummy_engine", None)
