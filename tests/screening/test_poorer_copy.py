"""A row that repeats another with less known is the same measurement, not a copied value or a second chip."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fewmark.interop.table.frame import build_frame
from fewmark.screening import apply, screen

LATENCIES = [2.7183456789012345, 3.1415926535897931, 4.6692016091029906, 1.6180339887498949]


def table(**columns: list[object]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    base: dict[str, list[object]] = {
        "engine": ["e"] * n,
        "model": ["m"] * n,
        "input_tokens": [128] * n,
        "output_tokens": [128] * n,
    }
    return build_frame(base | columns)


def test_the_richer_row_is_kept_and_the_finding_says_what_it_knows_more() -> None:
    frame = table(
        accelerator=["A100", "A100", None, "A100"],
        batch_size=[1, 1, 1, 8],
        tensor_parallel_size=[None, 4, None, 4],
        e2e_latency_s=[LATENCIES[0]] * 3 + [LATENCIES[1]],
    )
    findings = screen(frame)
    assert {(f.row, f.rule, f.action) for f in findings} == {
        (1, "poorer-copy", "exclude"),
        (3, "poorer-copy", "exclude"),
    }
    assert "row 2, which knows more: tensor_parallel_size 4" in findings[0].reason
    assert apply(frame, findings).index.tolist() == [1, 3]


def test_rows_that_each_know_something_are_merged() -> None:
    frame = table(
        batch_size=[1, 1],
        tensor_parallel_size=[4, None],
        e2e_latency_s=[LATENCIES[0]] * 2,
        throughput_tok_s=[47.1, None],
        power_w=[None, 310.5],
    )
    seen = apply(frame, screen(frame))
    assert seen.index.tolist() == [0]
    assert seen.at[0, "power_w"] == 310.5


@pytest.mark.parametrize(
    "columns",
    [
        {"tensor_parallel_size": [4, 2], "e2e_latency_s": [LATENCIES[0]] * 2},  # they contradict each other
        {"tensor_parallel_size": [4, None], "e2e_latency_s": [2.5, 2.5]},  # rounded: equal by accident
        {"tensor_parallel_size": [4, None], "e2e_latency_s": LATENCIES[:2]},  # another value
    ],
)
def test_rows_that_may_be_two_measurements_are_not_merged(columns: dict[str, list[object]]) -> None:
    assert not [f for f in screen(table(batch_size=[1, 1], **columns)) if f.rule == "poorer-copy"]


@pytest.mark.slow
def test_many_rows_of_one_latency_take_bounded_time() -> None:
    frame = table(batch_size=list(np.arange(1, 5001)), e2e_latency_s=[LATENCIES[0]] * 5000)
    assert not [f for f in screen(frame) if f.rule == "poorer-copy"]
