"""Disks that fill at every point of writing: the old file stays, or the new one is whole; nothing is left beside it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import tempfile
from pathlib import Path
from unittest import mock

from inputs import measurements
from tally import Clock, Tally

from fewmark.cli import main
from fewmark.store import open_store


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
    """Every verb that writes, with a disk that fills after a random number of calls."""
    rng, clock, tally = random.Random(seed), Clock(seconds), Tally("disk that fills while a file is written")
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        folder = Path(name)
        with open_store(folder / "s.db") as store:
            store.add(measurements())
        outputs = {
            "out.csv": ["export", "OUT"],
            "out.parquet": ["export", "OUT"],
            "found.json": ["screen", "--json", "OUT"],
            "cases.jsonl": ["suites", "engines-tiny", "--write-cases", "OUT"],
            "worker.zip": ["engines", "--write-worker", "OUT"],
        }
        while clock:
            file = rng.choice(list(outputs))
            place = folder / file
            place.write_bytes(b"old")
            arguments = [str(place) if part == "OUT" else part for part in outputs[file]]
            if arguments[0] in ("export", "screen"):
                arguments += ["--store", str(folder / "s.db")]
            disk = FillingDisk(rng.randint(0, 4), rng.choice([errno.ENOSPC, errno.EIO, errno.EDQUOT]))
            patches = [mock.patch.object(os, call, disk.wrap(getattr(os, call))) for call in ("fsync", "replace")]
            patches += [
                mock.patch.object(Path, call, disk.wrap(getattr(Path, call))) for call in ("write_bytes", "replace")
            ]
            patches += [mock.patch.object(tempfile, "mkstemp", disk.wrap(tempfile.mkstemp))]
            tally.tried += 1
            code: object = None
            try:
                for patch in patches:
                    patch.start()
                code = main(arguments)
            except (Exception, SystemExit) as error:
                tally.fault(error, f"{arguments[0]} after {disk.left}")
            finally:
                for patch in patches:
                    patch.stop()
            content = place.read_bytes()
            if code == 2 and content != b"old":
                tally.fail(f"{file}: an error, and the old file is gone")
            if code == 0 and content == b"old":
                tally.fail(f"{file}: no error, and no new file")
            if left := [path.name for path in folder.iterdir() if path.name.startswith(".fewmark-")]:
                tally.fail(f"{file}: {left} was left")
                for item in left:
                    (folder / item).unlink()
    return [tally]
