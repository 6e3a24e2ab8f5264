"""Damaged stores: read, checked and salvaged with an answer or one error; copies taken at random moments are whole."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from guard import announce, guarded, limits
from inputs import measurements
from tally import Clock, Tally

from fewmark.cli import main
from fewmark.core import FewmarkError, FrozenMap, Prediction, StoreError
from fewmark.interop import from_measurements, write_table
from fewmark.store import Annotation, check_store, open_store, salvage_store

CUTS: Final = 100  # of one writer; then its store is large
WRITER = """
import os, sys
sys.path.insert(0, sys.argv[2])
from inputs import measurements
from fewmark.store import open_store
from dataclasses import replace
held = measurements()
with open_store(sys.argv[1]) as store:
    for number in range(100000):
        store.add([replace(held[number % len(held)], row=number)])
        print(number, os.path.getsize(sys.argv[1] + "-wal"), flush=True)
"""
STATEMENTS = (
    *["UPDATE {table} SET {column} = {value} WHERE rowid = {number}"] * 4,
    *["UPDATE measurements SET {column} = {value} WHERE number = {number}"] * 4,
    "UPDATE {table} SET {column} = {value}",
    "DELETE FROM {table}",
    "DELETE FROM {table} WHERE rowid = {number}",
    "DROP TABLE {table}",
    "ALTER TABLE {table} DROP COLUMN {column}",
    "ALTER TABLE {table} RENAME COLUMN {column} TO x",
    "ALTER TABLE {table} ADD COLUMN x DEFAULT {value}",
    "CREATE TRIGGER t{number} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END",
    "UPDATE fewmark_migrations SET name = {value}",
    "INSERT INTO fewmark_migrations (name) VALUES ({value})",
    "DROP INDEX IF EXISTS measurements_by_case",
    "UPDATE measurements SET body = replace(body, '\"samples\"', {value})",
    "UPDATE measurements SET body = body || {value}",
    "UPDATE cases SET input_tokens = {value}",
    "PRAGMA user_version = 99",
)
LONG = "'" + "x" * 200_000 + "'"
VALUES = (
    *("'{'", "'[]'", "'{}'", "x'ff'", "CAST(x'ff' AS TEXT)", "9e999", "-9e999", "-1", "'\"x\"'", "''", "1e300", "0"),
    *("'null'", "NULL", "9223372036854775807", "'\\ud800'", "char(0)", "char(27) || '[2J'", "'1'", "'ok'", LONG),
)
WHOLE = (
    *("bytes", "cut short", "pages swapped", "empty", "header alone", "another's database", "text", "log of nonsense"),
    *("index of the log of nonsense", "pages of zeros", "doubled"),
)
VERBS = (
    ("show", "--store", "STORE"),
    ("screen", "--store", "STORE"),
    ("export", "OUT.csv", "--store", "STORE"),
    ("ledger", "--store", "STORE"),
    ("retract", "0", "--why", "x", "--store", "STORE"),
    ("import", "WHOLE", "--store", "STORE"),
    ("store", "check", "--store", "STORE"),
    ("store", "salvage", "OUT.db", "--store", "STORE"),
)


def read(path: Path) -> None:
    """What every verb reads of a store."""
    with open_store(path) as store:
        for use in (
            *(store.table, store.case_ids, store.annotations, store.deployments, store.withdrawn, store.environments),
            store.predictions,
        ):
            list(use())
        list(store.measurements())


def damaged(whole: bytes, path: Path, rng: random.Random) -> str:
    """Write a damaged store; how it was damaged."""
    content = bytearray(whole)
    if rng.random() < 0.5:
        way = rng.choice(WHOLE)
        _whole(content, way, path, rng)
        return way
    path.write_bytes(content)
    connection, done = sqlite3.connect(path), []
    connection.execute("PRAGMA foreign_keys=OFF")
    tables = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for _ in range(rng.choice([1, 1, 2, 4])):
        table = rng.choice(tables)
        columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")] or ["x"]
        words = {"table": table, "value": rng.choice(VALUES), "number": rng.randint(1, 20)}
        statement = rng.choice(STATEMENTS)
        if statement.startswith("UPDATE measurements SET {column}"):
            columns = [str(row[1]) for row in connection.execute("PRAGMA table_info(measurements)")]
        if not columns:
            continue
        words["column"] = rng.choice(columns)
        try:
            connection.execute(statement.format(**words))
        except sqlite3.Error:
            continue
        done.append(statement.format(**{**words, "value": str(words["value"])[:20], "number": "N"}))
    connection.commit()
    connection.close()
    return "; ".join(done)


def _whole(content: bytearray, way: str, path: Path, rng: random.Random) -> None:
    """Write content that is damaged in one of the ways that need no SQL."""
    page = 4096
    if way == "bytes":
        for _ in range(rng.choice([1, 2, 8, 64])):
            at, length = rng.randrange(len(content)), rng.choice([1, 16, 512, page])
            content[at : at + length] = rng.randbytes(min(length, len(content) - at))
    elif way == "cut short":
        del content[rng.randrange(len(content)) :]
    elif way == "pages swapped":
        one, two = (page * rng.randrange(1, len(content) // page) for _ in range(2))
        content[one : one + page], content[two : two + page] = content[two : two + page], content[one : one + page]
    elif way == "empty":
        content.clear()
    elif way == "header alone":
        del content[100:]
    elif way == "text":
        content[:] = b"this is no store\n" * 100
    elif way == "pages of zeros":
        at = page * rng.randrange(len(content) // page)
        content[at : at + page] = bytes(page)
    elif way == "doubled":
        content += bytes(content)
    path.write_bytes(content)
    if way == "another's database":
        path.unlink()
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE measurements (a, b)")
        connection.execute("INSERT INTO measurements VALUES (1, 2)")
        connection.commit()
        connection.close()
    if "of nonsense" in way:
        suffix = "-shm" if way.startswith("index") else "-wal"
        Path(f"{path}{suffix}").write_bytes(rng.randbytes(rng.choice([1, 32, 4096, 40_000])))


def damage(seed: int, seconds: float) -> Tally:
    """Pages, bytes, lengths, rows and tables damaged at random, and every verb on what is left."""
    rng, clock, tally = random.Random(seed), Clock(seconds), Tally("damaged store")
    with store_folder() as (folder, whole):
        while clock:
            one(rng.randrange(2**32), folder, whole, tally)
    tally.failed = [f"{text}   [--repeat stores:{text.split()[0]}]" for text in tally.failed]
    return tally


@contextlib.contextmanager
def store_folder() -> Iterator[tuple[Path, bytes]]:
    """A folder with a whole table, and the bytes of a store that holds everything that a store can."""
    with tempfile.TemporaryDirectory() as name, limits(), contextlib.redirect_stderr(io.StringIO()):
        folder, held = Path(name), measurements()
        write_table(from_measurements(held), folder / "t.csv")
        with open_store(folder / "whole.db") as store:
            store.add([replace(m, environment=FrozenMap({"host": "a", "n": n})) for n, m in enumerate(held)])
            store.add_predictions(
                [Prediction(m.case, "e2e_latency_s", 1.0, 0.5, 2.0, 0.9, "interpolated", model="m") for m in held[:5]]
            )
            ids = [m.measurement_id for m in store.measurements()]
            store.annotate([Annotation(ids[0], "retracted", "exclude", "why")])
            store.claim(held[3].case.case_id, "a run", 0)
        with contextlib.closing(sqlite3.connect(folder / "whole.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield folder, (folder / "whole.db").read_bytes()


def one(own: int, folder: Path, whole: bytes, tally: Tally) -> None:
    """The damage of a number: everything is read, checked and salvaged, and asked for by a verb."""
    rng = random.Random(own)
    path, new = folder / f"s{own}.db", folder / f"s{own}.new.db"
    way = damaged(whole, path, rng)
    tally.ways.add(way)
    before, words = tally.tried, rng.choice(VERBS)
    uses: list[tuple[str, Callable[[], object]]] = [
        ("read", lambda: read(path)),
        ("check", lambda: check_store(path)),
        ("salvage", lambda: rescue(path, new)),
        (" ".join(words), lambda: asked(words, path, folder)),
    ]
    for what, use in uses:
        with guarded(tally, f"{own} ({way}), {what}"):
            try:
                use()
            except FewmarkError as error:
                if len(str(error)) > 15_000:
                    raise AssertionError(f"a message of {len(str(error))} letters") from None
    tally.tried = before + 1
    for left in [*folder.glob(f"s{own}.*"), *folder.glob("out*")]:
        left.unlink(missing_ok=True)


def asked(words: tuple[str, ...], path: Path, folder: Path) -> None:
    """A command as it is typed: an answer or one message."""
    stands = {"STORE": str(path), "WHOLE": str(folder / "t.csv")}
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([stands.get(word, word.replace("OUT", str(folder / "out"))) for word in words])
    if code not in (0, 1, 2) or "Traceback" in err.getvalue() or "\x1b[2J" in out.getvalue() + err.getvalue():
        raise AssertionError(f"exit code {code}: {err.getvalue()[:500]}")


def repeat(words: list[str]) -> list[Tally]:
    """The damage of a number once more."""
    tally = Tally("damaged store")
    with store_folder() as (folder, whole):
        one(int(words[0]), folder, whole, tally)
    return [tally]


def rescue(path: Path, new: Path) -> None:
    with open_store(new) as into:
        salvage_store(path, into)
        list(into.measurements())


def power_cuts(seed: int, seconds: float) -> Tally:
    """A writer stopped at a random moment, its files copied as a machine without power would leave them.

    What was said to be saved is there. What was not yet synced is there, is cut off, or is nonsense.
    """
    rng, clock, tally = random.Random(seed), Clock(seconds), Tally("power cut at a random moment")
    while clock:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            command = [sys.executable, "-c", WRITER, str(folder / "s.db"), str(Path(__file__).parent)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
                assert writer.stdout is not None
                for number in range(CUTS):
                    lines = [writer.stdout.readline() for _ in range(rng.randint(1, 4))]
                    if not clock:
                        break
                    if not lines[-1]:
                        tally.fail(f"the writer ended with {writer.wait()}")
                        break
                    time.sleep(rng.uniform(0, 0.01))
                    saved, synced = map(int, lines[-1].split())
                    writer.send_signal(signal.SIGSTOP)
                    announce(f"power cut {number}, seed {seed}")
                    cut(folder, synced, rng)
                    writer.send_signal(signal.SIGCONT)
                    tally.tried += 1
                    try:
                        with open_store(folder / "copy.db") as store:
                            rows = {m.row for m in store.measurements()}
                        if missing := set(range(saved + 1)) - rows:
                            tally.fail(f"{saved + 1} were saved, {len(missing)} of them are not there")
                    except StoreError as error:
                        tally.fail(str(error))
                    for left in folder.glob("copy.db*"):
                        left.unlink(missing_ok=True)
                writer.kill()
    return tally


def cut(folder: Path, synced: int, rng: random.Random) -> None:
    """Copy the store without, or with nonsense in place of, what may not have reached the disk of its log."""
    for suffix in ("", "-wal"):
        if (folder / f"s.db{suffix}").exists():
            shutil.copyfile(folder / f"s.db{suffix}", folder / f"copy.db{suffix}")
    log = folder / "copy.db-wal"
    if log.exists() and (loose := log.stat().st_size - synced) > 0:
        content = bytearray(log.read_bytes())
        at = synced + rng.randrange(loose)
        content[at:] = rng.choice([b"", bytes(len(content) - at), rng.randbytes(len(content) - at), content[at:]])
        log.write_bytes(content)


def run(seed: int, seconds: float) -> list[Tally]:
    """Both: the damage takes the longer."""
    return [damage(seed, seconds * 0.75), power_cuts(seed, seconds * 0.25)]
