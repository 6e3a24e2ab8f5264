"""What is faster than published peaks allow is found from one row on; guesses at hardware accuse nobody."""

from __future__ import annotations

import pandas as pd
import pytest

from fewmark.interop.table.frame import build_frame
from fewmark.screening import screen


def row(**columns: object) -> pd.DataFrame:
    base: dict[str, object] = {
        "engine": "vllm", "model": "meta-llama/Llama-3.1-8B-Instruct", "precision": "bf16", "accelerator": "H100",
        "accelerator_count": 1, "input_tokens": 512, "output_tokens": 256, "batch_size": 1,
    }  # fmt: skip
    return build_frame({name: [value] for name, value in (base | columns).items()})


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"tpot_s": 7e-6}, "tpot_s is 7e-06 s"),  # milliseconds divided once too often
        ({"throughput_tok_s": 120_000.0}, "throughput_tok_s is 1.2e+05"),
        ({"e2e_latency_s": 0.002}, "e2e_latency_s is 0.002 s"),
        ({"batch_size": None, "request_rate": 900.0, "throughput_tok_s": 220_000.0}, "throughput_tok_s is 2.2e+05"),
    ],
)
def test_beyond_the_peaks(columns: dict[str, object], words: str) -> None:
    (finding,) = screen(row(**columns))
    assert (finding.rule, finding.action) == ("physical-limit", "exclude")
    assert words in finding.reason
    assert "1 × H100 for meta-llama/Llama-3.1-8B-Instruct" in finding.reason


def test_several_tokens_at_once_pass_with_a_warning() -> None:
    (finding,) = screen(row(tpot_s=0.0021))  # 16 GB at 3.35 TB/s take 4.8 ms
    assert (finding.rule, finding.action) == ("physical-limit", "warn")


@pytest.mark.parametrize(
    "columns",
    [
        {"tpot_s": 0.0055},
        {"tpot_s": 7e-6, "accelerator": "some new chip"},
        {"tpot_s": 0.0021, "precision": "int4"},
        {"tpot_s": 0.0021, "precision": None},  # it may be quantised
        {"throughput_tok_s": 20_000.0, "batch_size": 256},
        {"e2e_latency_s": 0.3, "output_tokens": 1},
    ],
)
def test_within_the_peaks_or_unknown(columns: dict[str, object]) -> None:
    assert not screen(row(**columns))


@pytest.mark.parametrize(
    ("columns", "value"),
    [({"ttft_s": 45.0}, 0.045), ({"tpot_s": 7.2}, 0.0072), ({"e2e_latency_s": 1900.0}, 1.9)],
)
def test_milliseconds_that_nothing_else_tells(columns: dict[str, object], value: float) -> None:
    (finding,) = screen(row(**columns))
    assert (finding.rule, finding.action) == ("physical-limit", "correct")
    assert finding.changes == {next(iter(columns)): pytest.approx(value)}


@pytest.mark.parametrize(
    "columns",
    [
        {"ttft_s": 4.5},
        {"e2e_latency_s": 1900.0, "throughput_tok_s": 256 / 1900},  # slow indeed
        {"tpot_s": 3.0},  # in milliseconds it would be beyond the peaks
        {"tpot_s": 7.2, "placement": "cpu"},
    ],
)
def test_what_is_slow_may_be_slow(columns: dict[str, object]) -> None:
    assert not screen(row(**columns))
