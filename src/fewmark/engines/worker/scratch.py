"""A worker's temporary files in one folder, which whoever outlives the worker removes.

The folder is made where temporary files go, and `TMPDIR` leads there for the worker and all that it starts. It is held
by a lock on the folder itself for as long as the worker or its keeper lives; one that nobody holds is left of a worker
whose keeper was killed as well. Whoever finds it, the run itself or the next worker, ends the processes that have
inherited its name, and removes it. Folders that must lie elsewhere are listed in it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

VARIABLE: Final = "FEWMARK_SCRATCH"
PREFIX: Final = "fewmark-worker-"
OWN: Final = "fewmark-"  # how the name of every folder begins that may be removed
ELSEWHERE: Final = "elsewhere"
TRIES: Final = 100


def make_scratch() -> Path | None:
    """A new folder, held until this process and those forked from it end; None where none can be made."""
    remove_stale()
    folder: Path | None = None
    try:
        import fcntl

        for _ in range(TRIES):
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            with contextlib.suppress(FileNotFoundError):  # another has removed it before it was held
                descriptor = os.open(folder, os.O_RDONLY)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(descriptor), folder.stat()):
                    return folder
                os.close(descriptor)
    except (ImportError, OSError):
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return None


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
    """Remove a worker's folder, and end what the worker has started, unless somebody holds it or it is not ours."""
    if not folder.name.startswith(PREFIX) or not _is_ours(folder):
        return
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except (ImportError, OSError):
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        end_processes_of(folder)
        remove_scratch(folder)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def remove_stale() -> None:
    """Remove what workers have left that are gone with their keepers."""
    with contextlib.suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            remove_if_free(folder)


def end_processes_of(folder: Path) -> None:
    """End every process that has inherited a worker's folder, also in a session of its own (on Linux)."""
    mark = os.fsencode(f"{VARIABLE}={folder}")
    for _ in range(TRIES):  # what one of them starts meanwhile
        found = False
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # gone, or of another user
                if mark in (entry / "environ").read_bytes().split(b"\0") and int(entry.name) != os.getpid():
                    os.kill(int(entry.name), signal.SIGKILL)
                    found = True
        if not found:
            return
        time.sleep(0.01)


def _is_ours(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
