"""Figures on a terminal: one notation for spreads and intervals, units in headings, aligned columns."""

from __future__ import annotations

import math

import pytest

from fewmark.cli.figures import figure, heading, text_table, with_interval, with_spread
from fewmark.cli.results import results_text
from fewmark.cli.windows import window_lines
from fewmark.core import Case, Deployment, Measurement, Sample, Status, Workload


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (119.6, 3.21, "119.6 ± 3.2"), (119.6, 321.0, "119.6 ± 321.0"), (12345.6, 5.2, "12,346 ± 5"),
        (12345.6, 0.4, "12,345.6 ± 0.4"), (0.01234, 0.0005, "0.01234 ± 0.00050"), (5.0, 0.0, "5.000 ± 0.000"),
        (5.0, None, "5.000"),
    ],
)  # fmt: skip
def test_a_spread_has_the_value_s_decimals(value: float, half: float | None, text: str) -> None:
    assert with_spread(value, half) == text


def test_unknown_is_a_dash_and_nothing_is_in_powers_of_ten() -> None:
    assert [figure(value) for value in (None, math.nan, math.inf, 0.0)] == ["–", "–", "–", "0"]
    assert figure(1.4e-115) == "0.000000"
    assert with_interval(119.6, 110.22, 130.0) == "119.6 [110.2, 130.0]"
    assert with_interval(math.nan, 1.0, 2.0) == "–"
    assert with_interval(2826.0, 2752.8, 2900.6) == "2,826 [2,753, 2,901]"


def test_headings_carry_the_unit() -> None:
    assert heading("throughput_tok_s", [1.0]) == ("tok/s", 1.0)
    assert heading("ttft_s", [0.1, math.nan]) == ("TTFT ms", 1e3)
    assert heading("ttft_p99_s", [67.0]) == ("TTFT p99 s", 1.0)
    assert heading("e2e_latency_s", [12.0]) == ("latency s", 1.0)
    assert heading("goodput_req_s", [12.0]) == ("goodput req/s", 1.0)


def test_columns_are_aligned() -> None:
    assert text_table([["a", "b"], ["long", "1"], ["x", "100"]]) == "a       b\nlong    1\nx     100"


def test_a_run_ends_with_its_results() -> None:
    deployment = Deployment("e", "m", accelerator="H100")
    good = Measurement(
        Case(deployment, Workload(32, 9, batch_size=2)),
        samples=(Sample(e2e_latency_s=1.0, ttft_s=0.2), Sample(e2e_latency_s=1.1, ttft_s=0.2)),
        flags=("imprecise",),
    )
    bad = Measurement(Case(deployment, Workload(32, 9, batch_size=64)), status=Status.OUT_OF_MEMORY)
    lines = results_text([bad, good]).splitlines()
    assert lines[0] == deployment.label
    assert lines[1].split() == ["case", "cell", "tok/s", "TTFT", "ms", "TPOT", "ms", "n", "marks"]
    assert "32→9, batch 2" in lines[2]
    assert "200.0 ± 0.0" in lines[2]
    assert "106.3 ± 6.3" in lines[2]
    assert lines[2].endswith("2  imprecise")
    assert "32→9, batch 64" in lines[3]
    assert "–" in lines[3]
    assert lines[3].endswith("0  out_of_memory")
    assert lines[4] == "± half of the range over repeats"
    assert results_text([]) == ""


def test_a_window_of_requests_is_told_line_by_line():
    estimate = {"value": 0.02, "low": 0.018, "high": 0.022, "n": 50}
    window = {
        "valid": False,
        "window_s": 1.5,
        "requests": {"ok": 50, "failed": 0},
        "reasons": [{"code": "short_window", "message": "too short"}],
        "confidence_level": 0.9,
        "estimates": {"ttft_s": estimate, "ttft_p99_s": {"low": 0.03, "n": 50}, "ttft_from_schedule_s": estimate},
        "attainment": [{"limits": {"ttft_s": 0.5}, "share": {"value": 1.0}, "goodput_req_s": {"value": 30.0}}],
        "client": {"workers": 1, "idle_share": 0.01, "lateness_p99_s": 0.003, "kernel_stamps": True},
        "server": {"name": "vllm", "beside_the_client": {"ttft_s": {"client": 0.02, "server": 0.01, "flagged": True}}},
    }
    lines = list(window_lines(window, "window 1"))
    assert lines[:2] == ["window 1: not valid, 1.500 s steady; requests: ok 50", "  short_window: too short"]
    assert [line.split() for line in lines[3:5]] == [
        ["TTFT", "ms", "20.00", "18.00", "22.00", "50", "requests"],
        ["TTFT", "p99", "ms", "–", "30.00", "–", "50", "requests"],
    ]
    assert lines[5:] == [
        "  ttft_s ≤ 0.5: met by 100.0% of requests, 30.00 req/s",
        "  client: workers 1, idle share 1%, lateness p99 3.000 ms, kernel stamps True",
        "  TTFT ms: client 20.00, server 10.00 (they differ)",
        "  server: name vllm",
    ]
    assert list(window_lines({}, "window 1")) == ["window 1: not valid, no steady part; requests: none"]
