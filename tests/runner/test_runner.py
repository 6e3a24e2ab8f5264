"""The runner on a third party's engine in real worker processes: resuming, failures, crashes, time-outs."""

import dataclasses
import sys
import time
import venv
from pathlib import Path

import pytest

from fewmark.core import Case, Deployment, EngineError, Status, StoreError, Workload
from fewmark.engines.measuring.policy import Policy
from fewmark.runner import Launch, Runner, RunSettings
from fewmark.store import open_store

pytestmark = pytest.mark.usefixtures("plugin")
QUICK = RunSettings(policy=Policy(max_repeats=4), timeout_s=300)


def dummy(**options):
    return Deployment("dummy", "toy", engine_options=options)


def grid(deployment, *batches):
    return [Case(deployment, Workload(8, n, batch_size=b)) for n in (2, 3) for b in batches or (1, 2, 4)]


def odd(deployment, how):
    return Case(deployment, Workload(8, 4, batch_size=1, options={"do": how}))


def run(store, cases, settings=QUICK, **options):
    return Runner(store, settings, quiet=True).run(cases, **options)


def journal_lines(path, kind):
    return [line for line in path.read_text().splitlines() if line.startswith(kind)]


def by_case(store):
    found = {}
    for measurement in store.measurements():
        found.setdefault(measurement.case.case_id, []).append(measurement)
    return found


def test_everything_is_measured_once_and_the_engine_is_loaded_once(store, tmp_path):
    journal = tmp_path / "journal"
    deployment = dummy(journal=str(journal))
    report = run(store, grid(deployment) * 2)
    assert report.ok and report.to_dict()["statuses"] == {"ok": 6} and report.n_cases == 6
    assert len(journal_lines(journal, "load")) == len(journal_lines(journal, "close")) == 1
    results = [items[0] for items in by_case(store).values()]
    assert len(results) == 6 and len({m.environment["engine"]["pid"] for m in results}) == 1
    for m in results:
        assert m.median("throughput_tok_s") == pytest.approx(1000)
        assert m.median("ttft_s") == pytest.approx(0.001 * m.case.workload.batch_size)
        assert m.cost.wall_s > 0 and m.cost.startup_s > 0 and m.measured_at
        assert m.environment["host"]["cpu_usable"] >= 1 and m.environment["runner"]["fewmark"]
    assert sum(m.cost.startup_s for m in results) < report.elapsed_s


def test_running_again_measures_only_what_is_missing(store):
    cases = grid(dummy())
    first = run(store, cases, limit=2)
    assert (len(first.measurements), first.n_left) == (2, 4)
    second = run(store, cases)
    assert (second.n_before, len(second.measurements), second.n_left) == (2, 4, 0)
    third = run(store, cases)
    assert (third.n_before, third.measurements) == (6, ())
    assert store.count() == 6


@pytest.mark.slow
def test_the_order_is_random_but_follows_from_the_seed(tmp_path):
    orders = []
    for number, seed in enumerate((1, 1, 2)):
        with open_store(tmp_path / f"{number}.db") as store:
            run(store, grid(dummy(), *range(1, 9)), dataclasses.replace(QUICK, seed=seed))
            orders.append([m.case.workload for m in store.measurements()])
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != [case.workload for case in grid(dummy(), *range(1, 9))]


@pytest.mark.parametrize("seed", range(5))
def test_deployments_that_may_share_what_is_loaded_follow_one_another(store, seed):
    class Notes:
        def execute(self, groups, settings, facts, on_start):
            self.order = [deployment.model for deployment in groups]
            yield from ()

    made = [Deployment("dummy", model, engine_options={"journal": n}) for n in "123" for model in "abc"]
    notes = Notes()
    Runner(store, dataclasses.replace(QUICK, seed=seed), executor=notes, quiet=True).run(
        case for deployment in made for case in grid(deployment, 1)
    )
    assert len(notes.order) == 9 and all(len(set(notes.order[n : n + 3])) == 1 for n in (0, 3, 6))


@pytest.mark.parametrize(
    ("how", "status", "says"),
    [
        ("unsupported", Status.UNSUPPORTED, "does not do that"),
        ("short", Status.INVALID, "asked for 4"),
        ("memory", Status.OUT_OF_MEMORY, "no room"),
        ("raise", Status.CRASHED, "RuntimeError: the dummy fell over"),
        ("exit", Status.CRASHED, "exit code 3"),
        ("kill", Status.CRASHED, "SIGKILL"),
        ("hang", Status.TIMEOUT, "time limit"),
    ],
)
def test_whatever_happens_costs_one_case_and_the_sweep_goes_on(store, tmp_path, how, status, says):
    deployment = dummy(journal=str(tmp_path / "journal"))
    cases = [*grid(deployment), odd(deployment, how)]
    report = run(store, cases, dataclasses.replace(QUICK, timeout_s=3.0 if how == "hang" else 300.0))
    assert not report.ok and len(report.measurements) == 7
    (failure,) = report.failures
    assert failure.status is status and says in failure.error and failure.case == cases[-1]
    assert by_case(store)[cases[-1].case_id] == [failure]
    restarted = status in (Status.CRASHED, Status.TIMEOUT)
    alone = report.measurements[-1] is failure  # nothing was left to restart for
    assert len(journal_lines(tmp_path / "journal", "load")) == 1 + (restarted and not alone)


def test_the_last_words_of_a_worker_are_kept(store):
    report = run(store, [odd(dummy(), "exit")])
    assert "last words" in report.failures[0].error


def test_a_hanging_worker_takes_its_children_with_it(store, tmp_path):
    deployment = dummy(journal=str(tmp_path / "journal"))
    run(store, [odd(deployment, "hang")], dataclasses.replace(QUICK, timeout_s=2.0))
    (line,) = journal_lines(tmp_path / "journal", "child")
    assert _gone(int(line.split()[1]))


def _gone(pid):
    for _ in range(100):
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(("how", "status"), [("kill", Status.CRASHED), ("hang", Status.TIMEOUT)])
def test_samples_made_before_the_failure_are_kept(store, how, status):
    case = Case(dummy(), Workload(8, 2, batch_size=3, options={"do": how, "after": 2}))
    settings = RunSettings(policy=Policy(warmup=0), timeout_s=2.0 if how == "hang" else 300.0)
    (failure,) = run(store, [case], settings).failures
    assert failure.status is status and failure.values("e2e_latency_s") == pytest.approx((0.006, 0.006))


def test_failed_cases_are_tried_again_on_request_only(store, tmp_path):
    case = odd(dummy(once=str(tmp_path / "once")), "raise")
    assert run(store, [case]).failures
    again = run(store, [case])
    assert (again.measurements, again.n_failed_before, again.ok) == ((), 1, False)
    retried = run(store, [case], retry_failed=True)
    assert retried.ok and len(retried.measurements) == 1
    assert [m.status for m in store.measurements()] == [Status.CRASHED, Status.OK]
    assert run(store, [case], retry_failed=True).measurements == ()


def test_a_deployment_that_cannot_load_fails_all_its_cases_at_once(store, tmp_path):
    journal = tmp_path / "journal"
    report = run(store, [*grid(dummy(load="refuse", journal=str(journal))), *grid(dummy())])
    assert report.to_dict()["statuses"] == {"ok": 6, "out_of_memory": 6}
    assert len(journal_lines(journal, "load")) == 1
    assert {m.error for m in report.failures} == {"the weights do not fit"}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raise", "exit"])
def test_a_crash_while_loading_is_tried_twice(store, tmp_path, how):
    journal = tmp_path / "journal"
    report = run(store, grid(dummy(load=how, journal=str(journal))))
    assert report.to_dict()["statuses"] == {"crashed": 6} and len(journal_lines(journal, "load")) == 2
    assert all("while loading" in m.error for m in report.failures)
    once = dummy(load=how, once=str(tmp_path / "once"))
    assert run(store, grid(once)).ok


@pytest.mark.slow
def test_a_load_that_hangs_is_given_up(store):
    settings = dataclasses.replace(QUICK, load_timeout_s=6.0)
    report = run(store, grid(dummy(load="hang")), settings)
    assert report.to_dict()["statuses"] == {"timeout": 6}


@pytest.mark.slow
def test_a_missing_engine_costs_no_case_and_does_not_stop_the_others(store):
    missing = Deployment("missing", "toy")
    report = run(store, [*grid(missing), *grid(dummy())])
    assert not report.ok and report.to_dict()["statuses"] == {"ok": 6}
    ((engine, reason, count),) = report.unavailable
    assert (engine, count) == ("missing", 6) and "pip install nowhere" in reason
    assert {m.case.deployment.engine for m in store.measurements()} == {"dummy"}
    with pytest.raises(EngineError, match="pip install nowhere"):
        run(store, grid(missing))


def test_noise_is_measured_more_often_and_advised_upon(store):
    noisy = [Case(dummy(), Workload(8, n, 2, options={"noise": 0.9})) for n in range(2, 8)]
    report = run(store, noisy)
    assert all(m.n_repeats == 4 and "imprecise" in m.flags for m in report.measurements)
    assert "imprecise" in {advice.code for advice in report.advice}


def test_a_store_that_fails_stops_the_run_and_ends_the_worker(store, tmp_path):
    class Full:
        def __init__(self):
            self.pids = []

        def case_ids(self, statuses=None, *, provenances=None):
            return set()

        def add(self, measurements):
            self.pids += [m.environment["engine"]["pid"] for m in measurements]
            if len(self.pids) > 1:
                raise StoreError("the disk is full")
            return 1

    full = Full()
    with pytest.raises(StoreError):
        run(full, grid(dummy()))
    assert len(full.pids) == 2 and _gone(full.pids[0])


@pytest.mark.parametrize(
    "prefix",
    [
        ("env", "SOME=thing"),
        ("sh", "-c", 'echo "Welcome, friend"; printf "no newline "; exec "$@"', "sh"),
        ("sh", "-c", '"$@"; exit $?', "sh"),  # the worker is no child of ours, as under docker or srun
    ],
)
def test_a_worker_runs_behind_a_command_prefix(store, prefix):
    settings = dataclasses.replace(QUICK, launch=Launch(sys.executable, prefix))
    assert run(store, grid(dummy()), settings).ok


def test_a_worker_runs_under_another_interpreter_that_lacks_everything_of_ours(store, tmp_path):
    venv.create(tmp_path / "other", with_pip=False)
    python = tmp_path / "other" / "bin" / "python"
    report = run(store, grid(dummy()), dataclasses.replace(QUICK, launch=Launch(str(python))))
    assert report.ok
    assert {m.environment["host"]["executable"] for m in report.measurements} == {str(python)}


def test_a_command_that_never_answers_is_given_up(store):
    settings = dataclasses.replace(QUICK, launch=Launch(prefix=("sh", "-c", "exec sleep 600")), load_timeout_s=0.5)
    with pytest.raises(EngineError, match="without an answer"):
        run(store, grid(dummy()), settings)


def test_a_worker_that_the_kernel_ends_for_want_of_memory_ran_out_of_memory(store, monkeypatch):
    counts = iter(range(1000))  # the kernel's count of such kills goes up
    monkeypatch.setattr("fewmark.runner.worker.process._oom_kills", lambda: next(counts))
    report = run(store, [odd(dummy(), "kill"), *grid(dummy())])
    assert report.to_dict()["statuses"] == {"ok": 6, "out_of_memory": 1}


def test_ssh_gets_one_quoted_command(store, tmp_path, monkeypatch):
    fake = tmp_path / "ssh"  # as the real one: the rest is glued together and given to a shell
    fake.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    fake.chmod(0o755)
    settings = dataclasses.replace(QUICK, launch=Launch(sys.executable, (str(fake), "somewhere")))
    assert run(store, grid(dummy()), settings).ok


@pytest.mark.parametrize(
    ("launch", "says"),
    [
        (Launch("/no/such/python"), "cannot start a worker"),
        (Launch(prefix=("false",)), "without an answer"),
        (Launch(prefix=("echo", "hello")), "without an answer"),
    ],
)
def test_a_worker_that_cannot_be_started_is_one_clear_error(store, launch, says):
    with pytest.raises(EngineError, match=says):
        run(store, grid(dummy()), dataclasses.replace(QUICK, launch=launch))
    assert store.count() == 0
