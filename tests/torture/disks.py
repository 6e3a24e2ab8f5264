"""Disks that fill at every point of writing: the old file stays, or the new one is whole; nothing is left beside it.

By faults put in place of system calls; by a largest size of a file (`RLIMIT_FSIZE`), which the kernel enforces on
everything, the database too; and on a small tmpfs, where one can be mounted."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from unittest import mock

from guard import announce, limits
from inputs import measurements
from tally import Clock, Tally

from fewmark.cli import main
from fewmark.core import StoreError
from fewmark.interop import from_measurements, write_table
from fewmark.store import open_store

OUTPUTS: Final = {
    "out.csv": ["export", "OUT", "--store", "STORE"],
    "out.parquet": ["export", "OUT", "--store", "STORE"],
    "found.json": ["screen", "--json", "OUT", "--store", "STORE"],
    "cases.jsonl": ["suites", "engines-tiny", "--write-cases", "OUT"],
    "worker.zip": ["engines", "--write-worker", "OUT"],
    "l.fewmark": ["fit", "--data", "TABLE", "--model", "loglog", "--no-prior", "--out", "OUT"],
}
MIB: Final = 2**20


class FillingDisk:
    """Lets so many calls that write through, then fails each with ENOSPC or EIO."""

    def __init__(self, left: int, number: int) -> None:
        self.left, self.number = left, number

    def wrap(self, call: object) -> object:
        def through(*arguments: object, **named: object) -> object:
            self.left -= 1
            if self.left < 0:
                raise OSError(self.number, os.strerror(self.number))
            return call(*arguments, **named)  # type: ignore[operator]

        return through


def run(seed: int, seconds: float) -> list[Tally]:
    """Each kind of disk for a third of the time."""
    with tempfile.TemporaryDirectory() as name, limits(), contextlib.redirect_stderr(io.StringIO()):
        folder = Path(name)
        with open_store(folder / "s.db") as store:
            store.add(measurements())
        write_table(from_measurements(measurements()), folder / "t.csv")
        for words in OUTPUTS.values():  # what is imported late would count among what is written
            said(words, folder, folder / "warm")
        return [
            faults(random.Random(seed), Clock(seconds / 3), folder),
            sizes(random.Random(seed), Clock(seconds / 3), folder),
            mounted(random.Random(seed), Clock(seconds / 3), folder),
        ]


def said(words: list[str], folder: Path, place: Path) -> tuple[int, str]:
    """The exit code of a command, and its message."""
    stands = {"OUT": str(place), "STORE": str(folder / "s.db"), "TABLE": str(folder / "t.csv")}
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([stands.get(word, word) for word in words])
    return code, err.getvalue()


def write(
    rng: random.Random,
    folder: Path,
    tally: Tally,
    what: str,
    full: Callable[[], contextlib.AbstractContextManager[object]],
) -> None:
    """One output, written over an old one while the disk fills."""
    file = rng.choice(list(OUTPUTS))
    place = folder / file
    place.write_bytes(b"old")
    place.chmod(0o640)
    tally.tried += 1
    tally.ways.add(f"{file}, {what}")
    announce(f"disk: {file}, {what}")
    code, text = 0, ""
    try:
        with full():
            code, text = said(OUTPUTS[file], folder, place)
    except Exception as error:
        tally.fault(error, f"{file}, {what}")
        return
    content = place.read_bytes()
    if code not in (0, 1, 2) or "Traceback" in text:
        tally.fail(f"{file}, {what}: exit code {code}: {text[-300:]}")
    if code == 2 and (content != b"old" or place.stat().st_mode & 0o777 != 0o640):
        tally.fail(f"{file}, {what}: an error, and the old file is not as it was")
    if code == 0 and content == b"old":
        tally.fail(f"{file}, {what}: no error, and no new file")
    if left := [path.name for path in folder.iterdir() if path.name.startswith(".fewmark-")]:
        tally.fail(f"{file}, {what}: {left} was left")
        for item in left:
            (folder / item).unlink()


def faults(rng: random.Random, clock: Clock, folder: Path) -> Tally:
    """Every verb that writes, with a disk that fills after a random number of calls."""
    tally = Tally("disk that fills: calls that fail")

    while clock:
        left, number = rng.randint(0, 4), rng.choice([errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
        disk = FillingDisk(left, number)

        @contextlib.contextmanager
        def full(disk: FillingDisk = disk) -> Iterator[None]:
            with contextlib.ExitStack() as stack:
                for holder, call in ((os, "fsync"), (os, "replace"), (Path, "write_bytes"), (Path, "replace")):
                    stack.enter_context(mock.patch.object(holder, call, disk.wrap(getattr(holder, call))))
                stack.enter_context(mock.patch.object(tempfile, "mkstemp", disk.wrap(tempfile.mkstemp)))
                yield

        write(rng, folder, tally, f"{os.strerror(number)} after {left} calls", full)
    return tally


def sizes(rng: random.Random, clock: Clock, folder: Path) -> Tally:
    """Files that cannot grow beyond a size: outputs, and the store itself."""
    tally = Tally("disk that fills: no file may grow")
    while clock:
        most = rng.choice([0, 1, 512, 4096, rng.randrange(200_000)])

        @contextlib.contextmanager
        def full(most: int = most) -> Iterator[None]:
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

        if rng.random() < 0.5:
            write(rng, folder, tally, f"{most} bytes", full)
        else:
            into_store(folder / "full.db", folder, tally, f"{most} bytes", full)
    return tally


def into_store(
    path: Path, folder: Path, tally: Tally, what: str, full: Callable[[], contextlib.AbstractContextManager[object]]
) -> None:
    """An import into a store while the disk fills: what was there stays, and the next import goes on."""
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    held = measurements()
    with open_store(path) as store:
        store.add(held[:3])
    tally.tried += 1
    tally.ways.add(f"the store, {what}")
    announce(f"disk: the store, {what}")
    try:
        with full():
            code, text = said(["import", "TABLE", "--store", str(path)], folder, path)
        if code not in (0, 2) or "Traceback" in text:
            tally.fail(f"the store, {what}: exit code {code}: {text[-300:]}")
        with open_store(path) as store:
            count = len(list(store.measurements()))
        if count < 3 or (code == 0 and count < 23):
            tally.fail(f"the store, {what}: exit code {code}, and {count} measurements")
        code, text = said(["import", "TABLE", "--store", str(path)], folder, path)
        with open_store(path) as store:
            count = len(list(store.measurements()))
        if code or count != 23:
            tally.fail(f"the store, {what}: the next import ends with {code} and {count} of 23: {text[-200:]}")
    except StoreError as error:
        tally.fail(f"the store, {what}: cannot be read any more: {error}")
    except Exception as error:
        tally.fault(error, f"the store, {what}")


def mounted(rng: random.Random, clock: Clock, folder: Path) -> Tally:
    """A file system of 1 MiB, filled but for some bytes."""
    tally, place = Tally("disk that fills: a small file system"), folder / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={MIB}", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        tally.skipped = f"no file system can be mounted: {error}"
        return tally
    if done.returncode:
        tally.skipped = f"no file system can be mounted: {done.stderr.strip()}"
        return tally
    try:
        while clock:
            for path in place.iterdir():
                path.unlink()
            free = rng.choice([0, 4096, 8192, rng.randrange(MIB // 2)])

            @contextlib.contextmanager
            def full(free: int = free) -> Iterator[None]:
                with (place / "ballast").open("wb") as file, contextlib.suppress(OSError):
                    left = os.statvfs(place)
                    file.write(bytes(max(left.f_bavail * left.f_frsize - free, 0)))
                try:
                    yield
                finally:
                    (place / "ballast").unlink(missing_ok=True)

            if rng.random() < 0.5:
                for name in ("s.db", "t.csv"):
                    (place / name).write_bytes((folder / name).read_bytes())
                write(rng, place, tally, f"{free // 4096} pages free", full)
            else:
                into_store(place / "full.db", folder, tally, f"{free // 4096} pages free", full)
    finally:
        subprocess.run(["umount", str(place)], check=False)
    return tally
