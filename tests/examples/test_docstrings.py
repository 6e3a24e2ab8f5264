"""Every public name has a docstring in numpydoc's form, with an example that runs."""

from __future__ import annotations

import doctest
import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fewmark
from fewmark import datasets
from fewmark.models.ala.regressor import AlaRegressor
from fewmark.models.conformal.cross_conformal import CrossConformal
from fewmark.models.persistence import save_model
from fewmark.models.registry import MODELS, make_model, model_class
from fewmark.planning.planner import Planner
from fewmark.planning.propose import make_planner
from fewmark.store import Store, open_store
from fewmark.suites import Suite, load_suite

VERBS = {name: getattr(fewmark, name) for name in fewmark.__all__ if callable(getattr(fewmark, name))}
ESTIMATORS = {name: model_class(name) for name in MODELS} | {"AlaRegressor": AlaRegressor, "conformal": CrossConformal}
OTHERS = [Planner, Store, Suite, make_planner, load_suite, open_store, make_model, save_model, datasets.example]
PUBLIC = {**VERBS, **ESTIMATORS, **{item.__name__: item for item in OTHERS}}
HEADING = re.compile(r"^(\w+)\n-+$", re.MULTILINE)
METHODS = ("fit", "predict", "predict_interval", "answer")


def sections(item: Any) -> dict[str, str]:
    parts = HEADING.split(inspect.getdoc(item) or "")
    return {"summary": parts[0].strip(), **dict(zip(parts[1::2], parts[2::2], strict=True))}


def undocumented(item: Callable[..., Any]) -> list[str]:
    """Parameters that the section of parameters says nothing of."""
    names = [
        name for name, parameter in inspect.signature(item).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    ]  # fmt: skip
    entries = re.findall(r"^\*{0,2}([\w, ]+?) *(?::|$)", sections(item).get("Parameters", ""), re.MULTILINE)
    told = {name.strip() for entry in entries for name in entry.split(",")}
    return [name for name in names if name not in told]


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_says_what_it_takes_gives_and_raises(name: str) -> None:
    verb = VERBS[name]
    told, signature = sections(verb), inspect.signature(verb)
    assert told["summary"] and told["Examples"] and told["Returns"]
    assert undocumented(verb) == []
    assert "Raises" in told or not signature.parameters


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_says_what_it_takes_and_learns(name: str) -> None:
    estimator = ESTIMATORS[name]
    assert sections(estimator)["summary"] and sections(estimator)["Examples"]
    assert undocumented(estimator) == []
    methods = [getattr(estimator, method) for method in METHODS if hasattr(estimator, method)]
    assert len(methods) >= 2 and all(inspect.getdoc(method) for method in methods)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEWMARK_STORE", raising=False)
    monkeypatch.setenv("FEWMARK_CACHE", "off")
    # workers import the tree under test, from wherever they are started
    paths = [str(Path(path).resolve()) for path in sys.path if path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    found = doctest.DocTestFinder(recurse=False).find(PUBLIC[name], name, globs={})
    examples = [example for test in found for example in test.examples]
    assert examples, "no example"
    failures: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in found:
        runner.run(test, out=failures.append)
    assert not runner.failures, "".join(failures)
