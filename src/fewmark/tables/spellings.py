"""One spelling for what a table names in several: models, accelerators, engines and precisions (`facts.identity`)."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from fewmark.facts.facts import Facts, load_facts, user_files
from fewmark.facts.identity import NAMED, key_of, near_names, same_names, shown
from fewmark.tables.arrays import BoolArray, ObjectArray
from fewmark.tables.identity import deployment_columns, group_codes, hashable

NOTES: Final = "names"
"""The attribute of a table that says what was taken for what."""


def one_spelling(table: pd.DataFrame, facts: Facts | None = None) -> pd.DataFrame:
    """The table with each name in the most common of the spellings that mean the same; rows keep their index.

    ``attrs["names"]`` says what was taken for what.
    """
    facts = load_facts(user_files()) if facts is None else facts
    changes: dict[str, pd.Series] = {}
    notes: list[str] = []
    for column in NAMED:
        if column not in table:
            continue
        names = [str(name) for name in table[column].value_counts().index]
        taken = same_names(column, names, facts)
        if all(name == other for name, other in taken.items()):
            continue
        notes += shown(taken, column)
        changes[column] = table[column].map(lambda name, taken=taken: taken.get(name, name), na_action="ignore")
    out = table.assign(**changes) if changes else table
    if notes:
        out = out.copy(deep=False)
        out.attrs[NOTES] = [*table.attrs.get(NOTES, []), *notes]
    return out


def spelled_as(cases: pd.DataFrame, known: pd.DataFrame, facts: Facts | None = None) -> pd.DataFrame:
    """The cases with names as `known` spells them; ``attrs["names"]`` says what was taken, and what nobody knows."""
    facts = load_facts(user_files()) if facts is None else facts
    changes: dict[str, pd.Series] = {}
    notes: list[str] = []
    for column in NAMED:
        if column not in cases or column not in known:
            continue
        there = [str(name) for name in known[column].dropna().unique()]
        asked = [str(name) for name in cases[column].dropna().unique()]
        taken = same_names(column, [*there, *asked], facts)
        mine = {name: taken[name] for name in asked}
        notes += shown(mine, column)
        for name in asked:
            if mine[name] not in there and there and not _is_known(column, name, facts):
                near = near_names(name, there)
                notes.append(f"{column} {name!r} is not known" + (f"; near: {', '.join(near)}" if near else ""))
        if any(name != other for name, other in mine.items()):
            changes[column] = cases[column].map(lambda name, mine=mine: mine.get(name, name), na_action="ignore")
    out = cases.assign(**changes)
    out.attrs |= cases.attrs
    if notes:
        out.attrs[NOTES] = notes
    return out


def filled_from(cases: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The cases with what they do not say of their deployment, where all that is known and agrees with them says it."""
    columns = deployment_columns(known)
    own = [name for name in columns if name in cases]
    if not own or known.empty:
        return cases
    asked = hashable(cases[own])
    code, starts = group_codes(asked, own)
    distinct = asked.iloc[starts].to_dict("records")
    if len(own) == len(columns) and not any(pd.isna(first[name]) for first in distinct for name in own):
        return cases
    known = known.reset_index(drop=True)
    deployments = hashable(known[columns]).drop_duplicates()
    values = {name: deployments[name].to_numpy(dtype=object, na_value=np.nan) for name in columns}
    rows_of = deployments.index.to_numpy()
    changes: dict[str, ObjectArray] = {}
    for number, first in enumerate(distinct):
        said = [name for name in own if not pd.isna(first[name])]
        if "model" not in said:
            continue
        fits = np.arange(len(deployments))
        for name in said:
            fits = fits[_same(values[name][fits], first[name])]
        if not len(fits):
            continue
        rows = np.flatnonzero(code == number)
        for name in columns:
            told = values[name][fits[0]]
            if name in said or pd.isna(told) or not _same(values[name][fits], told).all():
                continue
            if name not in changes:
                there = cases[name].to_numpy(object) if name in cases else [None] * len(cases)
                changes[name] = np.array(there, dtype=object)
            value = known.at[rows_of[fits[0]], name]
            changes[name][rows] = value if np.isscalar(value) else [value] * len(rows)
    filled: dict[str, pd.Series] = {}
    for name in (name for name in columns if name in changes):
        column = pd.Series(changes[name], index=cases.index, dtype=object)
        are_numbers = name in cases and pd.api.types.is_numeric_dtype(cases[name])
        are_numbers = are_numbers and {type(value) for value in changes[name].tolist()} <= {int, float, np.float64}
        filled[name] = column.astype(float) if are_numbers else column
    out = cases.assign(**filled)
    out.attrs |= cases.attrs
    return out


def _same(cells: np.ndarray, value: object) -> BoolArray:
    """Whether each cell is this value, (n,); a tuple is one value."""
    return np.fromiter((cell == value for cell in cells), bool, len(cells))


def _is_known(column: str, name: str, facts: Facts) -> bool:
    if column == "model":
        return facts.model(name).known
    if column == "accelerator":
        return facts.accelerator(name).known
    return key_of(column, name, facts)[0] == "alias"
