"""A worker's temporary files in one folder, which whoever outlives the worker removes.

The folder is made where temporary files go, and `TMPDIR` leads there for the worker and all that it starts. It is held
by a lock for as long as anybody of the worker lives; one that nobody holds is left of a worker whose keeper was killed
as well, and is removed when the next one starts. Folders that must lie elsewhere are listed in it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

VARIABLE: Final = "FEWMARK_SCRATCH"
PREFIX: Final = "fewmark-worker-"
OWN: Final = "fewmark-"  # how the name of every folder begins that may be removed
LOCK: Final = "lock"
ELSEWHERE: Final = "elsewhere"
MAX_AGE_S: Final = 24 * 3600.0  # of a folder without a lock: its worker was killed in the instant of making it


def make_scratch() -> Path | None:
    """A new folder, held until this process and those forked from it end; None where none can be made."""
    remove_stale()
    try:
        import fcntl

        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        descriptor = os.open(folder / "new", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # before it has the name that others look for
        (folder / "new").rename(folder / LOCK)
    except (ImportError, OSError):
        return None
    return folder


def enter_scratch(folder: Path) -> None:
    """Let temporary files of this process, and of those that it starts, go there."""
    before = tempfile.gettempdir()
    with contextlib.suppress(Exception):  # a user without a name
        # Caches that are meant to outlive a process, and sockets whose paths must be short, stay where they were.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(before) / f"torchinductor_{getpass.getuser()}"))
    os.environ.setdefault("RAY_TMPDIR", before)
    os.environ[VARIABLE] = os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None


def temporary_folder(kind: str, parent: Path | None = None) -> Path:
    """A new folder for an engine; in a worker, it goes when the worker does, however that ends. Raises `OSError`."""
    made = Path(tempfile.mkdtemp(prefix=f"{OWN}{kind}-", dir=parent))
    if parent is not None and (scratch := os.environ.get(VARIABLE)):
        with contextlib.suppress(OSError), (Path(scratch) / ELSEWHERE).open("a", encoding="utf-8") as listed:
            listed.write(f"{made.absolute()}\n")
    return made


def remove_scratch(folder: Path) -> None:
    """Remove a worker's folder and what it lists elsewhere."""
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / ELSEWHERE).read_text(encoding="utf-8").splitlines():
            if Path(line).name.startswith(OWN):
                shutil.rmtree(line, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_if_free(folder: Path) -> None:
    """Remove a worker's folder, unless somebody holds it or it is not ours."""
    if folder.name.startswith(PREFIX) and _is_ours(folder) and _is_free(folder):
        remove_scratch(folder)


def remove_stale() -> None:
    """Remove the folders of workers that are gone with their keepers."""
    with contextlib.suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            remove_if_free(folder)


def _is_ours(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _is_free(folder: Path) -> bool:
    try:
        import fcntl

        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        try:
            return time.time() - folder.stat().st_mtime > MAX_AGE_S
        except OSError:
            return False
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
