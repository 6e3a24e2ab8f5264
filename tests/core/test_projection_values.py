"""A projection as a value: what it carries, what it implies, what it refuses."""

import json

import pytest

from fewmark.core import Case, Deployment, InputError, Measurement, Projection, Sample, Workload

CASE = Case(Deployment("toy", "toy"), Workload(128, 64, batch_size=4))
SHORT = Sample(e2e_latency_s=1.0, ttft_s=0.5, output_tokens=8, token_times_s=(0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0))
HELD = Projection("growth", 8, (6.8, 7.2), 6.0, 8.0, 0.9)


def test_metrics_are_those_of_the_full_length_and_samples_stay_raw():
    projected = Measurement(CASE, samples=(SHORT, SHORT), provenance="projected", projection=HELD)
    assert projected.median("e2e_latency_s") == 7.0
    assert projected.values("throughput_tok_s") == (4 * 64 / 6.8, 4 * 64 / 7.2)
    assert projected.median("tpot_s") == pytest.approx((7.0 - 0.5) / 63)
    assert projected.median("ttft_s") == 0.5
    assert projected.samples[0].e2e_latency_s == 1.0
    assert projected.interval("e2e_latency_s") == (6.0, 8.0)
    assert projected.interval("throughput_tok_s") == (4 * 64 / 8.0, 4 * 64 / 6.0)
    assert projected.interval("ttft_s") is None
    assert Measurement(CASE, samples=(SHORT,)).interval("e2e_latency_s") is None


def test_a_generation_cut_short_that_nobody_projected_claims_no_latency():
    waiting = Measurement(CASE, samples=(SHORT,), provenance="projected")
    assert waiting.median("e2e_latency_s") is None and waiting.median("throughput_tok_s") is None
    assert waiting.median("ttft_s") == 0.5


def test_a_rule_without_an_error_has_no_interval():
    plain = Measurement(CASE, samples=(SHORT,), provenance="projected", projection=Projection("mean", 8, (6.8,)))
    assert plain.median("e2e_latency_s") == 6.8 and plain.interval("e2e_latency_s") is None


def test_json_brings_it_back_equal_with_the_same_identity():
    before = Measurement(CASE, samples=(SHORT, SHORT), provenance="projected", projection=HELD)
    after = Measurement.from_dict(json.loads(json.dumps(before.to_dict())))
    assert after == before and after.measurement_id == before.measurement_id
    assert before.measurement_id != Measurement(CASE, samples=(SHORT, SHORT), provenance="projected").measurement_id


def test_its_columns_bring_it_back():
    cells = {**HELD.columns(), "note": "kept"}
    back = Projection.of_columns(cells, 7.0)
    assert cells == {"note": "kept"}
    assert back == Projection("growth", 8, (7.0,), 6.0, 8.0, 0.9)
    assert Projection.of_columns({"note": "x"}, 7.0) is None


def test_what_is_malformed_is_refused():
    with pytest.raises(InputError, match="not a projection"):
        Projection.from_dict({"rule": "growth"})
    with pytest.raises(InputError, match="one latency for each sample"):
        Measurement(CASE, samples=(SHORT,), provenance="projected", projection=HELD)
