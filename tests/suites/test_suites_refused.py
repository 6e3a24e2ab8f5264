"""Suite files that are wrong: one clear error that names the file, the line and the path of the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewmark.cli import main
from fewmark.core import SuiteError
from fewmark.suites import load_suite, suite_names
from fewmark.suites.expand import MAX_CASES
from fewmark.suites.yaml_file import read_document
from fewmark.verbs.suites import suite_advice

HEAD = "deployments: [{engine: replay, model: m}]\n"
CELLS = "cells: [{grid: {input_tokens: 1, output_tokens: 1, batch_size: 1}}]\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("deployments: [{model: m}]\n" + CELLS, "bad.yaml:1: deployments[0].engine: field required"),
        ("cells:\n  - grid: {model: m, input_tokens: 1}\n", "bad.yaml:2: cells[0].engine: field required"),
        (HEAD + "cells:\n  - grid: {batch_size: 1, output_tokens: 1}\n", "cells[0].input_tokens: field required"),
        (HEAD + "cells: [{grid: {input_tokens: 1, output_tokens: 1}}]", "cells[0]: a workload needs exactly one of"),
        (
            HEAD + "cells: [{grid: {input_tokens: -1, output_tokens: 1, batch_size: 1}}]",
            "input_tokens must be a positive",
        ),
        (
            HEAD + "cells: [{grid: {input_tokens: x, output_tokens: 1, batch_size: 1}}]",
            "input_tokens must be a positive",
        ),
        (HEAD + "cells: [{grid: {input_tokens: .inf, output_tokens: 1, batch_size: 1}}]", "cells[0].grid.input_tokens"),
        (HEAD + "cells: [{grid: {input_tokens: []}}]", "cells[0].grid.input_tokens: must have at least one value"),
        (HEAD + "cells: [{grid: {inputs: 1}}]", "no field 'inputs'"),
        (HEAD + "cells: [{grid: {option.: 1}}]", "no field 'option.'"),
        (HEAD + "cells: [{grid: {batch_size: {powers_of_two: [3, 64]}}}]", "two powers of two"),
        (HEAD + "cells: [{grid: {batch_size: {powers_of_two: [8, 2]}}}]", "the smaller first"),
        (HEAD + "cells: [{grid: {batch_size: {powers_of_two: 8}}}]", "two whole numbers"),
        (HEAD + "cells: [{grid: {batch_size: {from: 1}}}]", "must be a value, a list of values"),
        (HEAD + "cells: [{grid: {batch_size: {axis: b}}}]", "cells[0].grid.batch_size: there is no axis 'b'"),
        (HEAD + "cells: [{zip: {input_tokens: [1, 2, 3], batch_size: [1, 2]}}]", "cells[0].zip.batch_size: zipped"),
        (HEAD + "cells: [{zip: {input_tokens: [1, 2]}, grid: {input_tokens: 1}}]", "in the grid and in the zip"),
        (HEAD + "cells: [{}]", "cells[0]: needs a grid, a zip or cases"),
        (HEAD, "cells: field required"),
        ("title: nothing\n", "the suite has no cases"),
        (HEAD + CELLS + "exclude: [{batch_size: 1}]\n", "the suite has no cases"),
        (HEAD + CELLS + "exclude: [{batch_size: {gte: 1}}]\n", "exclude[0]: batch_size: no comparison 'gte'"),
        (HEAD + CELLS + "exclude: [{batch_size: {gt: many}}]\n", "gt needs a number"),
        (HEAD + CELLS + "exclude: [{batch_size: {in: 1}}]\n", "in needs a list"),
        (HEAD + CELLS + "exclude: [batch_size]\n", "exclude[0]: must map fields"),
        (HEAD + CELLS + "only: [{size: 1}]\n", "only[0]: no field 'size'"),
        (HEAD + CELLS + "overrides: [{when: {batch_size: 1}}]\n", "overrides[0].set: field required"),
        (
            HEAD + CELLS + "settings: {max_repeats: 0}\n",
            "bad.yaml:3: settings.max_repeats: must be greater than or equal to 1",
        ),
        (HEAD + CELLS + "settings: {max_repeats: true}\n", "settings.max_repeats: must be a valid integer"),
        (HEAD + CELLS + "settings: {min_repeats: 5, max_repeats: 4}\n", "settings: min_repeats must not exceed"),
        (HEAD + CELLS + "settings:\n  timeout: 3\n", "bad.yaml:4: settings.timeout: unknown key"),
        (HEAD + CELLS + "cell: []\n", "did you mean cells?"),
        (HEAD + CELLS + "version: 2\n", "version: this fewmark reads version 1"),
        (HEAD + CELLS + "include: [nowhere]\n", "include[0]: no suite by that name"),
        (HEAD + CELLS + "include: [demos]\n", "did you mean demo?"),
        (HEAD + CELLS + "include: [gone.yaml]\n", "include[0]: there is no such suite file"),
        (HEAD + CELLS + "include: [bad.yaml]\n", "include[0]: suites include each other in a circle"),
        ("deployments: [{engine: replay, model: m, engine_version: 0.10}]\n" + CELLS, "put quotes around it"),
        ("deployments: {engine: replay}\n" + CELLS, "deployments: must be a valid list"),
        ("deployments: [{engine: replay, model: m, placement: [1]}]\n" + CELLS, "deployments[0].placement: must be"),
        ("deployments: [{engine: replay, model: m, engine_options: {a: 2024-01-01}}]\n" + CELLS, "a JSON value"),
        (HEAD + CELLS + CELLS, "bad.yaml:3: cells: the key appears twice"),
        ("a: 1\nb: [1, 2\nc: 3\n", "bad.yaml:3: not valid YAML"),
        ("a: 2024-99-99\n", "bad.yaml:1: a: not a value"),
        ("on: 1\n", "bad.yaml:1: a key must be plain text"),
        ("x: &a [1]\ny: *a\n", "bad.yaml:2: anchors and aliases are not supported"),
        ("x: &a [*a]\n", "anchors and aliases are not supported"),
        ("x: !!python/object/apply:os.system [ls]\n", "YAML tags are not supported"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("", "a suite must be a mapping of keys"),
        ("just text\n", "a suite must be a mapping of keys"),
        ("a: \x00\n", "not valid YAML"),
    ],
)
def test_a_wrong_file_gets_one_clear_error(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert expected in str(caught.value)
    assert "bad.yaml" in str(caught.value)


def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(HEAD + CELLS + "".join(f"odd{i}: 1\n" for i in range(8)))
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert [f"odd{i}: unknown key" in str(caught.value) for i in range(8)] == [True] * 5 + [False] * 3
    assert "and 3 more" in str(caught.value)


def test_a_grid_that_explodes_is_refused_before_it_is_made(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    numbers = list(range(1, 2001))
    path.write_text(
        HEAD + f"cells: [{{grid: {{input_tokens: {numbers}, output_tokens: {numbers}, batch_size: {numbers}}}}}]"
    )
    with pytest.raises(SuiteError, match=f"at most {MAX_CASES} cases"):
        load_suite(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"title: \xe9\n"])
def test_a_file_that_is_no_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bytes.yaml"
    path.write_bytes(content)
    with pytest.raises(SuiteError, match="UTF-8"):
        load_suite(path)


def test_a_folder_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(SuiteError, match="no such suite file"):
        load_suite(tmp_path / "folder.yaml")
    (tmp_path / "huge.yaml").write_text("# " + "x" * 2_000_000)
    with pytest.raises(SuiteError, match="at most 1,000,000 bytes"):
        load_suite(tmp_path / "huge.yaml")


@settings(deadline=None)
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_no_text_whatsoever_gives_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "any.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(SuiteError):
        load_suite(path)


@settings(deadline=None)
@given(
    data=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-5, 70)
        | st.sampled_from(["replay", "m", "batch_size", "powers_of_two"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "deployments",
                        "cells",
                        "grid",
                        "zip",
                        "cases",
                        "engine",
                        "model",
                        "input_tokens",
                        "batch_size",
                        "output_tokens",
                        "only",
                        "exclude",
                        "set",
                        "when",
                        "overrides",
                        "axes",
                        "axis",
                        "powers_of_two",
                        "gt",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_no_structure_whatsoever_gives_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: object) -> None:
    import yaml

    path = tmp_path_factory.mktemp("fuzz") / "any.yaml"
    path.write_text(yaml.safe_dump({"deployments": [{"engine": "replay", "model": "m"}], "cells": data, "only": data}))
    try:
        assert load_suite(path).cases
    except SuiteError as error:
        assert "any.yaml" in str(error)


def test_the_command_line_says_it_and_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("deployments: [{model: m}]\n" + CELLS)
    assert main(["suites", str(path)]) == 2
    assert "deployments[0].engine: field required" in capsys.readouterr().err
    assert main(["suites", "demo"]) == 0
    assert "80 cases" in capsys.readouterr().out
    assert main(["suites"]) == 0
    assert "flexllmgen-ds-s512" in capsys.readouterr().out


WITH_VALUE = (
    "cells: [{{grid: {{input_tokens: {}, output_tokens: 2, batch_size: 1}}}}]\ndeployments: [{{engine: e, model: m}}]\n"
)
HOSTILE = [
    "!!timestamp x",
    "!!bool maybe",
    "!!float x",
    "!!int ''",
    "!!int 1:x",
    "!!binary '*'",
    "!!null x",
    "!!set {a}",
    "9" * 401,
    "9" * 5000,
    "1e999",
    ".nan",
    "-.inf",
    "0x" + "f" * 400,
    "2001-99-99",
    "[" * 1000,
    "{a: " * 1000,
    '"\\ud800"',
]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_a_value_that_is_none_is_one_error(tmp_path: Path, value: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(WITH_VALUE.format(value))
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert len(str(caught.value)) < 1000


def test_a_suite_that_is_included_again_and_again_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"s{number}.yaml" for number in range(30)]
    for name, following in zip(names, [*names[1:], None], strict=True):
        text = f"include: [{following}, {following}]\n" if following else WITH_VALUE.format(8)
        (tmp_path / name).write_text(text)
    read: list[Path] = []

    def counting(path: Path) -> object:
        read.append(path)
        return read_document(path)

    monkeypatch.setattr("fewmark.suites.load.read_document", counting)
    assert len(load_suite(tmp_path / "s0.yaml").cases) == 1
    assert len(read) == 30


def test_each_problem_has_its_own_line_and_what_was_meant(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "deployments:\n  - engine: transformers\n    model: opt-tiny\n    precison: float32\n"
        "cells:\n  - grid:\n      input_tokens: [8]\n      output_tokens: [2]\n      batch_sizes: [1]\n"
    )
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    first, second = caught.value.what.splitlines()
    assert first == "s.yaml:4: deployments[0].precison: unknown key; did you mean precision?"
    assert second.startswith("s.yaml:9: cells[0].grid.batch_sizes: no field 'batch_sizes'; did you mean batch_size?")
    assert caught.value.hint is None


def test_a_suite_that_is_shown_is_checked(tmp_path, capsys):
    path = tmp_path / "s.yaml"
    text = (
        "deployments:\n  - {engine: tranformers, model: opt-tiny}\n  - engine: transformers\n    model: opt-tny\n"
        "cells:\n  - grid: {input_tokens: [8], output_tokens: [2], batch_size: [1]}\n"
    )
    path.write_text(text)
    assert main(["suites", str(path)]) == 1
    told = capsys.readouterr().err
    assert "s.yaml:2: deployments[0].engine: tranformers: no engine has that name here" in told
    assert "did you mean transformers?" in told
    assert "s.yaml:4: deployments[1].model: opt-tny" in told
    assert "did you mean opt-tiny?" in told
    path.write_text(text.replace("tranformers", "transformers").replace("opt-tny", "llama-tiny"))
    assert main(["suites", str(path)]) == 0
    assert capsys.readouterr().err == ""
    for name in suite_names():
        assert not suite_advice(load_suite(name), name)
