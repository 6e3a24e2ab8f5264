"""What suite files mean."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewmark.core import SuiteError
from fewmark.suites import Suite, load_suite, suite_names, suite_schema
from fewmark.suites.conditions import parse_condition

Write = Callable[..., Path]
HEAD = "deployments: [{engine: replay, model: m}]\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write_file


def cells(suite: Suite) -> list[tuple[float, float, int | None]]:
    return [(c.workload.input_tokens, c.workload.output_tokens, c.workload.batch_size) for c in suite.cases]


def test_a_grid_is_the_product_of_its_axes_in_the_order_written(write: Write) -> None:
    suite = load_suite(
        write(
            HEAD + "axes: {outs: [4, 8]}\n"
            "cells: [{grid: {input_tokens: [9, 6], output_tokens: {axis: outs}, batch_size: {powers_of_two: [1, 4]}}}]"
        )
    )
    assert cells(suite) == [(i, o, b) for i in (9, 6) for o in (4, 8) for b in (1, 2, 4)]
    assert suite.name == "mine"


def test_a_zip_is_taken_in_step_and_crossed_with_the_grid(write: Write) -> None:
    suite = load_suite(
        write(HEAD + "cells: [{zip: {input_tokens: [256, 512], batch_size: [4, 2]}, grid: {output_tokens: [8, 16]}}]")
    )
    assert cells(suite) == [(256, 8, 4), (512, 8, 2), (256, 16, 4), (512, 16, 2)]


def test_cases_written_out_take_what_they_lack_from_the_grid(write: Write) -> None:
    suite = load_suite(
        write(
            HEAD + "cells: [{grid: {output_tokens: 8}, cases: [{input_tokens: 1, batch_size: 2},"
            " {input_tokens: 3, concurrency: 4, workload.request_rate: 2.5}]}]"
        )
    )
    assert cells(suite) == [(1, 8, 2), (3, 8, None)]
    assert suite.cases[1].workload.concurrency == 4
    assert suite.cases[1].workload.options == {"request_rate": 2.5}


def test_deployments_take_defaults_and_cells_may_set_their_fields(write: Write) -> None:
    suite = load_suite(
        write("""
            defaults: {engine: replay, precision: float16, engine_options: {threads: 1}}
            deployments: [{model: a}, {model: b, precision: float32, placement: {weights: disk, cache: cpu}}]
            cells: [{grid: {input_tokens: 1, output_tokens: 1, batch_size: 1, option.threads: [1, 2]}}]
        """)
    )
    seen = [(c.deployment.model, c.deployment.precision, c.deployment.engine_options["threads"]) for c in suite.cases]
    assert seen == [("a", "float16", 1), ("a", "float16", 2), ("b", "float32", 1), ("b", "float32", 2)]
    assert suite.cases[2].deployment.placement == {"weights": "disk", "cache": "cpu"}


def test_conditions_and_overrides(write: Write) -> None:
    suite = load_suite(
        write(
            HEAD
            + """
cells: [{grid: {input_tokens: [16, 2048], output_tokens: 8, batch_size: [1, 64]}}]
overrides: [{when: {input_tokens: {ge: 2048}}, set: {output_tokens: 4}}]
exclude: [{batch_size: 64, input_tokens: {gt: 1024}}]
only: [{output_tokens: [4, 8]}]
"""
        )
    )
    assert cells(suite) == [(16, 8, 1), (16, 8, 64), (2048, 4, 1)]


def test_suites_compose_and_a_case_counts_once(write: Write) -> None:
    write(
        HEAD + "cells: [{grid: {input_tokens: [1, 2], output_tokens: 1, batch_size: 1}}]\n"
        "settings: {min_repeats: 5, seed: 1}",
        "base.yaml",
    )
    suite = load_suite(
        write(
            "include: [base.yaml]\n"
            + HEAD
            + "cells: [{grid: {input_tokens: [2, 3], output_tokens: 1, batch_size: 1}}]\nsettings: {seed: 2}"
        )
    )
    assert cells(suite) == [(1, 1, 1), (2, 1, 1), (3, 1, 1)]
    assert suite.settings == {"min_repeats": 5, "seed": 2}


def test_an_override_moves_an_included_suite_to_another_deployment(write: Write) -> None:
    suite = load_suite(write("include: [flexllmgen-tiny]\noverrides: [{set: {engine: replay, precision: null}}]"))
    assert {case.deployment.engine for case in suite.cases} == {"replay"}
    assert {case.deployment.precision for case in suite.cases} == {None}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"input_tokens": 16}, True),
        ({"input_tokens": {"ne": 16}}, False),
        ({"input_tokens": {"gt": 8, "lt": 16}}, False),
        ({"input_tokens": {"ge": 16, "le": 16}}, True),
        ({"model": ["a", "m"]}, True),
        ({"model": {"not_in": ["a", "m"]}}, False),
        ({"precision": None}, True),
        ({"precision": {"gt": 1}}, False),
        ({"load": 2}, True),
        ({"sequence_tokens": 24}, True),
        ({"total_tokens": {"gt": 47, "lt": 49}}, True),
        ({"option.flag": True}, True),
        ({"option.flag": 1}, False),
        ({"input_tokens": 16, "batch_size": 3}, False),
    ],
)
def test_a_condition_holds(condition: dict[str, object], holds: bool) -> None:
    cell = {"model": "m", "input_tokens": 16, "output_tokens": 8, "batch_size": 2, "option.flag": True}
    assert parse_condition(condition).holds(cell) is holds


@settings(deadline=None, max_examples=40)
@given(low=st.integers(0, 12), extra=st.integers(0, 6), limit=st.integers(1, 10**6))
def test_only_and_exclude_part_the_cells(
    tmp_path_factory: pytest.TempPathFactory, low: int, extra: int, limit: int
) -> None:
    text = HEAD + (
        f"cells: [{{grid: {{input_tokens: {{powers_of_two: [{2**low}, {2 ** (low + extra)}]}}, output_tokens: 3,"
        " batch_size: {powers_of_two: [1, 8]}}}]\n"
    )
    path = tmp_path_factory.mktemp("suite") / "s.yaml"
    kept: list[set[str]] = []
    for rule in ("", f"only: [{{total_tokens: {{gt: {limit}}}}}]\n", f"exclude: [{{total_tokens: {{gt: {limit}}}}}]\n"):
        path.write_text(text + rule)
        try:
            kept.append({case.case_id for case in load_suite(path).cases})
        except SuiteError as error:
            assert "no cases" in str(error)
            kept.append(set())
    everything, above, rest = kept
    assert len(everything) == 4 * (extra + 1)
    assert above | rest == everything
    assert not above & rest


def test_flexllmgens_suites_are_complete() -> None:
    published = {
        ("transformers", "opt-6.7b", "accelerator"): (4, 2, 1),
        ("transformers", "opt-30b", "cpu"): (16, 8, 4),
        ("transformers", "opt-175b", "disk"): (4, 2, 1),
        ("deepspeed", "opt-6.7b", "cpu"): (32, 16, 8),
        ("deepspeed", "opt-30b", "cpu"): (8, 4, 2),
        ("deepspeed", "opt-175b", "disk"): (2, 1, 1),
    }
    expected = {
        (*key, prompt, batch)
        for key, batches in published.items()
        for prompt, batch in zip((256, 512, 1024), batches, strict=True)
    }

    def seen(name: str) -> set[tuple[object, ...]]:
        suite = load_suite(name)
        assert {case.workload.output_tokens for case in suite.cases} == {32}
        assert {case.deployment.accelerator_count for case in suite.cases} == {1}
        return {
            (d.engine, d.model, d.placement, w.input_tokens, w.batch_size)
            for d, w in ((case.deployment, case.workload) for case in suite.cases)
        }

    assert seen("flexllmgen") == expected
    for engine, short in (("transformers", "hf"), ("deepspeed", "ds")):
        for prompt in (256, 512, 1024):
            part = {row for row in expected if row[0] == engine and row[3] == prompt}
            assert seen(f"flexllmgen-{short}-s{prompt}") == part
    for model in ("opt-6.7b", "opt-30b", "opt-175b"):
        assert seen(f"flexllmgen-{model}") == {row for row in expected if row[1] == model}


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_of_the_catalogue_says_what_it_is(name: str) -> None:
    suite = load_suite(name)
    assert suite.title
    assert len({case.case_id for case in suite.cases}) == len(suite.cases)


def test_loads_of_each_kind_in_one_suite(write: Write) -> None:
    suite = load_suite(
        write(
            HEAD + "cells:\n"
            "  - grid: {input_tokens: 8, output_tokens: 4, request_rate: [0.5, 2, 8]}\n"
            "  - grid: {input_tokens: 8, output_tokens: 4, concurrency: [2, 4]}\n"
            "  - grid: {input_tokens: 8, output_tokens: 4, batch_size: 2}\n"
            "exclude: [{request_rate: {gt: 4}}, {load: 4}, {total_tokens: {gt: 10000}}]\n"
        )
    )
    loads = [(case.workload.load_kind, case.workload.load) for case in suite.cases]
    assert loads == [("request_rate", 0.5), ("request_rate", 2), ("concurrency", 2), ("batch_size", 2)]
    with pytest.raises(SuiteError, match="exactly one"):
        load_suite(
            write(HEAD + "cells: [{grid: {input_tokens: 8, output_tokens: 4, concurrency: 2, request_rate: 1}}]")
        )


def test_the_demo_grid_has_at_least_sixty_cells() -> None:
    suite = load_suite("demo")
    assert len(suite.cases) >= 60
    assert len({case.deployment for case in suite.cases}) == 1


def test_the_published_schema_is_in_step() -> None:
    published = Path(__file__).parents[2] / "schemas" / "suite.schema.json"
    assert json.loads(published.read_text()) == suite_schema(), "write it anew: fewmark suites --schema > schemas/…"
