"""From a table of cells to what `auto` learns from: the roofline's log latency, numbers and group codes.

Notation: n cells; values (n, 16) are the columns `COLUMNS`; codes (n, 5) the columns `GROUPS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.errors import ModelError
from fewmark.core.table import DEPLOYMENT_COLUMNS, OPTION_PREFIX, WORKLOAD_PREFIX
from fewmark.models.facts import Facts, weight_bytes
from fewmark.models.kernel import FloatArray, Inputs, IntArray
from fewmark.models.physics import FEATURES, SHARES, Hardware, roofline

GROUPS: Final = ("engine", "accelerator", "model", "variant", "deployment", "accelerator_count")
DEPLOYMENT_NUMBERS: Final = ("log2_parameters", "log2_devices", "online", "constant")
COLUMNS: Final = (*FEATURES, *DEPLOYMENT_NUMBERS, *SHARES)
_VARIANT: Final = ("engine_version", "precision", "tensor_parallel_size", "placement")
_UNKNOWN: Final = "\x00"


@dataclass(frozen=True, slots=True)
class Table:
    """n cells as arrays.

    `log_roofline` (n,) is the log latency that the roofline gives; `to_latency` (n,) is the log factor from the target
    to that latency, with sign: log latency = to_latency + sign × log target. `axes` (n, 3 + k) are log2 input,
    output and load and further workload axes' codes: where the cell lies.
    `deployment` (n,) numbers the rows of `deployments`.
    """

    inputs: Inputs
    log_roofline: FloatArray
    to_latency: FloatArray
    sign: float
    axes: FloatArray
    deployment: IntArray
    deployments: tuple[tuple[str, ...], ...]
    problems: tuple[str, ...]


class Encoder:
    """Numbers for names, growing as names are met; the same name always gets the same number."""

    def __init__(self, names: dict[str, dict[str, int]] | None = None) -> None:
        self.names: dict[str, dict[str, int]] = {} if names is None else names

    def codes(self, column: str, texts: Sequence[str]) -> IntArray:
        """A number for each text, (n,)."""
        known = self.names.setdefault(column, {})
        return np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)


def read_table(X: pd.DataFrame, target: str, facts: Facts, encoder: Encoder) -> Table:
    """The arrays of the cells in X; rows that no prediction can be made for have a reason in `problems`, else empty.

    Raises
    ------
    ModelError
        Where X lacks the columns of a workload.
    """
    n = len(X)
    for column in ("input_tokens", "output_tokens"):
        if column not in X.columns:
            raise ModelError(f"the cells need a column {column}", got=list(map(str, X.columns)))
    ii, oo = _numbers(X, "input_tokens"), _numbers(X, "output_tokens")
    batch, users = _numbers(X, "batch_size"), _numbers(X, "concurrency")
    online = np.isnan(batch) & ~np.isnan(users)
    load = np.where(np.isnan(batch), users, batch)
    problems = [
        "" if ok else "input_tokens, output_tokens and batch_size or concurrency must be known and positive"
        for ok in (ii > 0) & (oo > 0) & (load > 0) & np.isfinite(ii * oo * load)
    ]
    bad = np.array([bool(problem) for problem in problems], dtype=bool)
    ii, oo, load = (np.where(bad, 1.0, column) for column in (ii, oo, load))

    options = sorted(str(c) for c in X.columns if str(c).startswith(OPTION_PREFIX))
    columns = {name: _texts(X, name) for name in (*DEPLOYMENT_COLUMNS, *options)}
    rows = list(zip(*columns.values(), strict=True)) if n else []
    order: dict[tuple[str, ...], int] = {}
    # whether work is offline or online belongs to the deployment here: they share physics but no curve
    keys = [(*row, "online" if on else "") for row, on in zip(rows, online, strict=True)]
    position = np.array([order.setdefault(key, len(order)) for key in keys], dtype=np.int64)
    deployments = tuple(order)
    hardware, numbers = _hardware([dict(zip(columns, key, strict=False)) for key in deployments], facts)

    latency = {"ttft_s": "ttft_s", "tpot_s": "tpot_s"}.get(target, "e2e_latency_s")
    roof = roofline(ii, oo, load, hardware.take(position), latency)
    number = {name: i for i, name in enumerate(columns)}
    texts = {
        "engine": [key[number["engine"]].lower() for key in keys],
        "accelerator": [key[number["accelerator"]].lower() for key in keys],
        "model": [key[number["model"]].lower() for key in keys],
        "variant": ["\x1f".join(key[number[c]] for c in (*_VARIANT, *options)) + key[-1] for key in keys],
        "deployment": ["\x1f".join(key) for key in keys],
        "accelerator_count": [key[number["accelerator_count"]] for key in keys],
    }
    codes = np.column_stack([encoder.codes(name, texts[name]) for name in GROUPS]) if n else np.zeros((0, len(GROUPS)))
    values = np.column_stack(
        [roof.features, numbers[position], online.astype(float), np.ones(n), roof.shares]
    ) if n else np.zeros((0, len(COLUMNS)))  # fmt: skip
    to_latency, sign = np.zeros(n), 1.0
    if target in ("throughput_tok_s", "total_throughput_tok_s"):
        tokens = oo if target == "throughput_tok_s" else ii + oo
        to_latency, sign = np.log(load * tokens), -1.0  # offline by definition, in a closed loop by Little's law
    further = sorted(str(c) for c in X.columns if str(c).startswith(WORKLOAD_PREFIX))
    axes = np.column_stack(
        [np.log2(ii), np.log2(oo), np.log2(load), *(encoder.codes(c, _texts(X, c)) for c in further)]
    ) if n else np.zeros((0, 3))  # fmt: skip
    return Table(
        Inputs(values.astype(np.float64), codes.astype(np.int64)), roof.log_latency, to_latency, sign, axes, position,
        deployments, tuple(problems),
    )  # fmt: skip


def _numbers(X: pd.DataFrame, column: str) -> FloatArray:
    if column not in X.columns:
        return np.full(len(X), np.nan)
    return np.asarray(pd.to_numeric(X[column], errors="coerce"), dtype=np.float64)


def _texts(X: pd.DataFrame, column: str) -> list[str]:
    if column not in X.columns:
        return [_UNKNOWN] * len(X)
    return [_UNKNOWN if _unknown(value) else str(value).strip() for value in X[column].tolist()]


def _unknown(value: Any) -> bool:
    return value is None or value is pd.NA or value == "" or (isinstance(value, float) and np.isnan(value))


def _number(text: str, default: float) -> float:
    try:
        value = float(text)
    except ValueError:
        return default
    return value if np.isfinite(value) and value > 0 else default


def _hardware(deployments: list[dict[str, str]], facts: Facts) -> tuple[Hardware, NDArray[np.float64]]:
    """The roofline's view of each deployment, and its numbers (log2 active parameters, log2 devices)."""
    rows = []
    for row in deployments:
        model = facts.model(None if row["model"] == _UNKNOWN else row["model"])
        device = facts.accelerator(None if row["accelerator"] == _UNKNOWN else row["accelerator"])
        precision = None if row["precision"] == _UNKNOWN else row["precision"]
        devices = _number(row["accelerator_count"], _number(row["tensor_parallel_size"], 1.0))
        expert_ratio = min(1.0, model.experts_per_token / model.experts)
        # active = dense + ratio × experts, total = dense + experts
        share = (1 - model.active_parameters / model.parameters) / (1 - expert_ratio) if expert_ratio < 1 else 0.0
        rows.append(
            [
                model.parameters * weight_bytes(precision), model.parameters, model.active_parameters, min(share, 1.0),
                expert_ratio, 4.0 * model.layers * model.kv_heads * model.head_dim, model.layers, model.hidden, devices,
                devices * device.bandwidth, devices * device.flops_at(precision), devices * device.memory_bytes,
            ]
        )  # fmt: skip
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 12)
    numbers = np.log2(table[:, [2, 8]])
    return Hardware(*table.T), numbers
