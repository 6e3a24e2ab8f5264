"""What comes in: rows and files, screened, into the store. A request holds files, and names none to be opened."""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from fewmark.core.errors import InputError
from fewmark.verbs.import_files import ImportedFiles, import_files
from fewmark.web.knowledge import Knowledge
from fewmark.web.schemas import AppendAnswer

_UNSAFE: Final = re.compile(r"[^\w.\- ]+")
MAX_NAME: Final = 120  # characters of a file's name


def append_rows(knowledge: Knowledge, rows: Sequence[Mapping[str, object]]) -> AppendAnswer:
    """Rows of the canonical table into the store, as `fewmark import` takes a file of them. Raises as it does."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with tempfile.TemporaryDirectory(prefix="fewmark-api-") as folder:
        path = Path(folder) / "rows.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows(rows)
        found = import_uploads(knowledge, [path], Path(folder))
    return AppendAnswer(
        n_rows=len(rows),
        n_added=sum(file.n_added for file in found),
        flagged=[finding.to_dict() for file in found for finding in file.findings],
    )


def import_uploads(knowledge: Knowledge, paths: Sequence[Path], folder: Path) -> ImportedFiles:
    """Files that were uploaded into a folder of their own, into the store; files of no known format are passed over."""
    knowledge.store()  # says so where there is none
    try:
        found = import_files(paths, store=knowledge.settings.store, keep_going=True)
    except InputError as error:
        raise type(error)(_without(folder, error.what), got=_told(folder, error.got), hint=error.hint) from None
    knowledge.forget()
    return found


def uploaded(folder: Path) -> list[Path]:
    """The files of an upload's folder, in the order that they were given: each in a folder with its number."""
    return sorted(folder.glob("*/*"), key=lambda path: int(path.parent.name))


def safe_name(name: str, number: int) -> str:
    """A file's name as it was uploaded, fit for a folder of ours: no path, nothing hidden, not too long."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = _UNSAFE.sub("_", last).strip(" .")
    return kept[-MAX_NAME:] or f"file-{number}"


def _without(folder: Path, text: str) -> str:
    return text.replace(f"{folder}/", "")


def _told(folder: Path, got: object) -> object:
    return _without(folder, got) if isinstance(got, str) else got
