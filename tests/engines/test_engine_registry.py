"""Which engines there are, and what is known of them without importing anything heavy."""

import subprocess
import sys

import pytest

from fewmark.core import EngineError
from fewmark.engines import engine_class, engine_names, probe


def test_a_third_party_adds_an_engine_by_entry_point(plugin):
    assert {"transformers", "replay", "dummy"} <= set(engine_names())
    assert engine_class("dummy").__name__ == "DummyEngine"
    assert probe("dummy").available


def test_a_broken_third_party_hides_nothing(plugin):
    found = probe("broken")
    assert not found.available and "NoSuchClass" in found.reason
    assert probe("replay").available


def test_an_engine_that_is_missing_says_how_to_get_it(plugin):
    found = probe("missing")
    assert (found.available, found.install) == (False, "pip install nowhere")


def test_an_unknown_engine_names_the_known_ones():
    with pytest.raises(EngineError, match="replay"):
        engine_class("warp-drive")


def test_probing_and_importing_the_engines_imports_nothing_heavy():
    script = (
        "import sys, fewmark.engines as e\n"
        "assert [e.probe(name) for name in e.engine_names()]\n"
        "print(sorted({'torch', 'transformers', 'pandas', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
