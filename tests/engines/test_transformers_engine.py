"""A real engine on random weights: exact lengths, the clock, and everything that it refuses. Never asserts speed."""

import dataclasses
import json

import pytest

from fewmark.core import Deployment, FrozenMap, Status, Workload
from fewmark.engines import CaseFailure
from fewmark.engines.checkpoints.shapes import SHAPES
from fewmark.engines.measuring.policy import Policy, measure
from fewmark.engines.transformers.engine import TransformersEngine

pytestmark = pytest.mark.engine

SMALL = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 97,
    "max_position_embeddings": 64,
}
TINY = Deployment("transformers", "llama-tiny", precision="fp32", engine_options={"threads": 1})


def deployment(model="small", precision="fp32", **options):
    return Deployment("transformers", model, precision=precision, engine_options={"threads": 1, **options})


def loaded(*args, **kwargs):
    engine = TransformersEngine()
    engine.load(deployment(*args, **kwargs))
    return engine


def refused(given):
    with pytest.raises(CaseFailure) as failure:
        TransformersEngine().load(given)
    return failure.value


@pytest.fixture(scope="module")
def tiny():
    engine = TransformersEngine()
    engine.load(TINY)
    yield engine
    engine.close()


@pytest.mark.parametrize(("n_in", "n_out", "batch"), [(16, 1, 1), (16, 9, 1), (33, 8, 5)])
def test_every_sequence_gets_exactly_the_tokens_asked_and_each_step_a_time(tiny, n_in, n_out, batch):
    sample = tiny.run(Workload(n_in, n_out, batch_size=batch), seed=1)
    assert sample.output_tokens == n_out and len(sample.token_times_s) == n_out
    assert 0 < sample.ttft_s == sample.token_times_s[0]
    assert sample.e2e_latency_s == sample.token_times_s[-1]
    assert all(a < b for a, b in zip(sample.token_times_s, sample.token_times_s[1:], strict=False))


def test_it_turns_to_a_deployment_of_the_same_weights_and_to_no_other():
    engine = loaded(config=SMALL, attention="eager")
    weights = engine._model.lm_head.weight.data_ptr()
    other = deployment(config=SMALL, attention="sdpa")
    other = dataclasses.replace(other, engine_options=FrozenMap({**other.engine_options, "threads": 2}))
    assert engine.reload(other) and engine._model.lm_head.weight.data_ptr() == weights
    facts = engine.environment()
    assert (facts["threads"], facts["attention"], facts["weights_kept"]) == (2, "sdpa", True)
    assert engine.run(Workload(8, 3, batch_size=2), seed=1).output_tokens == 3
    wider = deployment(config={**SMALL, "intermediate_size": 128}, attention="sdpa")
    unnamed = deployment(config=SMALL)  # whichever attention transformers would choose
    for apart in (
        wider, unnamed, deployment(precision="bf16", config=SMALL, attention="sdpa"),
        deployment("another", config=SMALL, attention="sdpa"), dataclasses.replace(other, placement="disk"),
    ):  # fmt: skip
        assert not engine.reload(apart)
    assert engine.reload(deployment(config=SMALL, attention="sdpa", threads=None))  # as torch had them
    assert engine.reload(deployment(config=SMALL, attention="sdpa")) and engine.environment()["threads"] == 1
    engine.close()
    assert not engine.reload(other)


def test_prompts_follow_from_the_seed_and_differ_between_seeds(tiny, monkeypatch):
    seen = []
    generate = tiny._model.generate
    monkeypatch.setattr(tiny._model, "generate", lambda ids, **kw: seen.append(ids.tolist()) or generate(ids, **kw))
    for seed in (1, 1, 2):
        tiny.run(Workload(12, 2, batch_size=3), seed=seed)
    assert seen[0] == seen[1] != seen[2]
    assert len({tuple(row) for row in seen[0]}) == 3 and max(max(row) for row in seen[0]) < 4096


def test_a_measured_case_has_all_metrics_and_its_surroundings(tiny):
    outcome = measure(tiny, Workload(16, 8, batch_size=2), Policy(max_repeats=4), seed=3)
    assert outcome.status is Status.OK and 3 <= len(outcome.samples) <= 4
    facts = tiny.environment()
    assert facts["parameters"] == 4_999_424 and facts["threads"] == 1
    assert (facts["device"], facts["dtype"], facts["weights"]) == ("cpu", "float32", "random")
    assert facts["torch"] and facts["engine_version"]


@pytest.mark.parametrize(
    ("workload", "status", "says"),
    [
        (Workload(4090, 32, batch_size=1), Status.UNSUPPORTED, "context of 4096"),
        (Workload(16, 8, concurrency=2), Status.UNSUPPORTED, "batch_size"),
        (Workload(16.5, 8, batch_size=2), Status.UNSUPPORTED, "whole numbers"),
        (Workload(16, 8, batch_size=2, options={"request_rate": 3}), Status.UNSUPPORTED, "request_rate"),
        (Workload(2048, 2048, batch_size=10_000_000), Status.OUT_OF_MEMORY, "KV cache"),
    ],
)
def test_what_cannot_run_is_said_before_time_is_spent(tiny, workload, status, says):
    outcome = measure(tiny, workload, Policy(), seed=1)
    assert outcome.status is status and says in outcome.error and not outcome.samples


def test_running_out_of_memory_is_an_outcome_and_the_engine_goes_on(tiny, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: 9 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(tiny._model, "generate", full)
        outcome = measure(tiny, Workload(16, 8, batch_size=1), Policy(), seed=1)
    assert outcome.status is Status.OUT_OF_MEMORY and "can't allocate" in outcome.error
    assert measure(tiny, Workload(16, 8, batch_size=1), Policy(max_repeats=3), seed=1).status is Status.OK


def test_fewer_tokens_than_asked_are_invalid(tiny, monkeypatch):
    generate = tiny._model.generate

    def short(ids, **kw):
        return generate(ids, **{**kw, "max_new_tokens": 5, "min_new_tokens": 5})

    monkeypatch.setattr(tiny._model, "generate", short)
    outcome = measure(tiny, Workload(16, 8, batch_size=1), Policy(), seed=1)
    assert outcome.status is Status.INVALID and "asked for 8" in outcome.error and "got 5" in outcome.error


def test_a_config_as_mapping_as_file_and_as_directory_give_the_same_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    counts = {
        loaded("small", config=SMALL).environment()["parameters"],
        loaded(str(tmp_path / "config.json")).environment()["parameters"],
        loaded("small", config=str(tmp_path / "config.json")).environment()["parameters"],
        loaded(str(tmp_path)).environment()["parameters"],
    }
    assert len(counts) == 1
    overridden = loaded("llama-tiny", config={"num_hidden_layers": 1}).environment()["parameters"]
    assert overridden < 4_999_424


def test_a_checkpoint_is_read_from_safetensors_and_its_generation_defaults_do_not_count(tmp_path):
    source = loaded("small", config=SMALL)
    source._model.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"do_sample": True, "temperature": 0.1, "top_k": 5}))
    engine = loaded("small", config=str(tmp_path))
    assert engine.environment()["weights"] == "checkpoint"
    for (name, mine), theirs in zip(engine._model.named_parameters(), source._model.parameters(), strict=True):
        assert mine.equal(theirs), name
    assert engine.run(Workload(8, 6, batch_size=2), seed=1).output_tokens == 6
    assert loaded("small", config=str(tmp_path), weights="random").environment()["weights"] == "random"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_never_read(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    failure = refused(deployment(str(tmp_path)))
    assert failure.status is Status.UNSUPPORTED and "safetensors" in failure.reason
    assert loaded(str(tmp_path), weights="random").environment()["weights"] == "random"


@pytest.mark.parametrize("accelerator", ["CPU", "AMD EPYC CPU", "cpu x86"])
def test_an_accelerator_that_is_a_cpu_runs_on_the_cpu(accelerator):
    engine = TransformersEngine()
    engine.load(dataclasses.replace(deployment(config=SMALL), accelerator=accelerator))
    assert engine.environment()["device"] == "cpu"


def test_bfloat16_runs_in_bfloat16():
    engine = loaded("small", precision="bf16", config=SMALL)
    assert str(engine._model.dtype) == "torch.bfloat16" and engine.environment()["dtype"] == "bfloat16"
    assert engine.run(Workload(8, 4, batch_size=2), seed=1).output_tokens == 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (deployment("no-such-model"), "neither a named shape"),
        (deployment("llama-tiny", precision="int3"), "precision 'int3'"),
        (deployment("llama-tiny", speed=3), "speed"),
        (deployment("llama-tiny", threads=0), "threads"),
        (deployment("llama-tiny", weights="borrowed"), "borrowed"),
        (deployment("llama-tiny", weights="checkpoint"), "directory"),
        (deployment("small", config={"model_type": "no-such-type"}), "configuration"),
        (deployment("small", config={**SMALL, "hidden_size": "wide"}), ""),
        (dataclasses.replace(TINY, placement="moon"), "moon"),
        (dataclasses.replace(TINY, placement=FrozenMap({"cache": "disk"})), "placement"),
        (dataclasses.replace(TINY, accelerator="Imaginary X9"), "Imaginary X9"),
        (dataclasses.replace(TINY, accelerator="CPU", tensor_parallel_size=2), "tensor_parallel_size"),
    ],
)
def test_what_this_engine_cannot_load_is_unsupported_with_its_reason(given, says):
    failure = refused(given)
    assert failure.status is Status.UNSUPPORTED and says in failure.reason


@pytest.mark.parametrize("content", ["", "[1]", "{", '"text"'])
def test_a_config_file_that_is_none_is_a_reason(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    assert refused(deployment(str(tmp_path / "config.json"))).status is Status.UNSUPPORTED
    assert refused(deployment(str(tmp_path))).status is Status.UNSUPPORTED


def test_weights_that_cannot_fit_are_refused_without_being_made():
    failure = refused(deployment("opt-175b"))
    assert failure.status is Status.OUT_OF_MEMORY and "GiB" in failure.reason


PUBLISHED = {  # parameters, in billions, as the models' own pages give them
    "llama-2-7b": 6.74,
    "llama-3.1-8b": 8.03,
    "mistral-7b": 7.25,
    "qwen2-7b": 7.62,
    "opt-1.3b": 1.32,
    "opt-6.7b": 6.66,
    "opt-13b": 12.85,
    "opt-30b": 29.97,
    "opt-66b": 65.7,
    "opt-175b": 174.6,
}


@pytest.mark.parametrize("name", [name for name in SHAPES if not name.endswith("-tiny")])
def test_named_shapes_have_the_published_number_of_parameters(name):
    import torch
    from transformers import AutoModelForCausalLM

    from fewmark.engines.transformers.model import resolve

    config, _ = resolve(name, {})
    config.num_hidden_layers, layers = 1, config.num_hidden_layers
    counts = []
    for n in (1, 2):  # building all layers of the large ones takes long even without storage
        config.num_hidden_layers = n
        with torch.device("meta"):
            counts.append(sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters()))
    total = counts[0] + (layers - 1) * (counts[1] - counts[0])
    assert total / 1e9 == pytest.approx(PUBLISHED[name], rel=0.005)
