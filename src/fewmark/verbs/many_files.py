"""Many result files as one table: a folder, an archive, a glob or several names, read as `fewmark import` reads them.

One record of each run counts, however many files tell of it, and copies of a row count once. A store that lives no
longer than the question holds the rows with where each came from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fewmark.interop.archives import is_archive

if TYPE_CHECKING:
    from fewmark.store import Store


def is_many(data: str | Path) -> bool:
    """Whether a name stands for a folder, an archive or a glob."""
    path = Path(data)
    try:
        return path.is_dir() or (path.is_file() and is_archive(path)) or (not path.exists() and _is_glob(str(data)))
    except (OSError, ValueError):
        return False


@contextmanager
def opened_files(names: Sequence[str | Path]) -> Iterator[tuple[Store, list[str]]]:
    """A passing store of all rows of these files, and what was passed over, as sentences.

    Raises
    ------
    InputError, FormatError
        If one of them cannot be read, or none has a result.
    """
    from fewmark.store import open_store  # SQL takes a second to load
    from fewmark.verbs.import_files import import_files

    with tempfile.TemporaryDirectory(prefix="fewmark-files-") as folder:
        store = f"sqlite:///{Path(folder) / 'files.db'}"
        found = import_files(names, store=store)
        notes = []
        if found.passed_over:
            name, reason = next(iter(found.passed_over.items()))
            notes.append(f"{len(found.passed_over)} files passed over: {name}: {reason}")
        if told_twice := sum(file.n_poorer + file.n_copies for file in found):
            notes.append(f"{told_twice} records tell of a run that another one tells of, too; each run counts once")
        if left_out := sum(len(file.left_out) for file in found):
            first = next(file for file in found if file.left_out)
            notes.append(f"{left_out} rows are no cells and left out, as {first.path}, row {first.left_out[0]}")
        with open_store(store) as opened:
            yield opened, notes


def _is_glob(name: str) -> bool:
    return any(mark in name for mark in "*?[")
