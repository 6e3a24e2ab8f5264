"""What a worker needs, and nothing else: the sources of `fewmark.core`, `fewmark.load` and `fewmark.engines`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from fewmark.core.files import new_file

PACKAGES = ("core", "load", "engines")
MAIN = "import sys\nfrom fewmark.engines.worker.program import main\n\nsys.exit(main())\n"


def boot_line(lease_s: float | None = None) -> bytes:
    """The first line that a worker started with `fewmark.engines.worker.boot.COMMAND` reads.

    `lease_s` is how long the parent may be silent before the worker ends by itself.
    """
    sources = {
        path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): (path.endswith("/__init__.py"), text)
        for path, text in worker_files()
    }
    message = {"boot": sources["fewmark.engines.worker.boot"][1], "sources": sources, "lease_s": lease_s}
    return json.dumps(message).encode() + b"\n"


def write_archive(path: Path) -> Path:
    """Write a zip that any Python from 3.11 on runs as the worker program: ``python worker.zip --cases … --out …``."""
    with new_file(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (*worker_files(), ("__main__.py", MAIN)):
            # A fixed date: the same sources give the same bytes.
            archive.writestr(zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0)), text)
    return path


def worker_files() -> Iterator[tuple[str, str]]:
    """The path inside the archive and the text of every source file that a worker needs."""
    root = resources.files("fewmark")
    yield "fewmark/__init__.py", (root / "__init__.py").read_text(encoding="utf-8")
    for package in PACKAGES:
        yield from _sources(root / package, f"fewmark/{package}")


def _sources(folder: Traversable, prefix: str) -> Iterator[tuple[str, str]]:
    for item in sorted(folder.iterdir(), key=lambda found: found.name):
        if item.is_dir():
            yield from _sources(item, f"{prefix}/{item.name}")
        elif item.name.endswith(".py"):
            yield f"{prefix}/{item.name}", item.read_text(encoding="utf-8")
