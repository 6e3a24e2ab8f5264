"""What the driver does when nodes are lost, on a stand-in for Ray that runs tasks in this process and loses them."""

import sys
from collections import Counter
from types import SimpleNamespace

import pytest

from fewmark.core import Case, Deployment, EngineError, Status, Workload
from fewmark.engines.measuring.policy import Policy
from fewmark.runner import RayExecutor, Runner, RunSettings

pytestmark = pytest.mark.usefixtures("plugin")
SETTINGS = RunSettings(policy=Policy(min_repeats=1, max_repeats=1, warmup=0), timeout_s=300)


class RayError(Exception):
    pass


class RayTaskError(RayError):
    cause = ModuleNotFoundError("No module named 'fewmark'")


class Task:
    """A streaming task whose node is lost before it sends its message number `lives`."""

    def __init__(self, messages, lives):
        self.messages, self.lives = messages, lives

    def __next__(self):
        if self.lives == 0:
            self.messages.close()
            self.lives = None
            return RayError("the node died")
        if self.lives is None:
            raise StopIteration
        self.lives -= 1
        return next(self.messages)


@pytest.fixture
def ray(monkeypatch):
    def get(message, timeout):
        if isinstance(message, RayError):
            raise message
        return message

    lives = []

    def remote(function):
        start = SimpleNamespace(remote=lambda *given: Task(function(*given), lives.pop(0) if lives else 10**6))
        return SimpleNamespace(options=lambda **asked: start)

    fake = SimpleNamespace(
        is_initialized=lambda: True,
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}],
        wait=lambda tasks, **_: ([tasks[0]], tasks[1:]),
        cancel=lambda task: task.messages.close(),
        remote=remote,
        get=get,
        exceptions=SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError),
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    return lives


def cases(n):
    return [Case(Deployment("dummy", "toy"), Workload(8, 2, batch_size=1 + number)) for number in range(n)]


def run(store, n):
    report = Runner(store, SETTINGS, quiet=True, executor=RayExecutor()).run(cases(n))
    counts = Counter(m.case.case_id for m in store.measurements())
    assert set(counts.values()) <= {1}
    return report


@pytest.mark.slow
def test_what_a_lost_node_had_not_sent_is_measured_again(store, ray):
    ray += [2, 3]
    report = run(store, 8)
    assert report.ok and len(report.measurements) == 8


def test_a_case_under_which_nodes_are_lost_has_crashed_and_the_others_go_on(store, ray):
    ray += [2, 0]
    report = run(store, 6)
    assert report.to_dict()["statuses"] == {"ok": 5, "crashed": 1} and "node was lost" in report.failures[0].error
    assert report.failures[0].status is Status.CRASHED


def test_a_deployment_that_always_loses_its_node_is_given_up(store, ray):
    ray += [0, 0, 0, 0]
    report = run(store, 6)
    ((_, reason, count),) = report.unavailable
    assert "nodes are lost" in reason and count == 4 and report.n_left == 4


def test_what_waits_for_a_node_that_is_gone_is_left_for_later(store, ray, monkeypatch):
    nodes = [{"Alive": True, "Resources": {"CPU": 1.0}}]
    cancelled = []
    fake = sys.modules["ray"]

    def wait(tasks, **_):  # nothing comes any more, and by and by Ray learns why
        nodes[0]["Alive"] = False
        return [], tasks

    for name, value in {"nodes": lambda: nodes, "wait": wait, "cancel": cancelled.append}.items():
        monkeypatch.setattr(fake, name, value)
    with pytest.raises(EngineError, match="no node of the Ray cluster"):
        run(store, 3)
    assert len(cancelled) == 1 and store.count() == 0


def test_a_task_that_fails_by_itself_is_no_lost_node(store, ray, monkeypatch):
    fake, begun = sys.modules["ray"], []

    def get(message, timeout):
        begun.append(message)
        raise RayTaskError

    monkeypatch.setattr(fake, "get", get)
    with pytest.raises(EngineError, match=r"failed on its node[^|]*No module named 'fewmark'"):
        run(store, 3)
    assert len(begun) == 1 and store.count() == 0
