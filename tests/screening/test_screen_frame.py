"""The screen as a whole: it changes nothing, keeps rows' names, and survives odd tables."""

from __future__ import annotations

from types import ModuleType

import pandas as pd
import pytest

from fewmark import datasets
from fewmark.core import InputError
from fewmark.screening import RULES, Finding, Rule, apply, screen


def test_every_rule_has_the_interface_and_a_name_of_its_own() -> None:
    assert all(isinstance(rule, Rule) for rule in RULES)
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_screening_changes_nothing_and_apply_keeps_the_index(room: ModuleType) -> None:
    frame = room.make_table(room.diagonal(), noise=0.02, seed=1, n_models=1)
    room.set_latency(frame, [9], [1e-4])
    before = frame.copy(deep=True)
    findings = screen(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert apply(frame, findings).index.tolist() == [row for row in before.index if row != 9]


def test_the_row_is_the_data_row_of_a_filtered_table_too(room: ModuleType) -> None:
    frame = room.make_table(room.diagonal(), noise=0.02, seed=1, n_models=1)
    room.set_latency(frame, [9], [1e-4])
    assert [finding.row for finding in screen(frame.iloc[4:])] == [10]


def test_corrections_are_made() -> None:
    frame = pd.DataFrame({"throughput_tok_s": [1.0, 2.0], "ttft_s": [0.1, 0.2]})
    fixed = apply(frame, [Finding(2, "some-rule", "why", "correct", {"throughput_tok_s": 4.0, "ttft_s": None})])
    assert fixed["throughput_tok_s"].tolist() == [1.0, 4.0]
    assert fixed["ttft_s"].isna().tolist() == [False, True]


@pytest.mark.parametrize("n_rows", [0, 1, 2])
def test_tiny_tables(room: ModuleType, n_rows: int) -> None:
    frame = room.make_table(room.diagonal(), noise=0.02, seed=1, n_models=1).iloc[:n_rows]
    assert screen(frame) == []


def test_a_table_of_cases_without_metrics() -> None:
    assert (
        screen(pd.DataFrame({"model": ["m"], "input_tokens": [128.0], "output_tokens": [1.0], "batch_size": [1.0]}))
        == []
    )


def test_an_index_that_is_no_data_row_is_refused(room: ModuleType) -> None:
    frame = room.make_table(room.diagonal(), noise=0.02, seed=1, n_models=1)
    with pytest.raises(InputError, match="index"):
        screen(frame.set_index("model"))


def test_the_published_faults_are_found_and_no_more() -> None:
    frame = datasets.load("llm-inference-bench")
    found: dict[str, set[int]] = {}
    for finding in screen(frame):
        if finding.action == "warn":  # what only guessing several tokens at once could do
            assert finding.rule == "physical-limit"
            continue
        found.setdefault(finding.rule, set()).add(finding.row - 1)
    chunked = frame.index[(frame["engine"] == "llama.cpp") & (frame["batch_size"] > 1)]
    assert found["batch-not-batch"] == set(chunked)
    nothing_generated = frame["model"].eq("Qwen/Qwen2-7B") & frame["engine"].eq("TensorRT-LLM")
    nothing_generated &= frame["accelerator"].eq("Nvidia H100 GPU") & frame["input_tokens"].eq(2048)
    assert found["impossible-speed"] | found["physical-limit"] == {*frame.index[nothing_generated], 1405}
    assert {frame.at[row, "accelerator"] for row in found["label-conflict"]} == {"Intel PVC GPU", "Intel Max 1550"}
    assert len(found["label-conflict"]) == 48
    assert found["copied-values"] == {128, 152}
    assert found["cold-start"] == {0, 153}
    others = {"batch-not-batch", "label-conflict", "copied-values", "cold-start"}
    assert set(found) == {"impossible-speed", "physical-limit", *others}
