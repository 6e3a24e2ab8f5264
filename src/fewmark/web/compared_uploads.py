"""Files that were uploaded to be compared: kept for a while under a key of their content, and never stored."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

from fewmark.core.errors import InputError
from fewmark.web.intake import safe_name, uploaded
from fewmark.web.settings import Settings
from fewmark.web.state import state_folder

KEY: Final = re.compile(r"[0-9a-f]{20}")
MOST_KEPT: Final = 40
CHUNK: Final = 1 << 20


class ComparedUploads:
    """The uploads of one server that are sides of comparisons."""

    def __init__(self, settings: Settings) -> None:
        self.folder = state_folder(settings.store or settings.data or "") / "compared"

    def keep(self, files: Sequence[tuple[str, BinaryIO]]) -> str:
        """Keep files by their names and contents; returns their key. The oldest uploads make room."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        arriving = self.folder / f"arriving-{secrets.token_hex(6)}"
        arriving.mkdir(mode=0o700)
        digest = blake2b(digest_size=10)
        try:
            for number, (name, content) in enumerate(files):
                place = arriving / str(number)
                place.mkdir()
                digest.update(f"{number} {safe_name(name, number)}\0".encode())
                with (place / safe_name(name, number)).open("wb") as stream:
                    while chunk := content.read(CHUNK):
                        digest.update(chunk)
                        stream.write(chunk)
            key = digest.hexdigest()
            with suppress(OSError):  # it is there
                arriving.rename(self.folder / key)
            os.utime(self.folder / key)
        finally:
            shutil.rmtree(arriving, ignore_errors=True)
        kept = sorted((path for path in self.folder.iterdir() if KEY.fullmatch(path.name)), key=_age)
        for path in kept[:-MOST_KEPT]:
            shutil.rmtree(path, ignore_errors=True)
        return key

    def paths(self, key: str) -> list[Path]:
        """The files behind a key. Raises `InputError` where they are gone."""
        paths = uploaded(self.folder / key) if KEY.fullmatch(key) else []
        if not paths:
            raise InputError("that upload is gone", got=key, hint="upload its files again")
        return paths

    def source(self, key: str) -> Path:
        """What `fewmark compare` would be given: the one file, or the folder of several. Raises as `paths`."""
        paths = self.paths(key)
        return paths[0] if len(paths) == 1 else self.folder / key

    def label(self, key: str) -> str:
        """The files' names. Raises as `paths`."""
        names = [path.name for path in self.paths(key)]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
