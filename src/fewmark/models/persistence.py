"""Fitted models in one file: data with a version, never code.

Format (version 1): a zip archive with ``model.json`` and one ``arrays/NUMBER.npy`` for each array. ``model.json``
holds ``format`` ("fewmark-model"), ``version``, ``fewmark_version``, ``model`` (the name in the registry), ``target``,
``state`` (JSON values), ``arrays`` (from the array's name to its entry), and since 0.2 ``notes`` and ``deployments``
(what was done to the measurements, and of which deployments they are). The archive's checksums guard every entry.
Arrays of Python objects are refused on the way in and out, so that reading a file runs nothing that is in it.
"""

from __future__ import annotations

import io
import json
import lzma
import math
import zipfile
import zlib
from pathlib import Path
from typing import Final

import numpy as np

import fewmark
from fewmark.core.errors import MALFORMED, FewmarkError, InputError, ModelError
from fewmark.core.files import MAX_DOCUMENT_BYTES, require_regular, write_file
from fewmark.core.text import brief
from fewmark.models.base import Model
from fewmark.models.registry import model_class
from fewmark.models.state import Arrays, State, part, text
from fewmark.tables.arrays import AnyArray

FORMAT: Final = "fewmark-model"
VERSION: Final = 1
MAX_BYTES: Final = 2**30  # of a model, expanded
MAX_RATIO: Final = 50  # of what is expanded to what is packed, beside what any document may hold
SUFFIX: Final = ".fewmark"
_ENTRY: Final = "model.json"
_EXTRA: Final = "extra/"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the same model gives the same file
_REFIT: Final = "fit the model again with `fewmark fit`"


def save_model(model: Model, path: str | Path, *, extras: Arrays | None = None, compress: bool = True) -> None:
    """Write a fitted model; the file is complete or not there.

    Parameters
    ----------
    extras : further arrays to keep in the same file, which `load_with_extras` gives back
    compress : whether the file should be small rather than quickly written

    Raises
    ------
    ModelError
        If the model has not been fitted, or the file cannot be written.

    Examples
    --------
    >>> from fewmark import datasets
    >>> from fewmark.models.registry import make_model
    >>> table = datasets.example()
    >>> from fewmark.models.persistence import load_model, save_model
    >>> save_model(make_model("mechanistic").fit(table, table["throughput_tok_s"]), "model.fewmark")
    >>> load_model("model.fewmark").name
    'mechanistic'
    """
    path = Path(path)
    state, own = model.to_state()
    arrays = own | {f"{_EXTRA}{name}": array for name, array in (extras or {}).items()}
    entries = {name: f"arrays/{number}.npy" for number, name in enumerate(sorted(arrays))}
    about = {
        "format": FORMAT,
        "version": VERSION,
        "fewmark_version": fewmark.__version__,
        "model": model.name,
        "target": model.target,
        "state": state,
        "arrays": entries,
        "notes": list(model.notes_),
        "deployments": [dict(deployment) for deployment in model.deployments_],
    }
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        _put(archive, _ENTRY, json.dumps(about).encode(), kind)
        for name, entry in entries.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(arrays[name]), allow_pickle=False)
            _put(archive, entry, content.getvalue(), kind)
    try:
        write_file(path, buffer.getvalue())
    except InputError as error:
        raise ModelError("the model file cannot be written", got=error.got, hint=error.hint) from None


def load_model(path: str | Path) -> Model:
    """Load the fitted model of a file that `fewmark.fit` or `save_model` wrote; it predicts the very same numbers.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    Model
        The fitted model.

    Raises
    ------
    ModelError
        If there is no such file, it is damaged or of another format or version, or its model is unknown here.

    Examples
    --------
    >>> import fewmark
    >>> from fewmark import datasets
    >>> table = datasets.example()
    >>> fitted = fewmark.fit(table, model="mechanistic", out="model.fewmark")
    >>> again = fewmark.load_model("model.fewmark")
    >>> bool((again.predict(table) == fitted.predict(table)).all())
    True
    """
    return load_with_extras(path)[0]


def load_with_extras(path: str | Path) -> tuple[Model, Arrays]:
    """The fitted model of a file and the further arrays in it. Raises as `load_model`."""
    path = Path(path)
    about, every = _read(path)
    arrays = {name: array for name, array in every.items() if not name.startswith(_EXTRA)}
    extras = {name.removeprefix(_EXTRA): array for name, array in every.items() if name.startswith(_EXTRA)}
    name, target, state = text(about, "model"), text(about, "target"), part(about, "state")
    found = model_class(name)
    try:
        if isinstance(found, type) and issubclass(found, Model):
            model: Model = found.from_state(state, arrays)
        else:
            from fewmark.models.conformal.cross_conformal import CrossConformal

            model = CrossConformal(name, found, target=target).restore(state, arrays)
        _recall_source(model, about)
        return model, extras
    except FewmarkError:
        raise
    except Exception as error:  # libraries raise errors of their own on a state that is none
        raise ModelError(f"the saved {name} is incomplete", got=f"{path}: {brief(error)}", hint=_REFIT) from None


def _recall_source(model: Model, about: State) -> None:
    """What the model was fitted on, where the file says so; files written before may not."""
    notes, deployments = about.get("notes"), about.get("deployments")
    if isinstance(notes, list):
        model.notes_ = tuple(map(str, notes))
    if isinstance(deployments, list):
        model.deployments_ = tuple(dict(item) for item in deployments if isinstance(item, dict))


def _read(path: Path) -> tuple[State, Arrays]:
    try:
        require_regular(path, what="a model")
        with zipfile.ZipFile(path) as archive:
            expanded = sum(entry.file_size for entry in archive.infolist())
            if expanded > min(MAX_BYTES, MAX_RATIO * path.stat().st_size + MAX_DOCUMENT_BYTES):
                raise ModelError("the model file expands too much", got=f"{path}: {expanded:,} bytes")
            about = json.loads(archive.read(_ENTRY))
            _check(about, path)
            arrays = {name: _array(archive, entry) for name, entry in about["arrays"].items()}
    except InputError as error:
        missing = "no such file" in error.what
        what, hint = ("there is no such model file", "write one with `fewmark fit`") if missing else (error.what, None)
        raise ModelError(what, got=error.got, hint=hint) from None
    except FileNotFoundError:
        raise ModelError("there is no such model file", got=str(path), hint="write one with `fewmark fit`") from None
    except OSError as error:
        raise ModelError("the model file cannot be read", got=f"{path}: {error.strerror or error}") from None
    except KeyError as error:
        raise ModelError("the file is not a fewmark model", got=f"{path}: {error.args[0]}", hint=_REFIT) from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, MemoryError, RuntimeError, *MALFORMED) as error:
        # RuntimeError: a part that says it is encrypted
        raise ModelError("the model file is damaged", got=f"{path}: {error}", hint=_REFIT) from None
    return about, arrays


def _check(about: object, path: Path) -> None:
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ModelError("the file is not a fewmark model", got=str(path), hint=_REFIT)
    if about.get("version") != VERSION:
        raise ModelError(
            f"model files of version {VERSION} can be read",
            got=f"{path}: version {about.get('version')!r}, written by fewmark {about.get('fewmark_version')}",
            hint=_REFIT,
        )
    expected = {"model": str, "target": str, "state": dict, "arrays": dict}
    wrong = [name for name, kind in expected.items() if not isinstance(about.get(name), kind)]
    if wrong:
        raise ModelError("the model file is incomplete", got=f"{path}: {', '.join(wrong)}", hint=_REFIT)


def _array(archive: zipfile.ZipFile, entry: str) -> AnyArray:
    content = archive.read(entry)
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = read_header[version](stream)
    # A header may claim any size; nothing is allocated for what does not follow.
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"{entry} holds another number of values than it says")
    array: AnyArray = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return array


def _put(archive: zipfile.ZipFile, name: str, content: bytes, kind: int) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, kind)
