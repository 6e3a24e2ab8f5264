"""What cannot fit is refused by the memory model before anything is loaded: with what it needs and what there is."""

import subprocess
from dataclasses import replace

import pytest

from fewmark.core import Case, Deployment, FrozenMap, Status, Workload
from fewmark.engines import CaseFailure, engine_class
from fewmark.engines.checkpoints.gguf import write_random
from fewmark.engines.checkpoints.shapes import SHAPES
from fewmark.engines.doctor.memory import GIB
from fewmark.engines.environments.folders import recipe_of
from fewmark.engines.environments.install import install_engine
from fewmark.engines.llama_cpp import LlamaCppEngine
from fewmark.engines.measuring.policy import Policy
from fewmark.engines.vllm import VllmEngine
from fewmark.runner import RunSettings
from fewmark.runner.deployment import measure_deployment

OPTIONS = {"vllm": {"max_model_len": 256, "max_num_seqs": 4}, "llama.cpp": {"slots": 4, "slot_tokens": 256}}
ENGINES = ("vllm", "llama.cpp", "deepspeed")


@pytest.fixture
def free(monkeypatch):
    """Sets what is free on the host, in GiB; nothing else of this process counts."""
    monkeypatch.setattr("fewmark.engines.memory.refusal.resident_bytes", lambda: 0)

    def give(gib):
        for module in ("memory.refusal", "transformers.engine"):
            monkeypatch.setattr(f"fewmark.engines.{module}.available_memory_bytes", lambda: int(gib * GIB))

    return give


@pytest.fixture
def untouched(monkeypatch):
    """Fails where an engine begins to load after all."""

    def begun(*args, **kwargs):
        pytest.fail("time was spent on loading")

    monkeypatch.setattr("fewmark.engines.llama_cpp.write_random", begun)
    monkeypatch.setattr("fewmark.engines.deepspeed.DeepSpeedEngine._build", begun)
    monkeypatch.setattr(subprocess, "Popen", begun)
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)  # importing it is an error


def large(engine):
    return Deployment(engine, "llama-2-7b", precision="bf16", engine_options=OPTIONS.get(engine, {}))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_larger_than_memory_is_refused_before_it_is_loaded(engine, free, untouched):
    free(4)
    with pytest.raises(CaseFailure) as refused:
        engine_class(engine)().load(large(engine))
    assert refused.value.status is Status.OUT_OF_MEMORY
    assert "weights" in refused.value.reason and "4.0 GiB" in refused.value.reason and "12." in refused.value.reason


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
def test_the_cache_that_is_reserved_counts(engine, free, untouched):
    free(30)
    many = {"max_num_seqs": 256, "max_model_len": 4096} if engine == "vllm" else {"slots": 256, "slot_tokens": 4096}
    with pytest.raises(CaseFailure, match="KV cache") as refused:
        engine_class(engine)().load(replace(large(engine), engine_options=FrozenMap(many)))
    assert refused.value.status is Status.OUT_OF_MEMORY


def test_what_fits_is_loaded(free, monkeypatch):
    free(30)
    with monkeypatch.context() as patched:
        patched.setitem(__import__("sys").modules, "vllm", None)
        with pytest.raises(ImportError):
            VllmEngine().load(large("vllm"))
    begun = []
    monkeypatch.setattr("fewmark.engines.llama_cpp.write_random", lambda *a: begun.append(a) or 1)
    monkeypatch.setattr(LlamaCppEngine, "_start", lambda self, options: None)
    engine = LlamaCppEngine()
    engine.load(large("llama.cpp"))
    engine.close()
    assert begun


def test_a_file_of_weights_that_exceeds_memory_is_refused(free, untouched, tmp_path):
    path = tmp_path / "toy.gguf"
    write_random(path, SHAPES["llama-tiny"], "fp32")
    free(path.stat().st_size / GIB)  # the weights alone would fit
    with pytest.raises(CaseFailure, match=r"weights .* engine .* free on the host") as refused:
        LlamaCppEngine().load(Deployment("llama.cpp", str(path)))
    assert refused.value.status is Status.OUT_OF_MEMORY


def test_layers_on_an_accelerator_are_not_reckoned_with_the_host(free, monkeypatch):
    free(0.1)
    monkeypatch.setattr("fewmark.engines.llama_cpp.write_random", lambda *a: 1)
    started = []
    monkeypatch.setattr(LlamaCppEngine, "_start", lambda self, options: started.append(options))
    engine = LlamaCppEngine()
    engine.load(replace(large("llama.cpp"), accelerator="H100", engine_options=FrozenMap({"gpu_layers": 32})))
    engine.close()
    assert len(started) == 1


def test_an_accelerator_is_asked_for_weights_and_not_for_the_cache_that_is_fitted(free, monkeypatch):
    from fewmark.engines.memory.refusal import require_room_to_load

    free(8)
    roomy = replace(large("vllm"), engine_options=FrozenMap({"max_num_seqs": 1024, "max_model_len": 4096}))
    require_room_to_load(roomy, device_bytes=20 * GIB)
    with pytest.raises(CaseFailure, match=r"12\.6 GiB .* free on the accelerator"):
        require_room_to_load(roomy, device_bytes=10 * GIB)


def test_a_case_is_refused_for_its_own_activations_alone(free):
    engine, work = VllmEngine(), Workload(200, 8, batch_size=4)
    engine._known, engine._length, engine._sequences = large("vllm"), 256, 4
    free(0.5)
    engine.check(work)
    free(0.01)
    with pytest.raises(CaseFailure, match="activations") as refused:
        engine.check(work)
    assert refused.value.status is Status.OUT_OF_MEMORY and "weights" not in refused.value.reason


@pytest.mark.real_engine
@pytest.mark.timeout(2100)
@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_in_its_own_environment_it_is_refused_without_a_process_that_loads(engine):
    """Ten times the host's memory is no machine's; a small one on the same host runs."""
    assert recipe_of(engine) is not None
    install_engine(engine)
    config = {**SHAPES["llama-tiny"], "hidden_size": 16384, "intermediate_size": 65536, "num_hidden_layers": 400}
    options = {**OPTIONS.get(engine, {}), "threads": 1}
    huge = Deployment(engine, "huge", precision="float32", engine_options=FrozenMap({**options, "config": config}))
    small = Deployment(engine, "llama-tiny", precision="float32", engine_options=FrozenMap(options))
    settings = RunSettings(policy=Policy(min_repeats=1, max_repeats=1, warmup=0))
    (refused,) = (r.measurement for r in measure_deployment([Case(huge, Workload(8, 4, batch_size=1))], settings, {}))
    assert refused.status is Status.OUT_OF_MEMORY, refused.error
    assert "weights" in refused.error and "free" in refused.error
    assert refused.cost.startup_s < 60
    (good,) = (r.measurement for r in measure_deployment([Case(small, Workload(8, 4, batch_size=1))], settings, {}))
    assert good.status is Status.OK, good.error
