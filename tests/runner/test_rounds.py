"""Repeats in rounds: spread over the sweep, every visit kept, put together to one measurement, come what may."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fewmark.cli import main
from fewmark.core import Case, Deployment, InputError, Measurement, Sample, Status, Workload
from fewmark.engines.measuring.policy import Policy
from fewmark.runner import Runner, RunSettings
from fewmark.runner.projection.truncation import Task, Truncation
from fewmark.runner.rounds import CaseRounds, left_over
from fewmark.store import open_store
from fewmark.verbs.run import run

CASE = Case(Deployment("dummy", "toy"), Workload(8, 2, batch_size=1))


def cases(journal=None, n=4, **options):
    given = {**options, **({"journal": str(journal)} if journal else {})}
    deployment = Deployment("dummy", "toy", engine_options=given)
    return [Case(deployment, Workload(8, 4, batch_size=batch)) for batch in range(1, n + 1)]


def order(journal):
    """The batch sizes in the order in which they were run."""
    return [int(line.split()[2]) for line in Path(journal).read_text().splitlines() if line.startswith("run")]


def settings(rounds, least=3, most=3, **more):
    return RunSettings(policy=Policy(min_repeats=least, max_repeats=most, warmup=0), rounds=rounds, **more)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(("rounds", "repeats", "visits"), [(3, 3, [1, 1, 1]), (2, 3, [2, 1]), (5, 3, [1, 1, 1])])
def test_repeats_are_split_over_the_rounds_and_one_measurement_holds_them(store, tmp_path, rounds, repeats, visits):
    asked = cases(tmp_path / "journal")
    report = Runner(store, settings(rounds, repeats, repeats), quiet=True).run(asked)
    assert len(report.measurements) == 4 and report.ok
    for measurement in report.measurements:
        assert list(measurement.extra["visits"]) == visits and measurement.n_repeats == repeats
        assert measurement.cost.wall_s > 0 and "visit" not in measurement.flags
    assert list(store.measurements()) == list(report.measurements)
    ran = order(tmp_path / "journal")
    assert len(ran) == 4 * repeats and len(set(ran[: 4 * visits[0]])) == 4
    assert not Runner(store, settings(rounds), quiet=True).run(asked).measurements


@pytest.mark.usefixtures("plugin")
def test_one_round_is_as_ever(store, tmp_path):
    Runner(store, settings(1), quiet=True).run(cases(tmp_path / "journal"))
    ran = order(tmp_path / "journal")
    assert all(len(set(ran[i : i + 3])) == 1 for i in range(0, 12, 3)) and not list(store.visits())
    assert all("visits" not in m.extra for m in store.measurements())


@pytest.mark.usefixtures("plugin")
def test_what_is_not_known_well_enough_is_visited_further(store):
    noisy = Case(Deployment("dummy", "toy"), Workload(8, 4, batch_size=1, options={"noise": 0.9}))
    calm = Case(Deployment("dummy", "toy"), Workload(8, 4, batch_size=2))
    Runner(store, settings(3, 3, 8), quiet=True).run([noisy, calm])
    found = {m.case.case_id: m for m in store.measurements()}
    assert found[calm.case_id].n_repeats == 3 and not found[calm.case_id].flags
    assert found[noisy.case_id].n_repeats == 8 and "imprecise" in found[noisy.case_id].flags
    assert len({s.e2e_latency_s for s in found[noisy.case_id].samples}) == 8  # each with prompts of its own


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(("do", "status"), [("raise", Status.CRASHED), ("memory", Status.OUT_OF_MEMORY)])
def test_a_case_that_fails_in_a_later_round_has_failed_and_keeps_its_samples(store, do, status):
    bad = Case(Deployment("dummy", "toy"), Workload(8, 4, batch_size=1, options={"do": do, "after": 2}))
    good = Case(Deployment("dummy", "toy"), Workload(8, 4, batch_size=2))
    report = Runner(store, settings(3), quiet=True).run([bad, good])
    found = {m.case.case_id: m for m in report.measurements}
    assert found[bad.case_id].status is status and len(found[bad.case_id].samples) in (1, 2)
    assert found[good.case_id].status is Status.OK and found[good.case_id].n_repeats == 3
    again = Runner(store, settings(3), quiet=True)
    assert not again.run([bad, good]).measurements
    (retried,) = again.run([bad, good], retry_failed=True).measurements
    assert list(retried.extra["visits"]) == [1, 1, 1] or retried.status is status  # begun anew


@pytest.mark.usefixtures("plugin")
def test_a_worker_that_dies_between_visits_costs_nothing_that_was_measured(store, tmp_path):
    once = str(tmp_path / "once")
    deployment = Deployment("dummy", "toy", engine_options={"once": once, "journal": str(tmp_path / "journal")})
    killed = Case(deployment, Workload(8, 4, batch_size=1, options={"do": "kill", "after": 2}))
    others = [Case(deployment, Workload(8, 4, batch_size=batch)) for batch in (2, 3)]
    report = Runner(store, settings(3), quiet=True).run([*others, killed])
    assert sum(m.status is Status.OK for m in report.measurements) == 2
    loads = [line for line in Path(tmp_path / "journal").read_text().splitlines() if line.startswith("load")]
    assert len(loads) == 2 and all(m.n_repeats == 3 for m in report.measurements if m.status is Status.OK)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_visits_that_it_made(plugin, tmp_path):
    (tmp_path / "suite.yaml").write_text(
        "deployments: [{engine: dummy, model: toy, engine_options: {pause_s: 0.1, journal: journal}}]\n"
        "cells: [{grid: {input_tokens: 8, output_tokens: 4, batch_size: [1, 2, 3, 4, 5, 6]}}]\n"
        "settings: {min_repeats: 3, max_repeats: 3, warmup: 0, rounds: 3}\n"
    )
    command = [sys.executable, "-m", "fewmark", "run", "suite.yaml", "--store", "store.db", "--quiet"]
    for n_kept in (4, 9):
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 300
        while not (tmp_path / "journal").exists() or len(order(tmp_path / "journal")) < n_kept + 1:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.005)
        process.kill()
        process.communicate()
    with open_store(tmp_path / "store.db") as store:
        kept = list(store.visits())
        assert len(kept) >= 8 and all("visit" in m.flags for m in kept) and not list(store.measurements())
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    with open_store(tmp_path / "store.db") as store:
        done = list(store.measurements())
    assert len(done) == 6 and all(m.n_repeats == 3 for m in done)
    samples = [sample for m in done for sample in m.samples]
    assert all(sample in samples for visit in kept for sample in visit.samples)
    assert len(order(tmp_path / "journal")) <= 18 + 2  # what a kill met half done, once each


@pytest.mark.usefixtures("plugin")
def test_cut_short_in_rounds_and_projected_of_all_visits(store, tmp_path):
    deployment = Deployment("dummy", "toy", engine_options={"growth": 0.001})
    asked = [Case(deployment, Workload(ii, 256, batch_size=b)) for ii in (64, 512) for b in (1, 2, 4)]
    cut = Truncation(output_tokens=32, n_validated=2)
    Runner(store, settings(3, truncation=cut), quiet=True).run(asked)
    latest = {(m.case.case_id, m.provenance): m for m in store.measurements()}
    projected = [m for (_, kind), m in latest.items() if kind == "projected"]
    assert len(projected) == 6 and len(latest) == 8
    for m in projected:
        work = m.case.workload
        whole = sum(0.001 * work.load * (1 + 0.001 * (work.input_tokens + i)) for i in range(256))
        low, high = m.interval("e2e_latency_s")
        assert list(m.extra["visits"]) == [1, 1, 1] and len(m.projection.e2e_latency_s) == 3
        assert m.median("e2e_latency_s") == pytest.approx(whole, rel=0.03) and low < whole < high
    assert len(list(store.visits())) == 8 * 2  # the third visit makes the measurement


def visit(seconds, moment, tokens=2, provenance="measured", host="h", case=CASE):
    samples = [Sample(e2e_latency_s=seconds, output_tokens=tokens)]
    return Measurement(
        case, samples=samples, provenance=provenance, measured_at=moment, environment={"host": {"host": host}}
    )


def test_only_visits_of_the_same_task_on_the_same_machine_are_gone_on_with():
    here = {"host": {"host": "h"}}
    for other in (visit(1.0, "1", host="else"), visit(1.0, "1", tokens=1, provenance="projected")):
        entry = CaseRounds(Task(CASE))
        entry.resume([other], here)
        assert not entry.measurements
    entry = CaseRounds(Task(CASE))
    entry.resume([visit(1.0, "1"), visit(2.0, "2")], here)
    assert entry.n_samples == 2 and entry.tokens is None
    long = Case(CASE.deployment, Workload(8, 64, batch_size=1))
    short = visit(1.0, "1", tokens=16, provenance="projected", case=long)
    for task, n_held in ((Task(long, 16), 1), (Task(long, 32), 0), (Task(long), 0), (Task(long, None, True), 1)):
        entry = CaseRounds(task)
        entry.resume([short], here)
        assert len(entry.measurements) == n_held and entry.tokens == (16 if n_held else None)
    full = visit(2.0, "2", tokens=64, case=long)
    whole, auto = CaseRounds(Task(long)), CaseRounds(Task(long, None, True))  # a validated case: in full first
    assert not auto.resume(whole.resume([short, full], here), here)
    assert [entry.measurements[0].provenance for entry in (whole, auto)] == ["measured", "projected"]


def test_visits_that_a_measurement_holds_already_are_not_used_again():
    old, new = visit(1.0, "2026-01-01T00:00:00"), visit(1.0, "2026-01-03T00:00:00")
    done = visit(1.0, "2026-01-02T00:00:00")
    assert left_over([old, new], [done]) == (new,)
    assert left_over([old, new], []) == (old, new)


@pytest.mark.slow
def test_a_suite_and_a_person_may_ask_for_rounds(plugin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "engine: dummy, model: toy"
    Path("s.yaml").write_text(
        f"deployments: [{{{text}}}]\ncells: [{{grid: {{input_tokens: 8, output_tokens: 4, batch_size: [1, 2]}}}}]\n"
        "settings: {min_repeats: 4, max_repeats: 4, warmup: 0, rounds: 2}\n"
    )
    for url, rounds, visits in (("a.db", None, [2, 2]), ("b.db", 4, [1, 1, 1, 1])):
        report = run("s.yaml", store=url, rounds=rounds, quiet=True)
        assert [list(m.extra["visits"]) for m in report.measurements] == [visits] * 2
    assert main(["run", "s.yaml", "--store", "c.db", "--rounds", "2", "--quiet"]) == 0
    assert main(["run", "s.yaml", "--store", "c.db", "--rounds", "0"]) == 2
    with pytest.raises(InputError):
        settings(0)


@pytest.mark.slow
def test_on_a_machine_of_two_speeds_rounds_tell_the_projection_of_both():
    path = Path(__file__).parents[2] / "benchmarks" / "simulated_machine.py"
    spec = importlib.util.spec_from_file_location("simulated_machine", path)
    machine = importlib.util.module_from_spec(spec)
    sys.modules["simulated_machine"] = machine  # dataclasses look their module up
    try:
        spec.loader.exec_module(machine)
        one, three = (machine.sweeps(1.33, 2.0, rounds, 8) for rounds in (1, 3))
    finally:
        del sys.modules["simulated_machine"]
    assert np.quantile(three.errors, 0.9) < 0.9 * np.quantile(one.errors, 0.9)
    assert np.median(three.errors) < np.median(one.errors)
    assert np.mean(three.inside) >= 0.9
    assert three.seconds < 1.2 * one.seconds  # each visit warms up
