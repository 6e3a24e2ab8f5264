"""Fitted models kept between processes, so that a second question to the same data needs no second fit.

A folder holds one file a model, named by a digest of all that the fit depends on: the cells and their values, the
model's name and parameters, the files of facts, this package's code, and the versions of the libraries that calculate.
Another table, file of facts or version is another name, so that nothing stale is ever found. The files are those of
`fewmark.models.persistence`: data, never code. What answering has worked out goes in beside the model.

Files are written whole or not at all, any number of processes may share a folder, and a file that cannot be read is as
good as none. The least recently used go first when the folder exceeds `MAX_BYTES`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from functools import lru_cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

import fewmark
from fewmark.core.errors import ModelError
from fewmark.facts.facts import user_files
from fewmark.models.base import Model
from fewmark.models.persistence import load_with_extras, save_model
from fewmark.tables.arrays import FloatArray

VARIABLE: Final = "FEWMARK_CACHE"
OFF: Final = ("", "0", "off", "none")
MAX_BYTES: Final = 256 << 20
MIN_CELLS: Final = 200  # fewer are fitted anew as fast as they are found
SUFFIX: Final = ".fitted"
_CODE: Final = ("core", "facts", "models", "tables")  # the sub-packages that a fit runs through


def cache_folder() -> Path | None:
    """The folder of fitted models: `$FEWMARK_CACHE`, by default under the user's cache folder; None where it is off."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return None if named.strip().lower() in OFF else Path(named)
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # no home
        return (Path(base) if base else Path.home() / ".cache") / "fewmark" / "models"
    return None


class FittedModels:
    """The models fitted before; one object serves one verb.

    Parameters
    ----------
    folder : where they are kept; None: nowhere, every fit is made
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._found: list[tuple[Model, Path, int]] = []

    def fit(self, model: Model, X: pd.DataFrame, y: FloatArray) -> Model:
        """The model fitted on these cells, found or made. Raises as `Model.fit`."""
        if self.folder is None or len(X) < MIN_CELLS or not model.is_cacheable:
            return model.fit(X, y)
        path = self.folder / f"{model_key(model, X, y)}{SUFFIX}"
        found = _load(path)
        if found is None:
            found, known = model.fit(X, y), -1
        else:
            known = found.n_worked_out()
        self._found.append((found, path, known))
        return found

    def keep(self) -> None:
        """Write what was fitted, and what has worked out more than when it was found; called once all is answered."""
        for model, path, known in self._found:
            if model.is_cacheable and model.n_worked_out() > known:
                # a full or read-only disk costs the next question its time and nothing else
                with contextlib.suppress(OSError, ModelError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    save_model(model, path, extras=model.worked_out(), compress=False)
                    _prune(path.parent)
        self._found = []


def _load(path: Path) -> Model | None:
    if not path.is_file():
        return None
    try:
        model, extras = load_with_extras(path)
        model.recall(extras)
        os.utime(path)
    except (ModelError, OSError, KeyError, IndexError, TypeError, ValueError, AttributeError):
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    return model


def _prune(folder: Path) -> None:
    """Remove the least recently used until the folder is within its size; others may remove the same."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            about = path.stat()
            found.append((about.st_mtime, about.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= MAX_BYTES:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


def model_key(model: Model, X: pd.DataFrame, y: FloatArray) -> str:
    """A digest of all that a fit depends on."""
    digest = blake2b(digest_size=20)
    about: list[Any] = [type(model).__module__, type(model).__qualname__, sorted(model.get_params().items()), _code()]
    digest.update(repr(about).encode())
    for name in user_files():
        with contextlib.suppress(OSError):
            digest.update(Path(name).read_bytes())
    digest.update(repr([(str(name), str(kind)) for name, kind in X.dtypes.items()]).encode())
    digest.update(pd.util.hash_pandas_object(X, index=False, categorize=True).to_numpy().tobytes())
    digest.update(np.ascontiguousarray(y, dtype=np.float64).tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _code() -> str:
    """A digest of the code and data that a fit runs through, and the versions of the libraries."""
    digest = blake2b(digest_size=16)
    root = Path(fewmark.__file__).parent
    for room in _CODE:
        for path in sorted((root / room).rglob("*")):
            if path.suffix in (".py", ".json", ".yaml"):
                digest.update(path.relative_to(root).as_posix().encode())
                digest.update(path.read_bytes())
    libraries = [f"{name} {version(name)}" for name in ("numpy", "scipy", "pandas")]
    digest.update(repr([fewmark.__version__, sys.version_info[:2], *libraries]).encode())
    return digest.hexdigest()
