"""Tar, zip and compressed files unpacked within bounds, whatever they claim about themselves."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from fewmark.core import InputError

MAX_DEPTH: Final = 2  # archives within archives
MAX_MEMBERS: Final = 100_000
MAX_BYTES: Final = 8 << 30  # of all members together
MAX_RATIO: Final = 300  # unpacked to packed; results of benchmarks come to a tenth of that
FREE_BYTES: Final = 64 << 20  # what may be unpacked at any ratio
_CHUNK: Final = 1 << 20
_SPREADSHEET: Final = "[Content_Types].xml"
_GZIP: Final = b"\x1f\x8b"
_BZIP2: Final = b"BZh"
_XZ: Final = b"\xfd7zXZ\x00"
_DAMAGED: Final = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile),
    *(NotImplementedError, UnicodeError, ValueError, RuntimeError, OverflowError),
)


class SpreadsheetError(InputError):
    """A workbook, which is a zip archive and holds no result file."""


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive or a compressed file, by its content."""
    with path.open("rb") as stream:
        head = stream.read(512)
    return head.startswith((b"PK\x03\x04", _GZIP, _BZIP2, _XZ)) or _is_tar(head)


def unpack(path: Path, folder: Path, shown: str) -> tuple[list[str], dict[str, str]]:
    """Write an archive's regular files into a new folder; their names, and those refused with the reason.

    Raises
    ------
    InputError
        If the archive is damaged, encrypted, a spreadsheet (`SpreadsheetError`), or beyond the bounds; or the disk is
        full.
    """
    budget = _Budget(shown, max(FREE_BYTES, MAX_RATIO * path.stat().st_size))
    members: list[str] = []
    refused: dict[str, str] = {}
    try:
        folder.mkdir(parents=True)
        for name, stream, reason in _members(path, shown):
            budget.count()
            target = _target(folder, name)
            if stream is None or target is None or target.exists():
                refused[name[:200]] = reason or (
                    "its name leads out of the archive" if target is None else "there twice"
                )
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                while chunk := stream.read(_CHUNK):
                    budget.spend(len(chunk))
                    out.write(chunk)
            members.append(name)
    except _DAMAGED as error:
        if isinstance(error, InputError):
            raise
        what = "is encrypted" if "encrypted" in str(error) or "password" in str(error) else "is damaged"
        raise InputError(f"the archive {what}", got=f"{shown}: {error}", hint="nothing of it was imported") from None
    except OSError as error:
        raise InputError("the archive cannot be unpacked", got=f"{shown}: {error.strerror or error}") from None
    return members, refused


class _Budget:
    """What may still be unpacked of an archive."""

    def __init__(self, shown: str, n_bytes: int) -> None:
        self.shown = shown
        self.left = min(MAX_BYTES, n_bytes)
        self.members = MAX_MEMBERS

    def count(self) -> None:
        """One more member. Raises `InputError` beyond the bound."""
        self.members -= 1
        if self.members < 0:
            raise InputError("the archive has too many members", got=self.shown, hint=f"at most {MAX_MEMBERS}")

    def spend(self, n_bytes: int) -> None:
        """So many more bytes. Raises `InputError` beyond the bound."""
        self.left -= n_bytes
        if self.left < 0:
            raise InputError(
                "the archive unpacks to far more than results of benchmarks do",
                got=self.shown,
                hint=f"at most {MAX_RATIO} times its size, and {MAX_BYTES >> 30} GiB",
            )


def _members(path: Path, shown: str) -> Iterator[tuple[str, IO[bytes] | None, str]]:
    """Each member's name and stream; without a stream, the reason why it is none to read. Folders are left out."""
    with path.open("rb") as raw:
        head = raw.read(512)
    if head.startswith(b"PK\x03\x04"):
        yield from _of_zip(path, shown)
        return
    if not _is_tar(head):
        with _decompressed(path, head) as unpacked:
            if not _is_tar(unpacked.read(512)):
                unpacked.seek(0)
                yield path.stem or "content", unpacked, ""
                return
    # Streamed: the table of contents of a hostile archive is never in memory as a whole.
    with tarfile.open(path, "r|*") as tar:
        for info in tar:
            if not info.isdir():
                stream = tar.extractfile(info) if info.isreg() else None
                yield info.name, stream, "" if stream is not None else "a link or a device"
            tar.members = []  # type: ignore[attr-defined]


def _of_zip(path: Path, shown: str) -> Iterator[tuple[str, IO[bytes] | None, str]]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if any(info.filename == _SPREADSHEET for info in infos[:50]):
            raise SpreadsheetError("a spreadsheet is not read", got=shown, hint="save it as CSV")
        for info in infos:
            kind = info.external_attr >> 16 & 0o170000
            if info.is_dir():
                continue
            if kind not in (0, 0o100000):
                yield info.filename, None, "a link or a device"
                continue
            with archive.open(info) as stream:
                yield info.filename, stream, ""


def _decompressed(path: Path, head: bytes) -> IO[bytes]:
    if head.startswith(_GZIP):
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return bz2.open(path, "rb") if head.startswith(_BZIP2) else lzma.open(path, "rb")


def _is_tar(head: bytes) -> bool:
    if len(head) < 512:
        return False
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return head[257:262] == b"ustar" or head[:100].rstrip(b"\0").isascii()


def _target(folder: Path, name: str) -> Path | None:
    """Where a member goes; None if its name would lead anywhere else."""
    parts = PurePosixPath(name).parts
    odd = not parts or name.startswith("/") or "\\" in name or "\0" in name or ":" in parts[0]
    if (
        odd
        or any(part in ("..", ".") or len(part.encode("utf-8", "replace")) > 200 for part in parts)
        or len(parts) > 50
    ):
        return None
    return folder.joinpath(*parts)
