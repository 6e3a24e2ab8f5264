"""What every engine must do, run against every engine that is registered. A new engine adds one line to `RUNS_HERE`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fewmark.core import Deployment, FrozenMap, Sample, Status, Workload
from fewmark.engines import BUILT_IN, CaseFailure, Recorded, engine_class, probe
from fewmark.engines.environments.folders import recipe_of
from fewmark.engines.measuring.policy import Policy, measure
from fewmark.engines.worker.loading import engine_facts

MOCK_SERVER = Path(__file__).parents[1] / "serving" / "mock_server.py"
# A deployment of each engine that any machine can run in a moment.
RUNS_HERE = {
    "transformers": Deployment("transformers", "llama-tiny", precision="float32", engine_options={"threads": 1}),
    "replay": Deployment("replay", "toy", engine_options={"table": "table.csv"}),
    "openai": Deployment(
        "openai",
        "toy",
        engine_options={"command": f"{{python}} {MOCK_SERVER} --port {{port}} --ttft-ms 30 --gap-ms 30"},
    ),
    "dummy": Deployment("dummy", "toy"),
}
WORK = Workload(8, 6, batch_size=2)
ENGINES = [pytest.param(n, marks=pytest.mark.engine) if n == "transformers" else n for n in RUNS_HERE]


@pytest.fixture(autouse=True)
def table(tmp_path, monkeypatch, plugin):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWMARK_SERVER_LOGS", str(tmp_path / "logs"))
    columns = "engine,model,input_tokens,output_tokens,batch_size,e2e_latency_s,ttft_s"
    (tmp_path / "table.csv").write_text(f"{columns}\nx,toy,8,6,2,1.5,0.25\n")


@pytest.fixture(params=ENGINES)
def name(request):
    return request.param


@pytest.fixture
def engine(name):
    made = engine_class(name)()
    made.load(RUNS_HERE[name])
    yield made
    made.close()


def test_every_engine_runs_here_or_has_an_environment_of_its_own():
    assert set(BUILT_IN) == {name for name in BUILT_IN if name in RUNS_HERE or recipe_of(name) is not None}


def test_it_is_available_where_the_tests_run(name):
    assert probe(name).available


@pytest.mark.slow
def test_a_workload_is_measured_with_every_token_and_its_time(engine):
    outcome = measure(engine, WORK, Policy(max_repeats=3), seed=5)
    assert outcome.status is Status.OK, outcome.error
    assert outcome.wall_s > 0
    for sample in outcome.samples:
        assert isinstance(sample, Sample) and 0 < sample.ttft_s < sample.e2e_latency_s
        if isinstance(engine, Recorded):
            continue
        assert sample.output_tokens == len(sample.token_times_s) == 6
        assert list(sample.token_times_s) == sorted(sample.token_times_s)
        assert (sample.ttft_s, sample.e2e_latency_s) == (sample.token_times_s[0], sample.token_times_s[-1])


def test_one_workload_after_another_on_the_same_engine(engine):
    for _ in range(2):
        assert measure(engine, WORK, Policy(max_repeats=3), seed=5).status is Status.OK


def test_its_facts_are_json(engine):
    facts = engine_facts(engine)
    assert facts and "unknown" not in facts and json.loads(json.dumps(facts)) == facts


def test_what_it_cannot_run_is_a_failure_with_a_reason_and_the_engine_goes_on(engine):
    strange = replace(WORK, options=FrozenMap({"do": "unsupported"}))
    with pytest.raises(CaseFailure) as failure:
        engine.check(strange)
    assert failure.value.status is Status.UNSUPPORTED and failure.value.reason
    assert measure(engine, WORK, Policy(max_repeats=3), seed=5).status is Status.OK


def test_a_deployment_that_it_cannot_load_is_a_failure_with_a_reason(name):
    made = engine_class(name)()
    with pytest.raises(CaseFailure) as failure:
        made.load(replace(RUNS_HERE[name], engine_options=FrozenMap({"load": "refuse", "table": "no such table"})))
    assert failure.value.reason
    made.close()
