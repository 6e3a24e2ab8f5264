"""kill -9 of parent and worker, at random points: nothing measured is lost, nothing is measured twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fewmark.core import Status
from fewmark.store import open_store

N_CASES, ROUNDS = 60, 6


BATCHES = list(range(1, N_CASES // 2 + 1))


def start(folder, *options):
    command = [sys.executable, "-m", "fewmark", "run", "suite.yaml", "--store", "store.db", "--quiet", *options]
    command += ["--no-drift-check"]  # every case exactly once
    # Whoever runs the tests in the background may ignore Ctrl-C; the command under test must not inherit that.
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)


def heed_interrupts():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def journal(folder):
    path = folder / "journal"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split() for line in lines]


def workers(folder):
    return [int(pid) for kind, pid, *_ in (line for line in journal(folder) if line[0] == "load")]


def running(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def stored(folder):
    with open_store(folder / "store.db") as store:
        return {m.measurement_id: m for m in store.measurements()}


def cell(measurement):
    return (str(measurement.case.workload.output_tokens), str(measurement.case.workload.batch_size))


@pytest.mark.slow
def test_killing_parent_and_worker_at_random_points_loses_and_duplicates_nothing(plugin, tmp_path):
    (tmp_path / "suite.yaml").write_text(
        "deployments: [{engine: dummy, model: toy, engine_options: {pause_s: 0.005, journal: journal}}]\n"
        f"cells: [{{grid: {{input_tokens: 8, output_tokens: [2, 3], batch_size: {BATCHES}}}}}]\n"
    )
    rng, before, worker_kills = random.Random(20), {}, 0
    for number in range(ROUNDS):
        parent, seen = start(tmp_path), len(journal(tmp_path))
        kill_at = seen + rng.randint(1, 25)  # lines of the journal, not seconds: the machine may be slow
        wait_for(lambda parent=parent, at=kill_at: len(journal(tmp_path)) > at or parent.poll() is not None)
        if number % 2 and parent.poll() is None:
            with_workers = workers(tmp_path)
            os.kill(with_workers[-1], signal.SIGKILL)
            worker_kills += 1
            wait_for(lambda known=with_workers: len(workers(tmp_path)) > len(known))  # the sweep goes on by itself
            kill_at = len(journal(tmp_path)) + rng.randint(1, 15)
            wait_for(lambda parent=parent, at=kill_at: len(journal(tmp_path)) > at or parent.poll() is not None)
        parent.kill()
        parent.communicate()
        for pid in workers(tmp_path):
            wait_for(lambda pid=pid: not running(pid))

        after = stored(tmp_path)
        assert before.items() <= after.items()  # nothing that was saved is lost or changed
        saved = {cell(m) for m in after.values()}
        # A case whose successor was begun had been measured: it must be saved. Only the last of a round is open.
        runs = [tuple(line[1:3]) for line in journal(tmp_path)[seen:] if line[0] == "run"]
        begun = list(dict.fromkeys(runs))
        assert set(begun[:-1]) <= saved
        before = after

    assert 0 < len(before) < N_CASES  # the kills came in the middle
    assert sum(m.status is not Status.OK for m in before.values()) <= worker_kills
    finish = start(tmp_path, "--retry", "failed")
    assert finish.wait(timeout=300) == 0, finish.communicate()
    finish.communicate()
    good = Counter(m.case.case_id for m in stored(tmp_path).values() if m.status is Status.OK)
    assert len(good) == N_CASES and set(good.values()) == {1}


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGINT, 3), (signal.SIGTERM, 2)])
@pytest.mark.slow
def test_ctrl_c_and_sigterm_stop_cleanly_and_keep_what_there_is(plugin, tmp_path, number, times):
    (tmp_path / "suite.yaml").write_text(
        "deployments: [{engine: dummy, model: toy, engine_options: {pause_s: 0.05, journal: journal}}]\n"
        "cells: [{grid: {input_tokens: 8, output_tokens: 2, batch_size: [1, 2, 3, 4, 5, 6]}}]\n"
    )
    parent = start(tmp_path)
    wait_for(lambda: len({line[2] for line in journal(tmp_path) if line[0] == "run"}) >= 3)
    for _ in range(times):
        parent.send_signal(number)
    _, said = parent.communicate(timeout=300)
    assert parent.returncode == 128 + number and "in the store" in said and "Traceback" not in said
    wait_for(lambda: not running(workers(tmp_path)[-1]))
    assert 2 <= len(stored(tmp_path)) < 6
