"""Freed memory is kept for the next case, or left to the C library's defaults where a deployment asks for them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fewmark.core import Deployment, Sample, Status, Workload
from fewmark.engines import host
from fewmark.engines.measuring import faults, policy
from fewmark.engines.measuring.faults import Use
from fewmark.engines.memory import allocator
from fewmark.engines.worker.loading import engine_facts, failed_load

TOUCH = """
import ctypes, json, sys
from fewmark.engines.measuring.faults import use_so_far
from fewmark.engines.memory import allocator

said = [allocator.settle(choice) for choice in sys.argv[1].split(",")]
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def touch(n_bytes):
    block = libc.malloc(n_bytes)
    ctypes.memset(block, 1, n_bytes)
    libc.free(block)

def faults_of(step):
    before = use_so_far()
    for i in range(8):
        touch((64 << 20) + i * (1 << 16))  # above what glibc may ever come to keep by itself
    return use_so_far().since(before).faults

first, second = faults_of(0), faults_of(1)
print(json.dumps([said, allocator.in_force(), first, second]))
"""

glibc = pytest.mark.skipif(not allocator.is_glibc(), reason="not glibc's allocator")


def touched(choices: str) -> tuple[list[bool], str, int, int]:
    done = subprocess.run([sys.executable, "-c", TOUCH, choices], capture_output=True, text=True, check=True)
    said, in_force, first, second = json.loads(done.stdout)
    return said, in_force, first, second


@glibc
def test_kept_memory_is_mapped_once():
    said, in_force, first, second = touched("keep")
    assert (said, in_force) == ([True], "keep")
    assert second < first / 4
    said, in_force, first, second = touched("system")
    assert (said, in_force) == ([True], "system")
    assert second > first / 2


@glibc
def test_the_defaults_do_not_come_back_in_the_same_process():
    said, in_force, _, _ = touched("keep,system")
    assert (said, in_force) == ([True, False], "keep")


class Engine:
    """Keeps the deployment that it is given."""

    def __init__(self):
        self.deployment = None

    def load(self, deployment):
        self.deployment = deployment

    def check(self, workload):
        pass

    def run(self, workload, *, seed):
        return Sample(e2e_latency_s=1.0, output_tokens=workload.output_tokens)

    def close(self):
        pass

    def environment(self):
        return {}


def test_the_option_is_not_the_engines(monkeypatch):
    asked = []
    monkeypatch.setattr(allocator, "settle", lambda choice: not asked.append(choice))
    for options in ({}, {"allocator": "system", "threads": 2}):
        engine = Engine()
        assert failed_load(engine, Deployment(model="m", engine="e", engine_options=options)) is None
        assert dict(engine.deployment.engine_options) == {k: v for k, v in options.items() if k != "allocator"}
        assert engine_facts(engine)["allocator"] == allocator.in_force()
    assert asked == ["keep", "system"]


def test_an_allocator_that_cannot_be_is_the_cases_failure(monkeypatch):
    found = failed_load(Engine(), Deployment(model="m", engine="e", engine_options={"allocator": "arena"}))
    assert found.status is Status.UNSUPPORTED and "keep, system" in found.reason
    monkeypatch.setattr(allocator, "settle", lambda choice: False)
    found = failed_load(Engine(), Deployment(model="m", engine="e", engine_options={"allocator": "system"}))
    assert found.status is Status.UNSUPPORTED and "new process" in found.reason


def test_repeats_that_the_kernel_tells_apart_are_marked(monkeypatch):
    steps = iter([Use(0, 0, 0), Use(900_000, 3.0, 10.0), Use(900_000, 3.0, 10.0), Use(900_100, 3.0, 17.0)])
    monkeypatch.setattr(faults, "use_so_far", lambda: next(steps))
    workload = Workload(input_tokens=8, output_tokens=4, batch_size=1)
    outcome = policy.measure(Engine(), workload, policy.Policy(min_repeats=2, max_repeats=2), 0)
    assert outcome.extra["page_faults"] == [900_000, 100]
    assert (outcome.extra["kernel_s"], outcome.extra["cpu_s"]) == ([3.0, 0.0], [10.0, 7.0])
    assert faults.FLAG in outcome.flags


@pytest.mark.parametrize(
    ("uses", "apart"),
    [
        ([Use(900_000, 3.0, 10.0)], False),
        ([Use(900_000, 3.0, 10.0), Use(890_001, 3.0, 10.0)], False),
        ([Use(900_000, 0.3, 10.0), Use(0, 0.0, 10.0)], False),
        ([Use(900_000, 3.0, 10.0), Use(0, 0.0, 7.0), Use(0, 0.0, 7.0)], True),
    ],
)
def test_what_counts_as_apart(uses, apart):
    assert faults.differ(uses) is apart


def test_descendants_are_counted():
    """Also as the engine's own, not as others that keep the machine busy: a server works in a process of its own."""
    child = """
import time
data = bytearray(64 << 20)
while time.process_time() < 0.15:
    pass
print(1, flush=True)
time.sleep(60)
"""
    before, own_before = faults.use_so_far(), host._own_cpu_s()
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        found, own = faults.use_so_far(), host._own_cpu_s()
        process.kill()
    if before is not None:
        assert found.since(before).faults > 4_000 and own - own_before > 0.1
