"""Damaged stores: read, checked and salvaged with an answer or one error; copies taken at random moments are whole."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from inputs import limits, measurements
from tally import Clock, Tally

from fewmark.core import FewmarkError, Measurement, StoreError
from fewmark.store import check_store, open_store, salvage_store

WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from inputs import measurements
from fewmark.core import Measurement
from fewmark.store import open_store
from dataclasses import replace
held = measurements()
with open_store(sys.argv[1]) as store:
    for number in range(100000):
        store.add([replace(held[number % len(held)], row=number)])
        print(number, flush=True)
"""
STATEMENTS = (
    "UPDATE measurements SET {column} = {value} WHERE number = {number}",
    "UPDATE cases SET options = {value}",
    "UPDATE deployments SET body = {value}",
    "UPDATE environments SET body = {value}",
    "UPDATE annotations SET body = {value}",
    "DELETE FROM fewmark_migrations",
    "DELETE FROM cases",
    "DELETE FROM deployments WHERE rowid = 1",
    "DROP TABLE environments",
    "UPDATE fewmark_migrations SET name = {value}",
)
COLUMNS = (
    "body",
    "status",
    "e2e_latency_s",
    "case_id",
    "deployment_id",
    "provenance",
    "n_repeats",
    "has_extra",
    "flag",
)
VALUES = (
    "'{'",
    "'[]'",
    "'{}'",
    "x'ff'",
    "CAST(x'ff' AS TEXT)",
    "9e999",
    "-1",
    "'\"x\"'",
    "''",
    "1e300",
    "'null'",
    "NULL",
)


def read(path: Path) -> None:
    """What every verb reads of a store."""
    with open_store(path) as store:
        for use in (
            store.table,
            store.case_ids,
            store.annotations,
            store.deployments,
            store.withdrawn,
            store.environments,
        ):
            use()
        list(store.measurements())


def damage(seed: int, seconds: float) -> Tally:
    """Pages, bytes, lengths and rows damaged at random."""
    rng, clock, tally = random.Random(seed), Clock(seconds), Tally("damaged store")
    with tempfile.TemporaryDirectory() as name, limits():
        folder = Path(name)
        with open_store(folder / "whole.db") as store:
            store.add(measurements())
        whole = (folder / "whole.db").read_bytes()
        while clock:
            own = rng.randrange(2**32)
            once = random.Random(own)
            path, new = folder / f"{tally.tried}.db", folder / f"{tally.tried}.new.db"
            content = bytearray(whole)
            if once.random() < 0.5:
                for _ in range(once.choice([1, 2, 8])):
                    at, length = once.randrange(len(content)), once.choice([1, 16, 512, 4096])
                    content[at : at + length] = once.randbytes(min(length, len(content) - at))
                if once.random() < 0.2:
                    del content[once.randrange(len(content)) :]
                path.write_bytes(content)
            else:
                path.write_bytes(content)
                connection = sqlite3.connect(path)
                connection.execute("PRAGMA foreign_keys=OFF")
                for _ in range(once.choice([1, 2])):
                    words = {
                        "column": once.choice(COLUMNS),
                        "value": once.choice(VALUES),
                        "number": once.randint(1, 20),
                    }
                    try:
                        connection.execute(once.choice(STATEMENTS).format(**words))
                    except sqlite3.Error:
                        continue
                connection.commit()
                connection.close()
            tally.tried += 1
            for what, use in (("read", read), ("check", check_store), ("salvage", lambda p, n=new: rescue(p, n))):
                began = time.monotonic()
                try:
                    use(path)
                except FewmarkError:
                    pass
                except Exception as error:
                    tally.fault(error, f"damage {own}, {what}")
                tally.slowest_s = max(tally.slowest_s, time.monotonic() - began)
            for left in folder.glob(f"{path.stem}.*"):
                left.unlink(missing_ok=True)
    return tally


def rescue(path: Path, new: Path) -> None:
    with open_store(new) as into:
        salvage_store(path, into)
        list(into.measurements())


def power_cuts(seed: int, seconds: float) -> Tally:
    """A store copied while it is written: what was said to be saved before is there, or the copy is refused."""
    rng, clock, tally = random.Random(seed), Clock(seconds), Tally("power cut (copy at a random moment)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-c", WRITER, str(folder / "s.db"), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            while clock and writer.poll() is None:
                saved = int(writer.stdout.readline())
                for _ in range(rng.randint(0, 5)):
                    saved = int(writer.stdout.readline())
                time.sleep(rng.uniform(0, 0.02))
                # The log first: what is in the file by then is in the log as well, or was before.
                for suffix in ("-wal", ""):
                    if (folder / f"s.db{suffix}").exists():
                        shutil.copyfile(folder / f"s.db{suffix}", folder / f"copy.db{suffix}")
                tally.tried += 1
                try:
                    with open_store(folder / "copy.db") as store:
                        held = list(store.measurements())
                        assert all(isinstance(m, Measurement) for m in held)
                        if len(held) < saved + 1:
                            tally.fail(f"{saved + 1} were saved, {len(held)} are there")
                except StoreError as error:
                    if "malformed" not in str(error):  # the copy itself is no instant: a checkpoint may fall between
                        tally.fail(str(error))
                for left in folder.glob("copy.db*"):
                    left.unlink(missing_ok=True)
            writer.kill()
    return tally


def run(seed: int, seconds: float) -> list[Tally]:
    """Both, for half of the time each."""
    return [damage(seed, seconds / 2), power_cuts(seed, seconds / 2)]
