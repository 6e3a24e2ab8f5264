"""What a user names to import (files, folders, globs, tar and zip archives) as single files.

Archives are told by their content and unpacked into a folder of the caller's, within bounds: nothing outside that
folder is written, no link or device is followed or made, and neither the number of members, nor what they unpack to,
nor how deep archives lie in archives is left to the archive.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from fewmark.core import InputError
from fewmark.interop.archives import MAX_DEPTH, SpreadsheetError, is_archive, unpack

MAX_FILES: Final = 100_000
_PASSED_OVER: Final = frozenset(("__pycache__", "node_modules"))


@dataclass(frozen=True)
class SourceFile:
    """One file to read: where it lies, how the user knows it, and whether it was found rather than named."""

    path: Path
    shown: str
    found: bool = False


@dataclass
class Gathered:
    """The files to read, and what was passed over with the reason; `damaged` are those of them that hold results."""

    files: list[SourceFile] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    def add(self, file: SourceFile) -> None:
        """Add a file. Raises `InputError` if there are too many."""
        if len(self.files) >= MAX_FILES:
            raise InputError("too many files at once", got=f"more than {MAX_FILES}", hint="import them in parts")
        self.files.append(file)


def gather(names: Sequence[str | Path], folder: Path) -> Gathered:
    """The files behind what was named, each once, in the order named and within a folder by name.

    Parameters
    ----------
    names : paths of files, folders or archives, or globs (``runs/**/*.json``)
    folder : an empty folder for what archives hold; the caller removes it

    Raises
    ------
    InputError
        If something named is not there or cannot be read, an archive is damaged or beyond the bounds, or there are too
        many files.
    """
    out, seen = Gathered(), set[str]()
    for name in names:
        for path in _matches(str(name)):
            if path.is_dir():
                for file in _walk(path, out):
                    _add(out, seen, SourceFile(file, str(file), found=True), folder)
            else:
                _add(out, seen, SourceFile(path, str(path)), folder)
    return out


def _matches(name: str) -> list[Path]:
    path = Path(name)
    try:
        there = path.exists()
    except (OSError, ValueError):
        there = False
    if there:
        return [path]
    if any(mark in name for mark in "*?["):
        found = sorted(glob.iglob(name, recursive=True))  # noqa: PTH207  a path of the user's, relative or not
        if found:
            return [Path(item) for item in found]
        raise InputError("no file matches", got=name)
    raise InputError("there is no such file", got=name)


def _walk(folder: Path, out: Gathered) -> Iterator[Path]:
    """The regular files under a folder by name, without hidden ones; links to folders are not followed."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _PASSED_OVER)
        for name in sorted(files):
            path = Path(root) / name
            if name.startswith("."):
                continue
            if path.is_file():
                yield path
            else:
                out.passed_over[str(path)] = "no regular file"


def _add(out: Gathered, seen: set[str], file: SourceFile, folder: Path, depth: int = 0) -> None:
    key = os.path.realpath(file.path)
    if key in seen:
        return
    seen.add(key)
    try:
        mode = file.path.stat().st_mode
        if not stat.S_ISREG(mode):
            if not file.found:
                raise InputError("only a regular file can be imported", got=file.shown)
            out.passed_over[file.shown] = "no regular file"
            return
        archive = is_archive(file.path)
    except OSError as error:
        raise InputError("the file cannot be read", got=f"{file.shown}: {error.strerror or error}") from None
    if not archive:
        out.add(file)
        return
    if depth >= MAX_DEPTH:
        out.passed_over[file.shown] = f"an archive more than {MAX_DEPTH} archives deep"
        return
    inside = folder / f"{len(seen)}"
    try:
        members, refused = unpack(file.path, inside, file.shown)
    except SpreadsheetError as error:
        if not file.found:
            raise
        out.passed_over[file.shown] = f"{error.what}: {error.hint}"  # tools leave summaries beside their results
        return
    out.passed_over |= {f"{file.shown}/{name}": reason for name, reason in refused.items()}
    for member in members:
        parts = PurePosixPath(member).parts
        if not any(part.startswith(".") or part in _PASSED_OVER or part == "__MACOSX" for part in parts):
            inner = SourceFile(inside / member, f"{file.shown}/{member}", found=True)
            _add(out, seen, inner, folder, depth + 1)
