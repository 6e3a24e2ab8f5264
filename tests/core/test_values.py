"""The core values: what they refuse, what they keep, and that their identities never change."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewmark.core import (
    Case,
    Cost,
    Deployment,
    FrozenMap,
    InputError,
    Measurement,
    Prediction,
    Sample,
    Status,
    Workload,
    content_hash,
)

DEPLOYMENT = Deployment(
    engine="vllm",
    engine_version="0.11.0",
    model="meta-llama/Llama-3.1-8B",
    precision="bf16",
    accelerator="H100-80GB",
    accelerator_count=2,
    tensor_parallel_size=2,
    placement="accelerator",
    engine_options={"enforce_eager": True, "max_num_seqs": 64},
)
CASE = Case(DEPLOYMENT, Workload(1024, 128, batch_size=16))

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=12).filter(str.strip)
numbers = st.floats(1e-6, 1e9, allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | numbers | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def measurements(draw: st.DrawFn) -> Measurement:
    counts = st.none() | st.integers(1, 64)
    deployment = Deployment(
        engine=draw(names),
        model=draw(names),
        precision=draw(st.none() | names),
        accelerator_count=draw(counts),
        placement=draw(st.none() | names | st.dictionaries(names, names, min_size=1, max_size=2)),
        engine_options=draw(st.dictionaries(names, json_values, max_size=3)),
    )
    load = {draw(st.sampled_from(["batch_size", "concurrency"])): draw(st.integers(1, 512))}
    workload = Workload(draw(st.integers(1, 4096) | numbers), draw(st.integers(1, 4096)), **load)
    samples = st.builds(
        Sample,
        e2e_latency_s=st.none() | numbers,
        ttft_s=st.none() | numbers,
        token_times_s=st.lists(numbers, max_size=4).map(tuple),
    )
    return Measurement(
        case=Case(deployment, workload),
        status=draw(st.sampled_from(list(Status))),
        samples=tuple(draw(st.lists(samples, max_size=3))),
        provenance=draw(st.sampled_from(["measured", "projected", "imported"])),
        cost=Cost(wall_s=draw(st.none() | numbers)),
        environment=draw(st.dictionaries(names, json_values, max_size=3)),
        flags=tuple(draw(st.lists(names, max_size=2))),
        error=draw(st.none() | names),
        extra=draw(st.dictionaries(names, json_values, max_size=2)),
    )


def test_case_id_never_changes() -> None:
    assert CASE.case_id == "31bcec61294bf79d7963c0e9"


def test_case_id_is_the_same_in_another_process() -> None:
    program = (
        "import json, sys; from fewmark.core import Case; print(Case.from_dict(json.loads(sys.stdin.read())).case_id)"
    )
    for seed in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(CASE.to_dict()),
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert out.stdout.strip() == CASE.case_id


def test_unknown_and_unset_options_do_not_change_the_identity() -> None:
    plain = Deployment(engine="e", model="m")
    assert plain.deployment_id == Deployment(engine="e", model="m", precision=None, engine_options={}).deployment_id
    assert plain.deployment_id != Deployment(engine="e", model="m", precision="fp16").deployment_id
    assert Workload(128, 128.0, batch_size=4.0) == Workload(128.0, 128, batch_size=4)  # type: ignore[arg-type]


@pytest.mark.slow
@given(measurements())
def test_measurements_survive_json(measurement: Measurement) -> None:
    text = json.dumps(measurement.to_dict(), allow_nan=False)
    again = Measurement.from_dict(json.loads(text))
    assert again == measurement
    assert again.measurement_id == measurement.measurement_id
    assert hash(again.case) == hash(measurement.case)


@given(st.dictionaries(names, json_values, max_size=4))
def test_frozen_maps_are_values(options: dict[str, object]) -> None:
    frozen = FrozenMap(options)
    shuffled = FrozenMap(dict(reversed(list(options.items()))))
    assert frozen == shuffled
    assert hash(frozen) == hash(shuffled)
    assert content_hash(frozen) == content_hash(shuffled)
    with pytest.raises(AttributeError):
        frozen.x = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "bad",
    [
        {"batch_size": 1, "concurrency": 1},
        {},
        {"batch_size": 0},
        {"batch_size": -3},
        {"batch_size": 1.5},
        {"batch_size": "4"},
        {"batch_size": True},
        {"batch_size": 4, "input_tokens": 0},
        {"batch_size": 4, "output_tokens": math.nan},
        {"batch_size": 4, "input_tokens": math.inf},
    ],
)
def test_a_workload_refuses_what_makes_no_sense(bad: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Workload.from_dict({"input_tokens": 128, "output_tokens": 128, **bad})


def test_unknown_fields_are_named_in_the_error() -> None:
    with pytest.raises(InputError, match="no field 'gpu'"):
        Deployment.from_dict({"engine": "e", "model": "m", "gpu": "H100"})
    with pytest.raises(InputError, match="non-empty string"):
        Deployment.from_dict({"engine": " ", "model": "m"})
    with pytest.raises(InputError, match="incomplete"):
        Deployment.from_dict({"engine": "e"})


def test_statistics_are_derived_by_the_definitions() -> None:
    case = Case(DEPLOYMENT, Workload(100, 11, batch_size=4))
    samples = tuple(Sample(e2e_latency_s=e2e, ttft_s=0.5, output_tokens=11) for e2e in (1.5, 2.5, 9.5))
    measurement = Measurement(case, samples=samples)
    assert measurement.median("e2e_latency_s") == 2.5
    assert measurement.median("tpot_s") == pytest.approx(0.2)
    assert measurement.median("throughput_tok_s") == pytest.approx(4 * 11 / 2.5)
    assert measurement.median("total_throughput_tok_s") == pytest.approx(4 * 111 / 2.5)
    assert measurement.median("decode_throughput_tok_s") == pytest.approx(4 * 10 / 2.0)


def test_unknown_stays_unknown() -> None:
    one_token = Measurement(Case(DEPLOYMENT, Workload(100, 1, batch_size=4)), samples=(Sample(1.0, 0.9),))
    assert one_token.median("tpot_s") is None
    online = Measurement(Case(DEPLOYMENT, Workload(100, 10, concurrency=4)), samples=(Sample(e2e_latency_s=1.0),))
    assert online.median("throughput_tok_s") is None
    assert Measurement(CASE, status=Status.OUT_OF_MEMORY).median("e2e_latency_s") is None


def test_throughput_uses_what_was_produced_not_what_was_asked() -> None:
    short = Measurement(
        Case(DEPLOYMENT, Workload(100, 100, batch_size=1)), samples=(Sample(e2e_latency_s=1.0, output_tokens=50),)
    )
    assert short.median("throughput_tok_s") == 50


def test_a_prediction_needs_a_level_and_a_known_provenance() -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        Prediction(CASE, "ttft_s", 1.0, 0.9, 1.1, 90, "interpolated")
    with pytest.raises(InputError, match="unknown provenance"):
        Prediction(CASE, "ttft_s", 1.0, 0.9, 1.1, 0.9, "guessed")
