"""Files read within bounds, and files written whole or not at all.

A file that is written appears beside its place and is renamed over it, so that a kill or a full disk leaves either the
old file or the new one. It keeps the old one's permissions; a link is followed; a device or a pipe is written to, and
never replaced.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fewmark.core.errors import InputError

MIB: Final = 2**20
MAX_TABLE_BYTES: Final = 2048 * MIB  # a result file as users have them, with room to spare
MAX_DOCUMENT_BYTES: Final = 256 * MIB


def read_bytes(path: str | Path, *, max_bytes: int = MAX_TABLE_BYTES, what: str = "the file") -> bytes:
    """The content of a regular file of at most `max_bytes`.

    Raises
    ------
    InputError
        If there is none, it is a folder, a pipe or a device, is larger, or cannot be read.
    """
    path = Path(path)
    try:
        require_regular(path, max_bytes=max_bytes, what=what)
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)  # it may grow while it is read
    except OSError as error:
        raise InputError(f"{what} cannot be read", got=f"{path}: {error.strerror or error}") from None
    if len(content) > max_bytes:
        raise _too_large(path, max_bytes, what)
    return content


def read_text(path: str | Path, *, max_bytes: int = MAX_DOCUMENT_BYTES, what: str = "the file") -> str:
    """The text of a regular UTF-8 file of at most `max_bytes`. Raises `InputError` as `read_bytes`, or if none."""
    try:
        return read_bytes(path, max_bytes=max_bytes, what=what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{what} must be UTF-8 text", got=f"{path}: {error.reason} at byte {error.start}") from None


def require_regular(path: str | Path, *, max_bytes: int | None = None, what: str = "the file") -> None:
    """Refuse what is no regular file of at most `max_bytes`: reading a pipe or a device may never end.

    Raises
    ------
    InputError
        If there is none, it is something else, it is larger, or its name is none that the system takes.
    """
    path = Path(path)
    try:
        found = path.stat()
    except FileNotFoundError:
        raise InputError("there is no such file", got=str(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{what} cannot be read", got=f"{path}: {reason}") from None
    if not stat.S_ISREG(found.st_mode):
        hint = "name the file itself, not its folder" if stat.S_ISDIR(found.st_mode) else "copy it to a file first"
        raise InputError(f"{what} must be a file", got=f"{path}, {_kind(found.st_mode)}", hint=hint)
    if max_bytes is not None and found.st_size > max_bytes:
        raise _too_large(path, max_bytes, what)


def write_file(path: str | Path, content: str | bytes, *, private: bool = False) -> None:
    """Write a whole file, or leave what was there. Text is UTF-8; `private` files are readable by their owner alone.

    Raises
    ------
    InputError
        If it cannot be written; what was there is as it was.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with new_file(path, private=private) as beside:
        beside.write_bytes(data)


@contextlib.contextmanager
def new_file(path: str | Path, *, private: bool = False) -> Iterator[Path]:
    """A path to write to, with the suffix of `path`; when the block ends without an error, it takes that one's place.

    Raises
    ------
    InputError
        If it cannot be written; what was there is as it was.
    """
    path = Path(path)
    try:
        place = path.resolve() if path.is_symlink() else path
        before = _mode(place)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise _unwritable(path, error) from None
    if before is not None and stat.S_ISDIR(before):
        raise InputError("the file cannot be written", got=f"{path}: is a folder", hint="name a file in it")
    if before is not None and not stat.S_ISREG(before):
        with _through(path, place) as beside:
            yield beside
        return
    try:
        # A short name of its own: the file's may be as long as a name can be.
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=".fewmark-", suffix=f".part{place.suffix[:16]}")
        os.close(handle)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from None
    beside = Path(name)
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(0o600 if private else stat.S_IMODE(before) if before is not None else 0o666 & ~_umask())
        beside.replace(place)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise _unwritable(path, error) from None
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _through(path: Path, place: Path) -> Iterator[Path]:
    """For what is no file, and must not become one: the content is made elsewhere, then written to it."""
    with tempfile.TemporaryDirectory(prefix="fewmark-") as folder:
        beside = Path(folder) / f"content{path.suffix}"
        try:
            beside.touch()
            yield beside
            with place.open("wb") as file:
                file.write(beside.read_bytes())
        except OSError as error:
            raise _unwritable(path, error) from None


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(mode)), "a device")


def _too_large(path: Path, max_bytes: int, what: str) -> InputError:
    return InputError(f"{what} is too large: at most {max_bytes:,} bytes are read", got=str(path))


def _unwritable(path: Path, error: BaseException) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError("the file cannot be written", got=f"{path}: {reason}", hint="what was there is as it was")
