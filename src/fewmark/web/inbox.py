"""Uploads on their way into the store: on disk before they are read, so that a server that is killed loses none.

An upload that arrived whole has a folder of its own, locked by whoever imports it. What a killed server left is
imported when the next one starts; rows that were stored already are not stored twice.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fewmark.core.errors import FewmarkError

ARRIVING: Final = "arriving-"
WHOLE: Final = "upload-"


@contextmanager
def upload_folder(parent: Path, fill: Callable[[Path], None]) -> Iterator[Path]:
    """A folder that `fill` has put an upload in, to be imported in the context; it is removed after that."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_hex(6)
    arriving, whole = parent / f"{ARRIVING}{key}", parent / f"{WHOLE}{key}"
    arriving.mkdir(mode=0o700)
    with _locked(arriving):
        try:
            fill(arriving)
            arriving.rename(whole)
            yield whole
        finally:
            for folder in (arriving, whole):
                shutil.rmtree(folder, ignore_errors=True)


def left_uploads(parent: Path, take: Callable[[Path], int]) -> list[str]:
    """Import what a killed server left, by `take`, which says how many measurements were new; what became of each."""
    told = []
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        try:
            with _locked(folder):
                if folder.name.startswith(WHOLE):
                    told.append(_taken(folder, take))
                shutil.rmtree(folder, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):
            continue  # another server is at it, or was
    return told


def _taken(folder: Path, take: Callable[[Path], int]) -> str:
    names = ", ".join(sorted(path.name for path in folder.glob("*/*"))[:5])
    try:
        n_added = take(folder)
    except FewmarkError as error:
        return f"An upload that a stop of the server cut off ({names}) could not be imported: {error.what}."
    return f"An upload that a stop of the server cut off ({names}) was imported: {n_added} new measurements."


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder itself is the lock: it moves with it, and ends with it. Raises `BlockingIOError` where it is held."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
