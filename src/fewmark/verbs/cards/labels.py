"""Labels of deployments, for people."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Final

import pandas as pd

from fewmark.core.columns import OPTION_PREFIX
from fewmark.tables.identity import deployment_columns

LABEL: Final = "deployment"  # the column that holds the label


def with_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with one more column, a label of each row's deployment: alike for alike rows, and only for those."""
    columns = deployment_columns(frame)
    groups = frame[columns].drop_duplicates()
    rows = [{name: value for name, value in row.items() if _known(value)} for row in groups.to_dict("records")]
    labels = [_label(row) for row in rows]
    # Where two deployments look alike, what tells them apart is written out.
    for position, (row, label) in enumerate(zip(rows, list(labels), strict=True)):
        twins = [other for other, name in zip(rows, labels, strict=True) if name == label and other is not row]
        if twins:
            differing = [name for name in columns if any(other.get(name) != row.get(name) for other in twins)]
            detail = ", ".join(f"{name.removeprefix(OPTION_PREFIX)} {_text(row.get(name))}" for name in differing)
            labels[position] = f"{label} [{detail}]"
    keys = {_key(values): label for values, label in zip(groups.itertuples(index=False), labels, strict=True)}
    return frame.assign(**{LABEL: [keys[_key(values)] for values in frame[columns].itertuples(index=False)]})


def _label(row: Mapping[Hashable, object]) -> str:
    count = row.get("accelerator_count")
    many = f"{_text(count)}×" if isinstance(count, (int, float)) and count > 1 else ""
    parts = [str(row.get("model", "unknown model"))]
    if "precision" in row:
        parts.append(str(row["precision"]))
    if "engine" in row:
        parts.append(f"· {row['engine']}")
    if "accelerator" in row or many:
        parts.append(f"on {many}{row.get('accelerator', 'unknown accelerator')}")
    if row.get("placement", "accelerator") != "accelerator":
        parts.append(f"({row['placement']})")
    return " ".join(parts)


def _known(value: object) -> bool:
    return value is not None and not (isinstance(value, float) and pd.isna(value))


def _key(values: Iterable[object]) -> tuple[object, ...]:
    return tuple(value if _known(value) else None for value in values)


def _text(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)
