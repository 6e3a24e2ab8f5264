"""Many processes at once, and processes that are killed: nothing lost, nothing twice."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fewmark.core import Measurement
from fewmark.store import open_store

Make = Callable[..., Measurement]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.mark.slow
def test_eight_processes_lose_and_duplicate_nothing(
    durable_url: str, start_writer: Start, make_measurement: Make
) -> None:
    # All open the store before it exists, and each number is written by two or three of them.
    writers = [start_writer(durable_url, 40 * i, 40 * i + 100, 7, i) for i in range(8)]
    added = 0
    for writer in writers:
        out, err = writer.communicate(timeout=300)
        assert writer.returncode == 0, err
        added += int(out.split()[-1])
    with open_store(durable_url) as store:
        found = list(store.measurements())
        assert len(store.deployments()) == len({item.case.deployment for item in found})
    expected = {make_measurement(number).measurement_id for number in range(380)}
    assert added == len(found) == 380
    assert {item.measurement_id for item in found} == expected


@pytest.mark.parametrize("step", [1, 150])
@pytest.mark.slow
def test_a_killed_writer_loses_nothing_it_was_told_was_stored(
    durable_url: str, start_writer: Start, make_measurement: Make, step: int
) -> None:
    rng = random.Random(step)
    told: set[int] = set()
    for attempt in range(3):
        writer = start_writer(durable_url, 0, 100_000, step, attempt)
        assert writer.stdout is not None
        told.update(map(int, writer.stdout.readline().split()))
        time.sleep(rng.uniform(0, 0.3))
        writer.kill()
        lines = writer.stdout.read().splitlines(keepends=True)
        told.update(int(word) for line in lines if line.endswith("\n") for word in line.split())
        with open_store(durable_url) as store:
            found = {item.row: item for item in store.measurements()}
            assert store.count() == len(found)
        assert told <= {number - 1 for number in found if number is not None}
        assert all(item == make_measurement(number - 1) for number, item in found.items() if number is not None)
    if durable_url.startswith("sqlite"):
        connection = sqlite3.connect(durable_url.removeprefix("sqlite:///"))
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()


def test_a_store_is_usable_on_both_sides_of_a_fork(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from writer import measurement
from fewmark.store import open_store
store = open_store({str(tmp_path / "store.db")!r})
store.add([measurement(1)])
child = os.fork()
if child == 0:
    assert store.count() == 1
    assert store.add([measurement(2)]) == 1
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert store.add([measurement(3)]) == 1
assert store.count() == 3
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


def test_only_sqlalchemy_is_imported() -> None:
    script = """
import sys
from fewmark.store import open_store
open_store(":memory:")
heavy = {"pandas", "numpy", "pyarrow", "psycopg", "yaml", "pydantic"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
