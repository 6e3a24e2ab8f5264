"""Loads, the requests of a serving measurement, and what the canonical table says of them."""

from __future__ import annotations

import json
import math
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewmark.core import METRICS, Case, Deployment, InputError, Measurement, Requests, Sample, Workload
from fewmark.core.columns import KNOWN_COLUMNS, NUMERIC_COLUMNS
from fewmark.core.metrics import PERCENTILE_METRICS
from fewmark.core.requests import MAX_REQUESTS, gap_bins, n_needed, order_statistic
from fewmark.core.serving import serving_columns

DEPLOYMENT = Deployment(engine="vllm", model="llama", accelerator="H100")


def served(**fields: object) -> Measurement:
    case = Case(DEPLOYMENT, Workload(512, 128, request_rate=2.5))
    return Measurement(case=case, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("load", "kind", "label"),
    [
        ({"batch_size": 8}, "batch_size", "batch 8"),
        ({"concurrency": 8}, "concurrency", "8 users"),
        ({"request_rate": 8}, "request_rate", "8 req/s"),
        ({"request_rate": 0.25}, "request_rate", "0.25 req/s"),
    ],
)
def test_a_workload_has_one_load_of_a_kind(load: dict[str, float], kind: str, label: str) -> None:
    workload = Workload(512, 128, **load)  # type: ignore[arg-type]
    assert (workload.load, workload.load_kind, workload.load_label) == (load[kind], kind, label)
    assert Workload.from_dict(json.loads(json.dumps(workload.to_dict()))) == workload


def test_equal_numbers_of_different_loads_are_different_cases() -> None:
    loads = ({"batch_size": 8}, {"concurrency": 8}, {"request_rate": 8})
    ids = {Case(DEPLOYMENT, Workload(512, 128, **load)).case_id for load in loads}  # type: ignore[arg-type]
    assert len(ids) == 3


def test_the_ids_of_cases_without_a_request_rate_are_what_they_were() -> None:
    assert Case(DEPLOYMENT, Workload(512, 128, batch_size=8)).case_id == "0ce7d848b5d4ef62f169f5dc"
    assert Case(DEPLOYMENT, Workload(512, 128, concurrency=8)).case_id == "5fbea1a0af177af700bc2630"


@pytest.mark.parametrize(
    "loads",
    [
        {},
        {"batch_size": 8, "concurrency": 8},
        {"batch_size": 8, "request_rate": 1.0},
        {"concurrency": 8, "request_rate": 1.0},
        {"request_rate": 0},
        {"request_rate": math.inf},
    ],
)
def test_none_two_or_impossible_loads_are_refused(loads: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Workload(512, 128, **loads)  # type: ignore[arg-type]


def test_every_percentile_is_a_metric_and_a_column() -> None:
    assert len(PERCENTILE_METRICS) == 16
    assert PERCENTILE_METRICS["e2e_latency_p95_s"] == ("e2e_latency_s", 95)
    for name in (*PERCENTILE_METRICS, "itl_s", "goodput_req_s", "request_throughput_req_s"):
        assert name in METRICS and name in KNOWN_COLUMNS and name in NUMERIC_COLUMNS
    assert METRICS["goodput_req_s"].higher_is_better and not METRICS["ttft_p99_s"].higher_is_better


def test_percentiles_are_order_statistics() -> None:
    ordered = [float(i) for i in range(1, 101)]
    assert [order_statistic(ordered, percent) for percent in (50, 90, 95, 99)] == [50, 90, 95, 99]
    assert order_statistic(ordered[:10], 99) == 10
    assert order_statistic([3.0], 50) == 3.0
    assert [n_needed(percent) for percent in (50, 90, 95, 99)] == [2, 10, 20, 100]


def test_requests_give_means_percentiles_and_counts() -> None:
    requests = Requests(e2e_latency_s=(1.1, 2.2, None, 3.3), ttft_s=(0.1, 0.2, 0.3, 0.3), output_tokens=(11, 11, 2, 11))
    found = requests.statistics()
    assert found["ttft_s"] == pytest.approx(0.2)
    assert found["tpot_s"] == pytest.approx(0.2)
    assert found["e2e_latency_p50_s"] == 2.2
    assert found["e2e_latency_p99_s"] == 3.3
    assert (found["n_requests"], found["n_failed"]) == (3, 1)
    assert "ttft_p99_s" in requests.bounds() and "ttft_p50_s" not in requests.bounds()


def test_gaps_are_kept_to_half_a_percent() -> None:
    numbers = random.Random(0)
    gaps = sorted(numbers.lognormvariate(-4, 1) for _ in range(5_000))
    found = Requests(e2e_latency_s=(1.0,), gaps=gap_bins(gaps)).statistics()
    assert found["itl_s"] == pytest.approx(sum(gaps) / len(gaps), rel=0.005)
    for percent in (50, 90, 95, 99):
        assert found[f"itl_p{percent}_s"] == pytest.approx(order_statistic(gaps, percent), rel=0.0051)
    assert "itl_p50_s" not in Requests(e2e_latency_s=(1.0,), gaps=gap_bins([0.0, -1.0])).statistics()


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=300))
def test_percentiles_are_in_order_and_among_the_values(latencies: list[float]) -> None:
    found = Requests(e2e_latency_s=tuple(latencies)).statistics()
    ends = [found[f"e2e_latency_p{percent}_s"] for percent in (50, 90, 95, 99)]
    assert ends == sorted(ends)
    assert set(ends) <= set(latencies)


def test_too_many_requests_are_thinned_and_say_so() -> None:
    n = 3 * MAX_REQUESTS
    with pytest.raises(InputError, match="at most"):
        Requests(e2e_latency_s=tuple([1.0] * n))
    kept = Requests.thinned({"e2e_latency_s": [float(i + 1) for i in range(n)]}, gaps=[0.01] * 7)
    assert len(kept.e2e_latency_s) == MAX_REQUESTS and kept.n_all == n
    assert "n_requests" not in kept.statistics()  # only the client counted them all
    assert kept.gaps == gap_bins([0.01] * 7)


@pytest.mark.parametrize(
    "columns",
    [
        {"e2e_latency_s": (1.0, 2.0), "ttft_s": (0.1,)},
        {"e2e_latency_s": (math.nan,)},
        {"e2e_latency_s": (1.0,), "gaps": (1,)},
    ],
)
def test_malformed_requests_are_refused(columns: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Requests(**columns)  # type: ignore[arg-type]


@pytest.mark.parametrize("statistics", [{"ttft_p98_s": 1.0}, {"ttft_p99_s": math.nan}, {"ttft_p99_s": "fast"}])
def test_unknown_or_impossible_statistics_are_refused(statistics: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Sample(statistics=statistics)  # type: ignore[arg-type]


def test_a_serving_measurement_survives_json_and_pickle() -> None:
    requests = Requests(e2e_latency_s=(1.0, None), ttft_s=(0.1, None), sent_s=(0.0, 0.5), gaps=((-3, 5),))
    sample = Sample(throughput_tok_s=300.0, statistics={"goodput_req_s": 2.0, "itl_s": None}, requests=requests)  # type: ignore[arg-type]
    measurement = served(samples=(sample,), statistic="mean")
    for back in (
        Measurement.from_dict(json.loads(json.dumps(measurement.to_dict()))),
        pickle.loads(pickle.dumps(measurement)),  # noqa: S301  its own
    ):
        assert back == measurement and back.measurement_id == measurement.measurement_id
        assert back.samples[0].requests == requests
        assert back.median("goodput_req_s") == 2.0
        assert back.median("ttft_p50_s") == 0.1
        assert back.median("ttft_s") == 0.1
    with pytest.raises(InputError, match="statistic"):
        served(statistic="mode")


def test_the_table_says_what_its_numbers_are() -> None:
    stated = Sample(ttft_s=0.2, statistics={"ttft_p99_s": 0.9, "n_requests": 500})  # type: ignore[arg-type]
    found = serving_columns(served(samples=(stated, stated)))
    assert found == {"ttft_p99_s": 0.9, "n_requests": 1000, "statistic": "mean"}
    few = Sample(requests=Requests(e2e_latency_s=(1.0,) * 50))
    assert "e2e_latency_p99_s" in serving_columns(served(samples=(few,)))["note"]
    batch = Case(DEPLOYMENT, Workload(512, 128, batch_size=8))
    assert serving_columns(Measurement(case=batch, samples=(Sample(e2e_latency_s=1.0),))) == {"statistic": "median"}
    imported = Measurement(case=batch, samples=(Sample(e2e_latency_s=1.0),), provenance="imported")
    assert serving_columns(imported) == {}
