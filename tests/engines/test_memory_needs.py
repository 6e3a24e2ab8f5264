"""The memory model beside peaks of real runs, recorded by ``benchmarks/memory.py --json`` on CPUs."""

import json
import statistics
from pathlib import Path

import pytest

from fewmark.core import Deployment, Workload
from fewmark.engines.doctor.memory import GIB
from fewmark.engines.memory.footprint import LIBRARY_BYTES
from fewmark.engines.memory.needs import needs

RECORD = json.loads(Path(__file__).with_name("memory_peaks.json").read_text())


def predicted(plan, row):
    engine = plan.partition(",")[0]
    options = {"config": RECORD["models"][row["model"]], **row["engine_options"]}
    deployment = Deployment(
        engine, row["model"], precision=row["precision"], placement=row["placement"], engine_options=options
    )
    work = Workload(row["input_tokens"], row["output_tokens"], batch_size=row["batch_size"])
    found = needs(deployment, work, accelerated=False).total("cpu")
    return found - (LIBRARY_BYTES[engine] if row["placement"] == "disk" else 0)


@pytest.mark.parametrize("plan", list(RECORD["rows"]))
def test_forecasts_lie_close_to_real_peaks_and_seldom_below(plan):
    errors = [predicted(plan, row) / row["measured_bytes"] - 1 for row in RECORD["rows"][plan]]
    assert len(errors) >= 4
    assert statistics.median(map(abs, errors)) <= 0.10
    assert max(map(abs, errors)) <= 0.25
    assert min(errors) >= -0.06


def test_an_engine_that_reserves_its_cache_takes_it_whatever_the_case_asks():
    model = RECORD["models"]["middle"]
    few, many = (
        needs(
            Deployment("llama.cpp", "m", engine_options={"config": model, "slots": slots, "slot_tokens": 1024}),
            Workload(16, 8, batch_size=1),
            accelerated=False,
        )
        for slots in (1, 9)
    )
    per_token = 2 * 10 * 2 * 64 * 2  # keys and values, layers, heads, width, half precision
    assert many.total("cpu") - few.total("cpu") == 8 * 1024 * per_token


def test_where_there_is_an_accelerator_the_tensors_are_there():
    for engine in ("transformers", "vllm", "llama.cpp"):
        found = needs(
            Deployment(engine, "llama-2-7b", precision="fp16"), Workload(512, 32, batch_size=1), accelerated=True
        )
        assert found.to_dict()["accelerator"]["weights"] > 12 * GIB
        assert set(found.to_dict()["cpu"]) == {"engine"}
        assert "accelerator" in found.shortage({"accelerator": 8 * GIB})


@pytest.mark.parametrize(
    "deployment",
    [
        Deployment("replay", "llama-tiny"),
        Deployment("vllm", "nowhere"),
        Deployment("vllm", "llama-tiny", precision="q4"),
    ],
)
def test_what_is_not_known_is_not_guessed(deployment):
    assert needs(deployment, Workload(16, 8, batch_size=1), accelerated=False) is None
