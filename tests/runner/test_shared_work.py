"""Runs side by side on one store measure each case once between them, also when one of them is killed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from fewmark.store import open_store

pytestmark = pytest.mark.slow

N_RUNS = 4
COMMAND = [sys.executable, "-m", "fewmark", "run", "suite.yaml", "--store", "store.db", "--quiet", "--no-drift-check"]


def start(folder):
    return subprocess.Popen(COMMAND, cwd=folder, stderr=subprocess.PIPE, text=True)


def suite(folder, pause_s=0.01):
    (folder / "suite.yaml").write_text(
        f"deployments: [{{engine: dummy, model: toy, engine_options: {{pause_s: {pause_s}, journal: journal}}}}]\n"
        "cells: [{grid: {input_tokens: 8, output_tokens: [2, 3], batch_size: [1, 2, 3, 4, 5, 6, 7, 8]}}]\n"
    )


def counts(folder):
    with open_store(folder / "store.db") as store:
        return Counter(m.case.case_id for m in store.measurements())


def test_each_case_is_measured_once(plugin, tmp_path):
    suite(tmp_path)
    runs = [start(tmp_path) for _ in range(N_RUNS)]
    said = [run.communicate(timeout=500)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * N_RUNS, said
    assert set(counts(tmp_path).values()) == {1} and len(counts(tmp_path)) == 16
    assert any("measured by other runs" in text for text in said)


def test_what_a_killed_run_had_claimed_is_measured_by_another(plugin, tmp_path):
    suite(tmp_path, pause_s=0.05)
    first, second = start(tmp_path), start(tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "journal").exists() or (tmp_path / "journal").read_text().count("run") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    text = second.communicate(timeout=500)[1]
    assert second.returncode == 0, text
    assert len(counts(tmp_path)) == 16 and set(counts(tmp_path).values()) == {1}
