"""`fewmark engines`: which engines there are, whether they run here, and how to get the rest."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fewmark.core import InputError
from fewmark.engines import engine_names, probe
from fewmark.engines.archive import write_archive


def list_engines() -> list[dict[str, Any]]:
    """Every engine known to this interpreter: name, available, version, reason and install where it is not."""
    return [{"name": name, **asdict(probe(name))} for name in engine_names()]


def write_worker(path: Path) -> Path:
    """Write the worker as one zip, for hosts that have the engine but not fewmark. Raises `InputError`."""
    try:
        return write_archive(path)
    except OSError as error:
        raise InputError("cannot write the worker", got=f"{path}: {error.strerror}") from None
