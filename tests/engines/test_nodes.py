"""Suites for clusters say how many nodes a case takes: more than one is refused before time is spent."""

import pytest

from fewmark.core import Case, Deployment, Status, Workload
from fewmark.engines import CaseFailure, engine_class
from fewmark.runner import Runner, RunSettings
from fewmark.store import open_store


@pytest.mark.parametrize("name", ["transformers", "deepspeed", "vllm", "llama.cpp", "openvino", "onnxruntime"])
@pytest.mark.parametrize("option", ["num_nodes", "accelerators_per_node"])
def test_more_than_one_is_refused_with_the_reason(name, option):
    engine = engine_class(name)()
    with pytest.raises(CaseFailure) as failure:
        engine.load(Deployment(name, "llama-tiny", engine_options={option: 2}))
    assert failure.value.status is Status.UNSUPPORTED
    assert f"{option} is 2" in failure.value.reason and name in failure.value.reason
    engine.close()


@pytest.mark.slow
@pytest.mark.engine
def test_it_is_recorded_and_costs_no_run(tmp_path):
    options = {"num_nodes": 2, "accelerators_per_node": 1}
    cases = [
        Case(Deployment("transformers", "opt-tiny", engine_options=options), Workload(256, 32, batch_size=n))
        for n in (1, 2)
    ]
    with open_store(tmp_path / "s.db") as store:
        report = Runner(store, RunSettings(), quiet=True).run(cases)
        kept = list(store.measurements())
    assert report.n_left == 0 and len(kept) == 2
    for measurement in kept:
        assert measurement.status is Status.UNSUPPORTED and "num_nodes is 2" in measurement.error
        assert not measurement.samples and measurement.cost.wall_s is None
