"""Columns of a table as pieces of JSON, a text a row, from which the rows of the store are put together.

Two texts of a value may differ: in a row's *body* whole numbers keep their fraction, in the *text* that is hashed they
do not, and nothing unknown stands there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from fewmark.core import KNOWN_COLUMNS, FrozenMap
from fewmark.core.columns import FLAG_SEPARATOR, OPTION_PREFIX, WORKLOAD_PREFIX
from fewmark.core.frozen import canonical_json, known_only, thaw
from fewmark.core.json_types import Json
from fewmark.core.text import masked
from fewmark.interop.text.cells import cell_to_option
from fewmark.store.rows import column_text

Texts = list[str]
_V = TypeVar("_V")
_W = TypeVar("_W")


def items(name: str, values: Sequence[float | None], written: Callable[[float], str]) -> Texts:
    return ["" if value is None else f'"{name}":{written(value)}' for value in values]


def joined(parts: Sequence[Texts], n: int) -> Texts:
    return [",".join(filter(None, items)) for items in zip(*parts, strict=True)] if parts else [""] * n


def whole_number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def field(name: str, texts: Texts) -> Texts:
    return [f',"{name}":{text}' if text else "" for text in texts]


def each(values: Sequence[_V], written: Callable[[_V], _W]) -> list[_W]:
    """What is written of each value, found once for equal ones; None stays what `written` makes of it."""
    found = {value: written(value) for value in dict.fromkeys(values)}
    return [found[value] for value in values]


def label_json(frame: pd.DataFrame, name: str) -> Texts:
    values = frame[name].tolist() if name in frame else [None] * len(frame)
    return each(values, lambda value: "" if value is None else dump(value))


def flag_json(frame: pd.DataFrame) -> tuple[Texts, list[str | None]]:
    """The flags as a JSON list, and as the store's column has them."""

    def split(value: str | None) -> list[str]:
        return [flag.strip() for flag in (value or "").split(FLAG_SEPARATOR) if flag.strip()]

    values = frame["flag"].tolist()
    texts = each(values, lambda value: dump(found) if (found := split(value)) else "")
    return texts, each(values, lambda value: column_text(FLAG_SEPARATOR.join(split(value)) or None))


def extra_json(frame: pd.DataFrame) -> tuple[Texts, Texts]:
    """The foreign columns of each row, as in its body and as in its text."""
    names = [
        n for n in map(str, frame) if n not in KNOWN_COLUMNS and not n.startswith((OPTION_PREFIX, WORKLOAD_PREFIX))
    ]
    names += ["note"] if "note" in frame else []
    bodies, texts = [], []
    for name in sorted(names):
        key = dump(name)
        if frame[name].dtype == np.float64:
            whole = [f"{key}:{whole_number(value)}" if value == value else "" for value in frame[name].tolist()]
            bodies.append(whole)
            texts.append(whole)
            continue
        pairs = each(frame[name].tolist(), lambda value, name=name, key=key: _extra_pair(name, key, value))  # type: ignore[misc]
        bodies.append([pair[0] for pair in pairs])
        texts.append([pair[1] for pair in pairs])
    outs = (joined(parts, len(frame)) for parts in (bodies, texts))
    first, second = ([f"{{{text}}}" if text else "" for text in out] for out in outs)
    return first, second


def _extra_pair(name: str, key: str, value: Json) -> tuple[str, str]:
    option = value if name == "note" else cell_to_option(value)
    if option is None:
        return "", ""
    kept = thaw(FrozenMap({name: masked_cell(name, option)}))
    known = known_only(kept)
    return f"{key}:{dump(kept[name])}", canonical_json(known)[1:-1] if known else ""


def both(value: Mapping[str, object]) -> tuple[str, str]:
    """A mapping as in a body, and as in a text."""
    return dump(value), canonical_json(known_only(value))


def masked_cell(name: str, value: Json) -> Json:
    return value if value is None else masked({name: value})[name]


def dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def short_hash(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:length]
