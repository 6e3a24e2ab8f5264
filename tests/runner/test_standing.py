"""An engine that stands ready between runs is loaded once, and never two at a time."""

import pytest

from fewmark.core import Case, Deployment, Status, Workload
from fewmark.runner import Runner, RunSettings, deployment
from fewmark.runner.worker.warm import WarmWorker
from fewmark.store import open_store
from fewmark.verbs.campaign import campaign


def loads(tmp_path, name):
    path = tmp_path / name
    return [line for line in path.read_text().splitlines() if line.startswith("load")] if path.exists() else []


@pytest.fixture
def warm_worker():
    held = WarmWorker()
    yield held
    held.close()


def cases(tmp_path, name, sizes):
    deployment = Deployment("dummy", "toy", engine_options={"journal": str(tmp_path / name)})
    return [Case(deployment, Workload(8, 4, batch_size=n)) for n in sizes]


def test_runs_of_one_deployment_share_a_load(store, plugin, tmp_path, warm_worker):
    runner = Runner(store, RunSettings(warm_worker=warm_worker), quiet=True)
    for sizes in ((1, 2), (3,), (4, 5)):
        came = runner.run(cases(tmp_path, "a", sizes)).measurements
        assert all(m.status is Status.OK for m in came) and len(came) == len(sizes)
        assert (sum(m.cost.startup_s for m in came) > 0) == (sizes == (1, 2))
    assert len(loads(tmp_path, "a")) == 1


@pytest.mark.slow
def test_another_deployment_takes_its_place_and_closing_ends_it(store, plugin, tmp_path, warm_worker):
    runner = Runner(store, RunSettings(warm_worker=warm_worker), quiet=True)
    runner.run(cases(tmp_path, "a", (1,)))
    first = warm_worker._worker
    runner.run(cases(tmp_path, "b", (1,)))
    second = warm_worker._worker
    assert not first.alive and second.alive
    runner.run(cases(tmp_path, "a", (2,)))
    assert len(loads(tmp_path, "a")) == 2 and not second.alive
    last = warm_worker._worker
    warm_worker.close()
    assert not last.alive and warm_worker.deployment is None


def test_one_worker_reads_all_records_unless_an_engine_asks_for_a_new_one(store, plugin, tmp_path):
    journal = {"journal": str(tmp_path / "a")}
    options = [journal | ({"alone": True} if n == 3 else {}) for n in range(4)]
    tapes = [Deployment("tape", f"m{n}", engine_options=given) for n, given in enumerate(options)]
    report = Runner(store, share=True, quiet=True).run(
        Case(tape, Workload(8, 4, batch_size=n)) for tape in tapes for n in (1, 2)
    )
    assert report.ok and len(report.measurements) == 8
    assert {m.case.workload.batch_size for m in report.measurements if m.median("e2e_latency_s") == 2} == {2}
    assert len(loads(tmp_path, "a")) == 4
    first = report.measurements[0].case.deployment
    pids = {m.environment["engine"]["pid"] for m in report.measurements}
    assert len(pids) == (1 if first.engine_options.get("alone") else 2)


def test_a_record_that_ends_its_worker_costs_one_case(store, plugin, monkeypatch):
    monkeypatch.setattr(deployment, "RECALLED_AT_ONCE", 4)
    wanted = [Case(Deployment("tape", "toy"), Workload(8, 4, batch_size=n)) for n in range(1, 11)]
    deadly = Case(Deployment("tape", "toy"), Workload(8, 4, batch_size=11, options={"do": "exit"}))
    report = Runner(store, share=True, quiet=True).run([*wanted, deadly])
    assert [m.case for m in report.failures] == [deadly] and "last words" in report.failures[0].error
    held = {m.case: m.median("e2e_latency_s") for m in store.measurements(statuses=["ok"])}
    assert held == {case: case.workload.batch_size for case in wanted}


def test_a_worker_that_died_is_replaced(store, plugin, tmp_path, warm_worker):
    runner = Runner(store, RunSettings(warm_worker=warm_worker), quiet=True)
    runner.run(cases(tmp_path, "a", (1,)))
    warm_worker._worker.kill()
    (came,) = runner.run(cases(tmp_path, "a", (2,))).measurements
    assert came.status is Status.OK and len(loads(tmp_path, "a")) == 2


@pytest.mark.slow
def test_a_campaign_loads_its_engine_once_for_many_steps(plugin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.yaml").write_text(
        "deployments: [{engine: dummy, model: toy, engine_options: {journal: journal, pause_s: 0.002}}]\n"
        "cells: [{grid: {input_tokens: [8, 16, 32], output_tokens: [2, 4, 8], batch_size: [1, 2, 4, 8]}}]\n"
        "settings: {min_repeats: 3, max_repeats: 3, warmup: 0}\n"
    )
    steps = []
    campaign("suite.yaml", budget="20s", model="none", store="sqlite:///c.db", quiet=True, on_step=steps.append)
    assert len(steps) > 3
    assert len(loads(tmp_path, "journal")) == 1
    with open_store("sqlite:///c.db") as store:
        assert {(len(m.samples), m.flags) for m in store.measurements()} == {(1, ())}  # nobody asked for more
    campaign("suite.yaml", budget="30s", model="none", store="sqlite:///d.db", quiet=True, repeats_max=3)
    with open_store("sqlite:///d.db") as store:
        assert {len(m.samples) for m in store.measurements()} == {3}
