"""A run spread over a real Ray cluster of several nodes on this machine: the same results, and a node that is lost."""

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from fewmark.core import Case, Deployment, Status, Workload
from fewmark.engines.measuring.policy import Policy
from fewmark.runner import RayExecutor, Runner, RunSettings
from fewmark.store import open_store

pytestmark = pytest.mark.real_engine
SETTINGS = RunSettings(policy=Policy(min_repeats=1, max_repeats=1, warmup=0), timeout_s=300)
STORE = {"object_store_memory": 80 * 2**20}
PATIENCE = {  # on a busy machine Ray's own processes take long to start
    "RAY_agent_register_timeout_ms": "240000",
    "RAY_raylet_start_wait_time_s": "240",
    "RAY_worker_register_timeout_seconds": "240",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_worker_prestart": "0",
}


def deployments(journal, n, **options):
    return [
        Deployment("dummy", f"toy-{number}", engine_options={"journal": str(journal), "threads": 1, **options})
        for number in range(n)
    ]


def lose(cluster, store, which, after):
    """Kill a node once so many measurements are saved."""
    deadline = time.monotonic() + 240
    while store.count() < after and time.monotonic() < deadline:
        time.sleep(0.05)
    cluster.remove_node(which(), allow_graceful=False)


def grid(deployment, n):
    return [Case(deployment, Workload(8, 2, batch_size=1 + number)) for number in range(n)]


@pytest.fixture(scope="module")
def cluster():
    """A head that runs nothing, and two nodes with a CPU each; the test may add nodes and kill some."""
    plugin = str(Path(__file__).with_name("plugin"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (PATIENCE | {"PYTHONPATH": plugin}).items():
            patch.setenv(name, value)
        patch.syspath_prepend(plugin)
        import ray
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **STORE})
        made.nodes = [made.add_node(num_cpus=1, **STORE) for _ in range(2)]
        made.wait_for_nodes()
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def table(tmp_path):
    """Four recorded deployments of twelve cells, as cases of the replay engine."""
    rows = [f"x,toy-{m},8,4,{b},{0.1 * b + m}" for m in range(4) for b in range(1, 13)]
    (tmp_path / "table.csv").write_text(
        "engine,model,input_tokens,output_tokens,batch_size,e2e_latency_s\n" + "\n".join(rows) + "\n"
    )
    recorded = [
        Deployment("replay", f"toy-{m}", engine_options={"table": str(tmp_path / "table.csv")}) for m in range(4)
    ]
    return [Case(d, Workload(8, 4, batch_size=b)) for d in recorded for b in range(1, 14)]  # the last is not there


def test_the_same_suite_gives_the_same_results_as_locally(cluster, table, tmp_path):
    found = []
    for name, options in (("local", {}), ("ray", {"executor": RayExecutor()})):
        with open_store(tmp_path / f"{name}.db") as store:
            report = Runner(store, SETTINGS, quiet=True, **options).run(table)
            assert len(report.measurements) == 52 and report.n_left == 0
            kept = ("case", "status", "samples", "provenance", "error", "flags", "n_repeats")
            found.append({m.case.case_id: [getattr(m, name) for name in kept] for m in store.measurements()})
    assert found[0] == found[1]


def test_a_lost_node_costs_nothing_but_time(cluster, store, tmp_path):
    cases = [case for d in deployments(tmp_path / "journal", 2, pause_s=0.3) for case in grid(d, 12)]

    losing = threading.Thread(target=lose, args=(cluster, store, cluster.nodes.pop, 4))
    losing.start()
    report = Runner(store, SETTINGS, quiet=True, executor=RayExecutor()).run(cases)
    losing.join()
    assert report.ok and report.n_left == 0, report.to_dict()
    counts = Counter(m.case.case_id for m in store.measurements())
    assert len(counts) == 24 and set(counts.values()) == {1}  # nothing lost, nothing twice
    loads = [line for line in (tmp_path / "journal").read_text().splitlines() if line.startswith("load")]
    assert len(loads) >= 3  # the lost node's deployment was begun again elsewhere
    cluster.nodes.append(cluster.add_node(num_cpus=1, **STORE))
    cluster.wait_for_nodes()


def test_the_loss_of_the_only_node_that_has_the_accelerator_leaves_its_cases_for_later(cluster, store, tmp_path):
    lone = cluster.add_node(num_cpus=1, resources={"H100": 2}, **STORE)
    cluster.wait_for_nodes()
    journal = tmp_path / "journal"
    fast = Deployment("dummy", "fast", accelerator="H100", engine_options={"journal": str(journal), "pause_s": 0.3})
    cases = [*grid(fast, 12), *grid(*deployments(tmp_path / "other", 1), 3)]
    losing = threading.Thread(target=lose, args=(cluster, store, lambda: lone, 5))
    losing.start()
    report = Runner(store, SETTINGS, quiet=True, executor=RayExecutor()).run(cases)
    losing.join()
    ((engine, reason, count),) = report.unavailable
    assert engine == "dummy" and "H100" in reason and 0 < count == report.n_left < 12
    assert store.count() == 15 - count and not report.failures
    again = cluster.add_node(num_cpus=1, resources={"H100": 1}, **STORE)
    cluster.wait_for_nodes()
    assert Runner(store, SETTINGS, quiet=True, executor=RayExecutor()).run(cases).ok and store.count() == 15
    cluster.remove_node(again)


def test_a_case_that_brings_down_whatever_it_runs_on_has_crashed_once_and_the_rest_is_measured(
    cluster, store, tmp_path
):
    (deployment,) = deployments(tmp_path / "journal", 1)
    deadly = Case(deployment, Workload(8, 4, batch_size=1, options={"do": "parent"}))
    report = Runner(store, SETTINGS, quiet=True, executor=RayExecutor()).run([deadly, *grid(deployment, 6)])
    assert report.to_dict()["statuses"] == {"ok": 6, "crashed": 1} and report.n_left == 0
    (failure,) = report.failures
    assert failure.case == deadly and "lost 2 times" in failure.error
    runs = Counter(line for line in (tmp_path / "journal").read_text().splitlines() if line.startswith("run "))
    assert sorted(runs.values()) == [1] * 6 + [2]  # what was measured right before a loss is not measured again


def test_a_real_engine_gives_what_it_gives_locally_on_every_node(cluster, tmp_path):
    options = {"threads": 1}
    models = [Deployment("transformers", name, engine_options=options) for name in ("llama-tiny", "opt-tiny")]
    cases = [Case(model, Workload(16, 8, batch_size=batch)) for model in models for batch in (1, 2, 3)]
    found = []
    for name, chosen in (("local", {}), ("ray", {"executor": RayExecutor()})):
        with open_store(tmp_path / f"{name}.db") as store:
            report = Runner(store, SETTINGS, quiet=True, **chosen).run(cases)
            assert report.ok, report.to_dict()
            found.append(
                {m.case.case_id: (m.status, m.samples[0].output_tokens, len(m.samples)) for m in store.measurements()}
            )
    assert found[0] == found[1] and len(found[0]) == 6


def test_a_deployment_that_no_node_can_take_does_not_stop_the_others(cluster, store, tmp_path):
    there, nowhere = grid(*deployments(tmp_path / "journal", 1), 2), Deployment("dummy", "toy", accelerator="H100")
    report = Runner(store, SETTINGS, quiet=True, executor=RayExecutor()).run([*there, *grid(nowhere, 3)])
    assert [m.status for m in report.measurements] == [Status.OK] * 2
    ((_, reason, count),) = report.unavailable
    assert count == 3 and "H100" in reason


def test_a_task_that_fails_by_itself_is_told_from_a_lost_node(cluster, store, tmp_path, monkeypatch):
    def broken(cases, settings, facts):
        if cases[0]["deployment"]["model"] == "toy-0":
            raise ModuleNotFoundError("No module named 'something'")
        yield from measure(cases, settings, facts)

    from fewmark.runner.executors.ray import _measure as measure

    monkeypatch.setattr("fewmark.runner.executors.ray._measure", broken)
    cases = [case for d in deployments(tmp_path / "journal", 2) for case in grid(d, 3)]
    report = Runner(store, SETTINGS, quiet=True, executor=RayExecutor()).run(cases)
    ((_, reason, count),) = report.unavailable
    assert "failed on its node" in reason and "No module named 'something'" in reason and count == 3
    assert not report.failures and store.count() == 3


def test_the_command_stops_at_ctrl_c_with_everything_saved_and_no_worker_left(cluster, tmp_path):
    (tmp_path / "suite.yaml").write_text(
        "deployments: [{engine: dummy, model: toy, engine_options: "
        f"{{pause_s: 0.3, threads: 1, journal: {tmp_path}/journal}}}}]\n"
        f"cells: [{{grid: {{input_tokens: 8, output_tokens: 2, batch_size: {list(range(1, 60))}}}}}]\n"
        "settings: {min_repeats: 1, max_repeats: 1, warmup: 0}\n"
    )
    command = [sys.executable, "-m", "fewmark", "run", "suite.yaml", "--store", "s.db", "--executor", "ray", "--json"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    journal = tmp_path / "journal"
    deadline = time.monotonic() + 240
    while not journal.exists() or journal.read_text().count("run ") < 4:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130 and "in the store" in said and "Traceback" not in said
    with open_store(tmp_path / "s.db") as store:
        assert 2 <= store.count() < 59
    worker = int(next(line.split()[1] for line in journal.read_text().splitlines() if line.startswith("load")))
    for _ in range(600):
        if not Path(f"/proc/{worker}").exists() or "\nState:\tZ" in Path(f"/proc/{worker}/status").read_text():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the worker outlives the command")
