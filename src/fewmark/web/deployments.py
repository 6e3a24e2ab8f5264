"""The deployments of a table: their labels for people, short keys that addresses of pages hold, and their rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
import pandas as pd

from fewmark.tables.arrays import IntArray
from fewmark.tables.identity import deployment_columns, group_codes
from fewmark.verbs.cards.labels import LABEL, with_labels

FACETS: Final = ("model", "accelerator", "engine")


@dataclass(frozen=True)
class Deployment:
    """One deployment: its key, its label, its columns that are known, and how many rows it has."""

    key: str
    label: str
    values: Mapping[str, object]
    n_rows: int


@dataclass(frozen=True, eq=False)
class Deployments:
    """All deployments of a table, by label; `code` (n,) is the position of each row's."""

    items: tuple[Deployment, ...]
    code: IntArray

    @classmethod
    def of(cls, table: pd.DataFrame) -> Deployments:
        """The deployments of a canonical table."""
        columns = deployment_columns(table)
        code, first = group_codes(table, columns)
        if not len(table):
            return cls((), code)
        labelled = with_labels(table.iloc[first][columns])
        counts = np.bincount(code, minlength=len(first))
        found = []
        for row, n_rows in zip(labelled.to_dict("records"), counts, strict=True):
            values = {str(name): value for name, value in row.items() if name != LABEL and _known(value)}
            text = repr(sorted((name, _text(value)) for name, value in values.items()))
            key = blake2b(text.encode(), digest_size=5).hexdigest()
            found.append(Deployment(key, str(row[LABEL]), values, int(n_rows)))
        order = sorted(range(len(found)), key=lambda i: found[i].label)
        place = np.empty(len(found), dtype=np.intp)
        place[order] = np.arange(len(found))
        return cls(tuple(found[i] for i in order), place[code])

    def chosen(self, keys: Iterable[str], at_most: int) -> list[int]:
        """The positions of the deployments with these keys; what is unknown is passed over."""
        places = {item.key: position for position, item in enumerate(self.items)}
        return [places[key] for key in dict.fromkeys(keys) if key in places][:at_most]

    def rows(self, position: int) -> IntArray:
        """The rows of a deployment."""
        return np.flatnonzero(self.code == position)

    def facets(self) -> dict[str, list[str]]:
        """The values of each of `FACETS`, for pickers."""
        return {name: sorted({str(i.values[name]) for i in self.items if name in i.values}) for name in FACETS}


def _known(value: object) -> bool:
    return value is not None and not (isinstance(value, float) and np.isnan(value))


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
