"""Starved of memory and of disk in mid-run: real limits, one case lost at most, and the run goes on or can go on."""

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fewmark.cli import main
from fewmark.core import Case, Deployment, InputError, Status, Workload
from fewmark.engines.measuring.policy import Policy
from fewmark.runner import Launch, Runner, RunSettings
from fewmark.store import open_store
from fewmark.verbs.run import n_bytes

pytestmark = pytest.mark.usefixtures("plugin")
LIMIT = 300 * 2**20
SETTINGS = RunSettings(policy=Policy(max_repeats=3), timeout_s=300, launch=Launch(memory_limit_bytes=LIMIT))
SUITE = (
    "deployments: [{engine: dummy, model: toy, engine_options: {pause_s: 0.001}}]\n"
    "cells: [{grid: {input_tokens: 8, output_tokens: [2, 3], batch_size: {range: [1, 40]}}}]\n"
    "settings: {max_repeats: 1, warmup: 0}\n"
).replace("{range: [1, 40]}", str(list(range(1, 41))))
N_CASES = 80


def dummy(**options):
    return Deployment("dummy", "toy", engine_options=options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "says"), [("allocate", "out of memory"), ("abort", "bad_alloc"), ("share", "together")]
)
def test_what_needs_more_memory_than_the_limit_costs_one_case(store, tmp_path, how, says):
    deployment = dummy(journal=str(tmp_path / "journal"))
    greedy = Case(deployment, Workload(8, 4, batch_size=1, options={"do": how}))
    cases = [greedy, *(Case(deployment, Workload(8, 2, batch_size=n)) for n in range(1, 7))]
    report = Runner(store, SETTINGS, quiet=True).run(cases)
    assert report.to_dict()["statuses"] == {"ok": 6, "out_of_memory": 1}
    (failure,) = report.failures
    assert failure.case == greedy and says in failure.error
    loads = [line for line in (tmp_path / "journal").read_text().splitlines() if line.startswith("load")]
    alone = report.measurements[-1] is failure  # nothing was left to restart for
    assert len(loads) == 2 - alone
    assert all(m.extra["peak_memory_bytes"] < LIMIT for m in report.measurements if m.status is Status.OK)


def test_a_deployment_that_cannot_be_loaded_within_the_limit_is_out_of_memory(store):
    cases = [Case(dummy(load="allocate"), Workload(8, 2, batch_size=n)) for n in (1, 2)]
    report = Runner(store, SETTINGS, quiet=True).run(cases)
    assert report.to_dict()["statuses"] == {"out_of_memory": 2}


def test_without_a_limit_the_same_allocation_is_made(store):
    settings = dataclasses.replace(SETTINGS, launch=Launch())
    case = Case(dummy(), Workload(8, 2, batch_size=1, options={"do": "hold"}))
    (measured,) = Runner(store, settings, quiet=True).run([case]).measurements
    assert measured.status is Status.OK and measured.extra["peak_memory_bytes"] > LIMIT


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 2**32), ("500MB", 500_000_000), ("2G", 2**31), ("1.5 kib", 1536), ("77", 77)]
)
def test_sizes(text, size):
    assert n_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "0", "-1GiB", "4 GiBs", "GiB"])
def test_what_is_no_size(text):
    with pytest.raises(InputError, match="memory limit"):
        n_bytes(text)


def run_in(folder, limit=None):
    """The command's exit code and words, in a process of its own; no file may grow beyond `limit`."""

    def before():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write then fails, as on a full disk
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [
        sys.executable,
        "-m",
        "fewmark",
        "run",
        "suite.yaml",
        "--store",
        "store.db",
        "--json",
        "--no-drift-check",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, preexec_fn=before)
    return done.returncode, done.stdout, done.stderr


def stored(folder):
    with open_store(folder / "store.db") as store:
        return [m.case.case_id for m in store.measurements(statuses=["ok"])]


def starved_then_fed(folder, starve, feed):
    code, _, said = starve()
    assert code == 2 and "error: the store cannot be used" in said and "Traceback" not in said, said
    before = stored(folder)
    assert 0 < len(before) < N_CASES and len(set(before)) == len(before)
    code, out, said = feed()
    assert code == 0, said
    assert json.loads(out)["n_before"] == len(before)
    after = stored(folder)
    assert set(before) < set(after) and len(set(after)) == len(after) == N_CASES


@pytest.mark.slow
def test_a_file_that_may_not_grow_stops_the_run_and_it_goes_on_when_it_may(tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE)
    starved_then_fed(tmp_path, lambda: run_in(tmp_path, limit=640_000), lambda: run_in(tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root; the limit on files above does not")
def test_a_full_disk_stops_the_run_and_it_goes_on_when_there_is_room(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=800k", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a container that may not mount; the limit on files above is tested everywhere")
    try:
        (disk / "suite.yaml").write_text(SUITE)

        def feed():
            subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
            return run_in(disk)

        starved_then_fed(disk, lambda: run_in(disk), feed)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_store_that_may_not_be_written_is_refused_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("suite.yaml").write_text(SUITE.replace("{pause_s: 0.001}", "{journal: journal}"))
    with open_store("store.db"):
        pass
    access = os.access
    # What permissions say to a user; root may write whatever they say.
    monkeypatch.setattr(os, "access", lambda path, mode, **rest: mode != os.R_OK | os.W_OK and access(path, mode))
    assert main(["run", "suite.yaml", "--store", "store.db"]) == 2
    said = capsys.readouterr().err
    assert "must be readable and writable" in said and not Path("journal").exists()
