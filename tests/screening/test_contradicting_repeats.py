"""Repeats that contradict one another: a majority decides, and without one nothing is hidden."""

from __future__ import annotations

import pandas as pd
import pytest

from fewmark.interop.table.frame import build_frame
from fewmark.screening import screen


def table(
    repeats: list[float], *, models: tuple[str, ...] = ("org/m",), ttft: list[float] | None = None
) -> pd.DataFrame:
    """A sweep over the batch with these latencies at batch 8."""
    rows = []
    for model in models:
        for batch, took in ((1, 1.07), *((8, value) for value in repeats), (16, 1.62), (32, 2.2)):
            rows.append({"engine": "vllm", "model": model, "accelerator": "H100", "input_tokens": 1024,
                         "output_tokens": 128, "batch_size": batch, "e2e_latency_s": took})  # fmt: skip
    if ttft is not None:
        for row, value in zip(rows, ttft, strict=True):
            row["ttft_s"] = value
    return build_frame({name: [row.get(name) for row in rows] for name in rows[0]})


@pytest.mark.parametrize("repeats", [[1.3, 3.9], [1.3, 13.0], [1.3, 1.32, 3.9, 3.95]])
def test_without_a_majority_all_stay_with_a_warning(repeats: list[float]) -> None:
    findings = screen(table(repeats))
    assert {(f.row, f.rule, f.action) for f in findings} == {
        (row, "contradicting-repeats", "warn") for row in range(2, 2 + len(repeats))
    }
    assert "3.9" in findings[0].reason or "13" in findings[0].reason


@pytest.mark.parametrize("repeats", [[1.3, 13.0, 1.31], [1.3, 1.29, 1.33, 0.3], [1.3, 5.0, 1.31, 13.0, 1.29]])
def test_a_majority_leaves_the_odd_one_out(repeats: list[float]) -> None:
    findings = screen(table(repeats))
    odd = {2 + at for at, value in enumerate(repeats) if not 1.2 < value < 1.4}
    assert {(f.row, f.rule, f.action) for f in findings} == {(row, "contradicting-repeats", "exclude") for row in odd}
    assert "repeats agree" in findings[0].reason


def test_a_fast_repeat_is_not_left_out_under_the_number_of_a_slow_one() -> None:
    findings = screen(table([1.3]).assign(batch_size=[8, 8, 16, 32], e2e_latency_s=[9.0, 1.3, 1.62, 2.2]))
    assert not [f for f in findings if f.action == "exclude"]
    assert {f.row for f in findings} == {1, 2}


def test_a_first_token_from_the_cache_beside_one_that_is_not() -> None:
    findings = screen(table([1.3, 1.4], ttft=[0.04, 0.02, 0.25, 0.2, 0.35]))
    assert {(f.row, f.action) for f in findings} == {(2, "warn"), (3, "warn")}
    assert "ttft_s is 0.02 s, but another repeat of the cell has 0.25 s in row 3" in findings[0].reason


def test_repeats_that_agree_are_evidence() -> None:
    odd = [18.5, 18.1, 18.9]
    alone = screen(table(odd[:1]))
    assert ("impossible-speed", "exclude") in {(f.rule, f.action) for f in alone}
    findings = screen(table(odd, models=("org/a", "org/b")))
    assert findings
    assert {f.action for f in findings} == {"warn"}
    assert all("3 repeats agree, so it is believed" in f.reason for f in findings)


def test_repeats_within_noise_say_nothing() -> None:
    assert not screen(table([1.3, 1.36, 1.28, 1.44]))
