"""Weights on other tiers, and the memory model: what it adds up, what it refuses, and how it stands to real peaks."""

import pytest

from fewmark.core import Deployment, FrozenMap, Status, Workload
from fewmark.engines.checkpoints.shapes import SHAPES
from fewmark.engines.doctor.memory import GIB
from fewmark.engines.measuring.policy import Policy, measure
from fewmark.engines.memory.footprint import footprint, shape_of
from fewmark.engines.transformers.engine import TransformersEngine

WORK = Workload(16, 4, batch_size=2)


def test_tensors_of_a_known_case_add_up():
    # OPT-30B in half precision: 48 layers of width 7168; FlexLLMGen's case of 512 + 32 tokens at batch 8.
    shape = shape_of(SHAPES["opt-30b"])
    needs = footprint(shape, 2, batch_size=8, input_tokens=512, output_tokens=32, placement="cpu")
    assert needs.to_dict()["cpu"]["weights"] == shape.parameters * 2
    assert needs.to_dict()["accelerator"]["KV cache"] == 2 * 48 * 7168 * 2 * 8 * 544
    assert needs.total("accelerator") < 16 * GIB < needs.total("cpu")
    assert needs.shortage({"accelerator": 16 * GIB, "cpu": 208 * GIB}) is None
    short = needs.shortage({"accelerator": 16 * GIB, "cpu": 32 * GIB})
    assert "weights 55.8 GiB" in short and "32.0 GiB" in short and "host" in short


@pytest.mark.parametrize("field", ["batch_size", "input_tokens", "output_tokens"])
def test_more_work_never_takes_less(field):
    base = {"batch_size": 4, "input_tokens": 64, "output_tokens": 32}
    shape = shape_of(SHAPES["llama-tiny"])
    totals = [footprint(shape, 4, **{**base, field: n}).total("accelerator") for n in (1, 2, 64, 65, 1000)]
    assert totals == sorted(totals) and totals[0] < totals[-1]


@pytest.mark.engine
@pytest.mark.parametrize(
    ("placement", "tier"), [("cpu", "cpu"), ("disk", "disk"), (FrozenMap({"weights": "disk", "cache": "cpu"}), "disk")]
)
@pytest.mark.slow
def test_weights_on_other_tiers_give_every_token_and_leave_nothing_behind(placement, tier, tmp_path):
    engine = TransformersEngine()
    options = {"threads": 1, "offload_folder": str(tmp_path)}
    engine.load(Deployment("transformers", "opt-tiny", precision="fp32", placement=placement, engine_options=options))
    held = sum(file.stat().st_size for file in tmp_path.rglob("*.dat"))
    outcome = measure(engine, WORK, Policy(max_repeats=3), seed=1)
    assert outcome.status is Status.OK, outcome.error
    assert outcome.samples[0].output_tokens == 4
    facts = engine.environment()
    assert facts["weights_tier"] == tier
    if tier == "disk":
        assert held >= facts["parameters"] * 4 and facts["page_cache"].startswith(("cold", "warm: "))
    assert outcome.extra["peak_memory_bytes"] >= outcome.extra["resident_before_bytes"] > 0
    engine.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.engine
def test_weights_that_the_disk_cannot_hold_are_refused_before_they_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr("fewmark.engines.transformers.engine.free_disk_bytes", lambda folder: 1000)
    engine = TransformersEngine()
    outcome = None
    try:
        engine.load(
            Deployment("transformers", "opt-tiny", placement="disk", engine_options={"offload_folder": str(tmp_path)})
        )
    except Exception as failure:
        outcome = failure
    assert outcome.status is Status.OUT_OF_MEMORY and "disk" in outcome.reason
    assert not list(tmp_path.iterdir())
