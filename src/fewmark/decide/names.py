"""What candidates are called: short, and never two alike."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final

import pandas as pd

from fewmark.core.columns import LOAD_COLUMNS, OPTION_PREFIX, WORKLOAD_PREFIX
from fewmark.tables.columns import load_label
from fewmark.tables.identity import deployment_columns, workload_columns

DEGREES: Final = {
    "tensor_parallel_size": "TP",
    "pipeline_parallel_size": "PP",
    "data_parallel_size": "DP",
    "expert_parallel_size": "EP",
}
"""What sizes of parallelism are written as: TP4·PP2."""
_NAMED: Final = ("model", "engine", "accelerator", "accelerator_count")
_SPOKEN: Final = ("precision", "engine_version", "placement")
_LENGTHS: Final = {"input_tokens": "in", "output_tokens": "out"}


def candidate_names(cells: pd.DataFrame) -> list[str]:
    """A name of each row: model, engine, accelerator, load, and whatever else differs among the rows."""
    return _names(cells, [name for name in _NAMED if name in cells])


def short_names(cells: pd.DataFrame) -> tuple[str, list[str]]:
    """What all rows share, and a name of each that says only what differs, and its load."""
    differing = [name for name in _NAMED if name in cells and _differs(cells[name])]
    first = cells.iloc[:1]
    shared = _deployment(first.to_dict("records")[0], [name for name in _NAMED if name in cells], differing, [])
    lengths = [
        f"{_text(first[column].iloc[0])} tokens {short}"
        for column, short in _LENGTHS.items()
        if column in cells and not _differs(cells[column])
    ]
    return ", ".join(part for part in (shared, *lengths) if part), _names(cells, differing)


def _names(cells: pd.DataFrame, named: list[str]) -> list[str]:
    others = [name for name in deployment_columns(cells) if name not in _NAMED and _differs(cells[name])]
    of_work = [name for name in workload_columns(cells) if name not in LOAD_COLUMNS and _differs(cells[name])]
    out = []
    for row in cells.to_dict("records"):
        lengths = " ".join(f"{_text(row[column])} {short}" for column, short in _LENGTHS.items() if column in of_work)
        rest = [_said(column, row[column]) for column in of_work if column not in _LENGTHS]
        parts = (_deployment(row, named, [], others), load_label(row), lengths, *rest)
        out.append(", ".join(part for part in parts if part))
    return out


def _differs(column: pd.Series) -> bool:
    return len({_text(value) for value in column}) > 1


def _deployment(row: Mapping[Hashable, object], named: list[str], but: list[str], others: list[str]) -> str:
    """The deployment of a row: those of `named` that are not in `but`, and each of `others`."""
    said = {name: row.get(name) for name in named if name not in but and not _unknown(row.get(name))}
    count = said.get("accelerator_count")
    many = f"{count:g}×" if isinstance(count, (int, float)) and count > 1 else ""
    what = " · ".join(_text(said[name]) for name in ("model", "engine") if name in said)
    where = " ".join(part for part in (many, _text(said["accelerator"]) if "accelerator" in said else "") if part)
    degrees = "·".join(f"{DEGREES[_bare(name)]}{_text(row[name])}" for name in others if _bare(name) in DEGREES)
    rest = [_said(name, row[name]) for name in others if _bare(name) not in DEGREES]
    detail = ", ".join(part for part in (degrees, *rest) if part)
    head = " on ".join(part for part in (what, where) if part)
    return f"{head} [{detail}]" if head and detail else head or detail


def _said(name: str, value: object) -> str:
    return _text(value) if name in _SPOKEN and not _unknown(value) else f"{_bare(name)} {_text(value)}"


def _bare(name: str) -> str:
    return name.removeprefix(OPTION_PREFIX).removeprefix(WORKLOAD_PREFIX)


def _unknown(value: object) -> bool:
    return value is None or (isinstance(value, float) and pd.isna(value)) or value is pd.NA


def _text(value: object) -> str:
    if _unknown(value):
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)
