"""Suites by name or by file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fewmark.core.errors import SuiteError, malformed_as
from fewmark.core.frozen import FrozenMap
from fewmark.core.json_types import Json
from fewmark.core.near_names import near_names
from fewmark.core.values import Case
from fewmark.suites.expand import expand
from fewmark.suites.schema import PARTS, SUITE_FILE_VERSION, SuiteFile, UnknownFieldError
from fewmark.suites.yaml_file import Document, KeyPath, read_document

CATALOGUE: Final = Path(__file__).parent / "catalogue"
MAX_NAME: Final = 300
_SUFFIXES: Final = (".yaml", ".yml")
_MAX_SHOWN: Final = 5
MAX_INCLUDED: Final = 200  # suites
MAX_INCLUDED_CASES: Final = 1_000_000  # with repetitions


@dataclass(frozen=True, repr=False)
class Suite:
    """Cases to measure, and how. `cases` are unique and in the order written; `settings` holds only what was set.

    `auto` are cases whose batch size is found when they run; theirs is 1.

    Examples
    --------
    >>> from fewmark.suites import load_suite
    >>> suite = load_suite("demo")
    >>> suite.name, suite.cases[0].workload.batch_size
    ('demo', 1)
    """

    name: str
    title: str
    description: str
    cases: tuple[Case, ...]
    settings: FrozenMap
    auto: tuple[Case, ...] = ()

    def __repr__(self) -> str:
        return f"Suite({self.name!r}, {len(self.cases)} cases: {self.title})"


def suite_names() -> tuple[str, ...]:
    """The names of the catalogue's suites."""
    return tuple(sorted(path.stem for path in CATALOGUE.glob("*.yaml")))


def load_suite(name_or_path: str | Path) -> Suite:
    """The suite of the catalogue by that name, or of that file.

    Raises
    ------
    SuiteError
        If there is none, or it is wrong; the message names the file, the line and the path of the key.

    Examples
    --------
    >>> from fewmark.suites import load_suite
    >>> load_suite("demo").name
    'demo'
    """
    with malformed_as(SuiteError, "the suite cannot be read", got=str(name_or_path)):
        return _load(_resolve(str(name_or_path), Path()), (), {})


def _resolve(reference: str, folder: Path) -> Path:
    if reference in suite_names():
        return CATALOGUE / f"{reference}.yaml"
    path = folder / reference
    if path.suffix in _SUFFIXES:
        with malformed_as(SuiteError, "there is no such suite file", got=str(path)[:MAX_NAME]):
            found = os.path.isfile(path)  # noqa: PTH113  (Path raises on names that are too long)
        if found:
            return path
        raise SuiteError("there is no such suite file", got=str(path))
    close = near_names(reference, suite_names(), cutoff=0.5)
    raise SuiteError(
        "no suite by that name",
        got=reference,
        hint=f"did you mean {' or '.join(close)}?" if close else "fewmark suites lists them; a file ends in .yaml",
    )


def _load(path: Path, including: tuple[Path, ...], loaded: dict[Path, Suite]) -> Suite:
    document = read_document(path)
    suite = _validate(document)
    resolved = path.resolve()
    cases: list[Case] = []
    auto: list[Case] = []
    settings: dict[str, Json] = {}
    for index, reference in enumerate(suite.include):
        try:
            target = _resolve(reference, path.parent)
        except SuiteError as error:
            raise document.error(("include", index), error.what, got=error.got, hint=error.hint) from None
        if target.resolve() in (*including, resolved):
            raise document.error(("include", index), "suites include each other in a circle", got=reference)
        part = loaded.get(target.resolve())
        if part is None:  # however often it is included, each suite is read once
            part = loaded[target.resolve()] = _load(target, (*including, resolved), loaded)
        if len(loaded) > MAX_INCLUDED or len(cases) + len(part.cases) > MAX_INCLUDED_CASES:
            raise document.error(("include", index), "the suite includes too much", got=f"{len(loaded)} suites")
        cases.extend(part.cases)
        auto.extend(part.auto)
        settings |= part.settings
    settings |= suite.settings.model_dump(exclude_none=True, exclude={"truncate"})
    if suite.settings.truncate is not None:
        given = document.value["settings"]["truncate"]  # conditions stay as they were written
        settings["truncate"] = suite.settings.truncate.model_dump(exclude={"only"}) | {"only": given.get("only", [])}
    found, found_auto = expand(suite, document, cases, auto)
    return Suite(
        name=path.stem,
        title=suite.title,
        description=" ".join(suite.description.split()),
        cases=found,
        settings=FrozenMap(settings),
        auto=found_auto,
    )


def _validate(document: Document) -> SuiteFile:
    if not isinstance(document.value, dict):
        raise document.error(
            (), "a suite must be a mapping of keys", got=document.value if document.value else "nothing"
        )
    version = document.value.get("version", SUITE_FILE_VERSION)
    if type(version) is not int or version != SUITE_FILE_VERSION:
        raise document.error(
            ("version",),
            f"this fewmark reads version {SUITE_FILE_VERSION} of suite files",
            got=version,
            hint="a newer fewmark may read it",
        )
    try:
        return SuiteFile.model_validate(document.value)
    except ValidationError as error:
        raise _explain(document, error) from None


def _explain(document: Document, error: ValidationError) -> SuiteError:
    problems = error.errors(include_url=False)
    lines = []
    for problem in problems[:_MAX_SHOWN]:
        path: KeyPath = tuple(problem["loc"])
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, UnknownFieldError):
            path = (*path, cause.name)
        near = f"; {hint}" if len(problems) > 1 and (hint := _hint(problem)) else ""  # one problem has its own hint
        lines.append(f"{document.error(path, _message(problem)).what}{near}")
    if len(problems) > _MAX_SHOWN:
        lines.append(f"and {len(problems) - _MAX_SHOWN} more")
    first = problems[0]
    shown = first["type"] not in ("missing", "extra_forbidden", "value_error")
    return SuiteError(
        "\n".join(lines), got=_got(first["input"]) if shown else None, hint=_hint(first) if len(problems) == 1 else None
    )


def _message(problem: ErrorDetails) -> str:
    if problem["type"] == "extra_forbidden":
        return "unknown key"
    text = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if problem["type"] == "missing":
        return "field required"
    if problem["type"] == "string_type":
        return "must be text"
    if problem["type"] == "string_pattern_mismatch":
        return "must not be empty"
    return text if problem["type"] == "value_error" else f"must be {text[:1].lower()}{text[1:]}"


def _hint(problem: ErrorDetails) -> str | None:
    if problem["type"] == "string_type" and not isinstance(problem["input"], (dict, list)):
        return "put quotes around it"
    if problem["type"] == "extra_forbidden":
        keys = [part for part in problem["loc"] if isinstance(part, str)]
        part = PARTS.get(".".join(keys[:-1]))
        known = list(part.model_fields) if part else []
        close = near_names(keys[-1], known)
        return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}" if known else None
    return None


def _got(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value)
