"""What every engine with an environment of its own must do, each in it, through a worker: `make test-engines`."""

import contextlib
import os
from dataclasses import replace

import pytest

from fewmark.core import Case, Deployment, FrozenMap, Status, Workload
from fewmark.engines import BUILT_IN
from fewmark.engines.environments.folders import recipe_of
from fewmark.engines.environments.install import install_engine
from fewmark.engines.measuring.policy import Outcome, Policy
from fewmark.runner import Launch, RunSettings
from fewmark.runner.deployment import measure_deployment
from fewmark.runner.worker.process import WorkerProcess
from fewmark.runner.worker.warm import WarmWorker

pytestmark = [pytest.mark.real_engine, pytest.mark.timeout(2100)]
OPTIONS = {"llama.cpp": {"threads": 1, "slots": 4, "slot_tokens": 256}, "vllm": {"threads": 1, "max_model_len": 256}}
WORK = Workload(8, 6, batch_size=2)
POLICY = Policy(min_repeats=2, max_repeats=2)


@pytest.fixture(params=sorted(name for name in BUILT_IN if recipe_of(name) is not None))
def name(request):
    return request.param


@pytest.fixture
def deployment(name):
    install_engine(name)
    options = OPTIONS.get(name, {"threads": 1})
    return Deployment(name, "llama-tiny", precision="float32", engine_options=options)


def test_exact_tokens_ordered_times_and_an_engine_that_goes_on_after_a_refusal(deployment):
    far = Workload(100_000, 6, batch_size=2)
    cases = [Case(deployment, work) for work in (WORK, far, replace(WORK, output_tokens=1))]
    good, refused, single = (r.measurement for r in measure_deployment(cases, RunSettings(policy=POLICY), {}))
    assert refused.status is Status.UNSUPPORTED and refused.error
    for measurement, n_tokens in ((good, 6), (single, 1)):
        assert measurement.status is Status.OK, measurement.error
        for sample in measurement.samples:
            assert sample.output_tokens == n_tokens
            assert 0 < sample.ttft_s <= sample.e2e_latency_s
            assert list(sample.token_times_s) == sorted(sample.token_times_s)


def test_a_deployment_that_it_cannot_load_is_a_failure_with_a_reason(deployment):
    strange = replace(deployment, engine_options=FrozenMap({"no such option": 1}))
    (measurement,) = (r.measurement for r in measure_deployment([Case(strange, WORK)], RunSettings(policy=POLICY), {}))
    assert measurement.status is Status.UNSUPPORTED and "no such option" in measurement.error


def test_no_more_threads_compute_than_asked_for(deployment, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cases = [Case(deployment, Workload(8, 200, batch_size=2))]
    (came,) = (r.measurement for r in measure_deployment(cases, RunSettings(policy=POLICY), {}))
    assert came.environment["engine"]["threads"] == 1
    for sample, cpu_s in zip(came.samples, came.extra["cpu_s"], strict=True):
        assert cpu_s < 1.4 * sample.e2e_latency_s + 0.1  # of two spinning threads, some 2


CHANGED = {
    "llama.cpp": ({"threads": 2, "slots": 2}, "weights_file_kept"),
    "onnxruntime": ({"max_model_len": 128}, "weights_kept"),
    "deepspeed": ({"threads": 2}, "weights_kept"),
}


def test_weights_are_kept_for_the_next_deployment_where_it_can(deployment, name):
    changed, fact = CHANGED.get(name, ({"threads": 2}, None))
    following = replace(deployment, engine_options=FrozenMap({**deployment.engine_options, **changed}))
    with contextlib.closing(WarmWorker()) as warm:
        settings = RunSettings(policy=POLICY, warm_worker=warm)
        came = [
            result.measurement
            for each in (deployment, following)
            for result in measure_deployment([Case(each, WORK)], settings, {})
        ]
    assert [m.status for m in came] == [Status.OK] * 2 and all(m.cost.startup_s > 0 for m in came)
    first, second = (m.environment["engine"] for m in came)
    assert {option: second[option] for option in changed} == changed != {option: first[option] for option in changed}
    assert fact is None or (second[fact] is True and fact not in first)


def test_closing_leaves_no_process(deployment):
    worker = WorkerProcess(Launch().for_engine(deployment.engine), start_timeout_s=300)
    try:
        assert not isinstance(loaded := worker.load(deployment, 300), Outcome), loaded
        group = worker.host and os.getpgid(worker._pid)
        worker.close()
        with pytest.raises(ProcessLookupError):
            os.killpg(group, 0)
    finally:
        worker.kill()
