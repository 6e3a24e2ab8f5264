"""Metrics as people write them, and what is said of names that are none."""

import pytest

from fewmark.core.metric_names import metric_hint, read_metric
from fewmark.core.near_names import did_you_mean


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ttft_s", ("ttft_s", 1.0)),
        ("ttft_ms", ("ttft_s", 1e-3)),
        ("TTFT", ("ttft_s", None)),
        ("p99 TTFT (ms)", ("ttft_p99_s", 1e-3)),
        ("ttft_p99_ms", ("ttft_p99_s", 1e-3)),
        ("mean tpot us", ("tpot_s", 1e-6)),
        ("e2el", ("e2e_latency_s", None)),
        ("inter-token latency p95", ("itl_p95_s", None)),
        ("throughput", ("throughput_tok_s", 1.0)),
        ("goodput", ("goodput_req_s", 1.0)),
        ("request_throughput", ("request_throughput_req_s", 1.0)),
        ("throughput_p99", None),
        ("ttft_p42", None),
        ("s", None),
        ("", None),
        ("power_w", None),
    ],
)
def test_a_metric_is_read_in_any_spelling(name, meant):
    assert read_metric(name) == meant


def test_hints_name_what_looks_alike_and_else_all():
    assert metric_hint("ttft") == "did you mean ttft_s?"
    assert metric_hint("troughput").startswith("did you mean throughput_tok_s")
    assert metric_hint("zzz").startswith("one of throughput_tok_s, ")
    assert did_you_mean("sparse", ["sparse-25", "transfer-0"]) == "did you mean sparse-25?"
    assert did_you_mean("llm_pilot", ["llm-pilot", "splitwise"]) == "did you mean llm-pilot?"
    assert did_you_mean("zzz", ["llm-pilot", "splitwise"]) == "one of llm-pilot, splitwise"
