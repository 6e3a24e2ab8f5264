"""What deployments tell of one another's limits: the engine, the model and the accelerator that they share, their size.

Notation as in `fewmark.models.analytic.closed_loop`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.columns import OPTION_PREFIX
from fewmark.core.json_types import Json
from fewmark.facts.facts import Facts, weight_bytes
from fewmark.models.analytic.batch_limits import TOKENS
from fewmark.models.analytic.layout import Layout
from fewmark.models.analytic.roofline import USABLE_MEMORY
from fewmark.tables.arrays import FloatArray
from fewmark.tables.identity import group_codes

SURE: Final = 0.5  # standard deviations of log2 K beside what memory says, over those of log2 S
UNLIMITED: Final = 0.05  # the same, where K is far beyond all requests
WIDTH: Final = 2.0  # octaves of size over which deployments are alike
# standard deviations of what deployments share, octaves
ALL: Final = 2.0
SIZED: Final = 1.5
ENGINE_WEIGHT: Final = 1.0
MODEL_WEIGHT: Final = 1.0
ACCELERATOR_WEIGHT: Final = 0.7
OWN: Final = 0.5
OWN_OF_ENGINE: Final = 0.25  # where the limit is the engine's
STATED: Final = 0.25  # of log2 S that an option states

Key = tuple[str, str, str, float, str, str, float, float]
"""Engine, model, accelerator, devices, precision, layout and options, in lower case; replicas, stated limit of
sequences (0: none)."""


def keys_of(X: pd.DataFrame) -> list[Key]:
    """The deployment of each row, (n,)."""
    options = sorted(str(name) for name in X.columns if str(name).startswith(OPTION_PREFIX))
    names = ("engine", "model", "accelerator", "precision", "accelerator_count", "tensor_parallel_size", *options)
    codes, first = group_codes(X, names)
    one_each = X.iloc[first]
    keys = [_key(dict(zip(names, row, strict=True)), options) for row in zip(
        *(_texts(one_each, name) for name in names), strict=True
    )]  # fmt: skip
    return [keys[code] for code in codes.tolist()]


def _key(row: dict[str, str], options: Sequence[str]) -> Key:
    layout = Layout.of(row)
    parts = [f"{name}={row[name]}" for name in ("tensor_parallel_size", *options) if row[name]]
    return (
        row["engine"], row["model"], row["accelerator"], layout.devices, row["precision"], " ".join(parts),
        layout.replicas, layout.sequences,
    )  # fmt: skip


def _texts(X: pd.DataFrame, name: str) -> list[str]:
    if name not in X:
        return [""] * len(X)
    return ["" if pd.isna(v) else f"{v:g}" if isinstance(v, float) else str(v).strip().lower() for v in X[name]]


def key_of(told: Json) -> Key:
    """A key as JSON has it. Raises `TypeError` or `ValueError` where it is none."""
    if isinstance(told, str) or not isinstance(told, Sequence):
        raise TypeError("a key is a list")
    engine, model, accelerator, devices, precision, layout, replicas, limit = (str(item) for item in told)
    return engine, model, accelerator, float(devices), precision, layout, float(replicas), float(limit)


def stated(keys: Sequence[Key], prior: FloatArray) -> FloatArray:
    """What is held of log2 S and log2 K (d, 4), with the limit of sequences where options state one."""
    out = prior.copy()
    for at, key in enumerate(keys):
        if key[7]:
            out[at, :2] = np.log2(key[7]), STATED**2
    return out


def _same(a: tuple[Key, ...], b: tuple[Key, ...], part: int | slice) -> NDArray[np.bool_]:
    numbers: dict[object, int] = {}
    left, right = (np.array([numbers.setdefault(key[part], len(numbers)) for key in keys]) for keys in (a, b))
    return np.asarray(left[:, None] == right)


def covariance_of(a: tuple[Key, ...], b: tuple[Key, ...], facts: Facts, *, by_engine: bool) -> FloatArray:
    """Between deployments, of what they share of one limit: with a limit of the engine's, or one set for each."""
    own = _same(a, b, slice(None))
    out = ALL**2 + ENGINE_WEIGHT**2 * _same(a, b, 0)
    if by_engine:
        return np.asarray(out + OWN_OF_ENGINE**2 * own, dtype=np.float64)
    za, zb = _sizes(a, facts), _sizes(b, facts)
    near = np.exp(-0.5 * ((za[:, None] - zb) ** 2).sum(-1) / WIDTH**2)
    out = out + SIZED**2 * near + MODEL_WEIGHT**2 * _same(a, b, 1) * near
    return np.asarray(out + ACCELERATOR_WEIGHT**2 * _same(a, b, 2) + OWN**2 * own, dtype=np.float64)


def _free(key: Key, facts: Facts) -> float:
    """Bytes that the weights leave free."""
    _, name, device, count, precision, _, replicas, _ = key
    memory = count * facts.accelerator(device or None).memory_bytes
    weights = replicas * facts.model(name or None).parameters * weight_bytes(precision, name)
    return max(USABLE_MEMORY * memory - weights, 0.05 * memory)


def certainty(by_tokens: bool) -> float:
    """The standard deviation of log2 K over that of log2 S, if cached tokens are limited, or if they are not."""
    return SURE if by_tokens else UNLIMITED


def memory_limit(keys: tuple[Key, ...], facts: Facts, *, by_tokens: bool) -> FloatArray:
    """log2 of the tokens whose keys and values that memory holds, or all that there can be, (d,)."""
    if not by_tokens:
        return np.full(len(keys), TOKENS[-1])
    models = [facts.model(key[1] or None) for key in keys]
    tokens = [_free(k, facts) / (4 * m.layers * m.kv_heads * m.head_dim) for k, m in zip(keys, models, strict=True)]
    return np.clip(np.log2(np.array(tokens, dtype=np.float64)), TOKENS[0], TOKENS[-1])


def _sizes(keys: tuple[Key, ...], facts: Facts) -> FloatArray:
    """log2 of free memory (GB), devices and parameters (billions), (d, 3)."""
    rows = [[_free(key, facts) / 1e9, key[3], facts.model(key[1] or None).parameters / 1e9] for key in keys]
    return np.log2(np.array(rows, dtype=np.float64))
