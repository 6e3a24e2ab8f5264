"""The packaged datasets: which there are, what is known of them, and their tables."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from typing import Any

import pandas as pd

from fewmark.core import InputError
from fewmark.interop import read_table
from fewmark.screening import apply, screen


def names() -> list[str]:
    """The names of the packaged datasets."""
    return sorted(entry.name for entry in _root().iterdir() if entry.is_dir() and (entry / "dataset.json").is_file())


def describe(name: str) -> dict[str, Any]:
    """What is known of a dataset: title, url, licence, citation, and its tables with their sizes and checksums.

    Raises
    ------
    InputError
        If there is no such dataset.
    """
    if name not in names():
        raise InputError("unknown dataset", got=name, hint=f"one of {', '.join(names())}")
    about: dict[str, Any] = json.loads((_root() / name / "dataset.json").read_text(encoding="utf-8"))
    return about


def load(name: str, table: str = "main", *, screened: bool = False) -> pd.DataFrame:
    """A published table in canonical columns, rows in their published order.

    Parameters
    ----------
    name : one of `names`
    table : one of the dataset's tables; "main" is always there
    screened : whether the screen's corrections are made and the rows it excludes left out, the index kept

    Returns
    -------
    DataFrame; ``attrs`` has dataset, table, title, licence, citation and url.

    Raises
    ------
    InputError
        If there is no such dataset or table.
    """
    about = describe(name)
    if table not in about["tables"]:
        raise InputError(
            f"the dataset {name} has no such table", got=table, hint=f"one of {', '.join(about['tables'])}"
        )
    with as_file(_root() / name / about["tables"][table]["file"]) as path:
        frame = read_table(path, "parquet")
    if screened:
        frame = apply(frame, screen(frame))
    frame.attrs = {key: about[key] for key in ("title", "licence", "citation", "url")}
    frame.attrs |= {"dataset": name, "table": table}
    return frame


def _root() -> Traversable:
    return files("fewmark.datasets") / "data"
