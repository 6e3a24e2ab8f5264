"""What every engine with an environment of its own must do, each in it, through a worker: `make test-engines`."""

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
