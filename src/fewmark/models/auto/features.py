"""From a table of cells to what `auto` learns from: the roofline's log latency, numbers and group codes.

Notation: n cells; values (n, 17) are the columns `COLUMNS`; codes (n, 5) the columns `GROUPS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.columns import DEPLOYMENT_COLUMNS, OPTION_PREFIX, WORKLOAD_PREFIX
from fewmark.core.errors import ModelError
from fewmark.core.metrics import METRICS, related_target
from fewmark.facts.facts import Facts, weight_bytes
from fewmark.models.analytic.closed_loop import TOLD
from fewmark.models.analytic.layout import Layout
from fewmark.models.analytic.roofline import FEATURES, SHARES, Hardware, log_floor, roofline
from fewmark.models.gp.kernel import Inputs
from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.columns import numbers_of
from fewmark.tables.identity import numbered

GROUPS: Final = ("engine", "accelerator", "model", "variant", "deployment")
ACCELERATOR: Final = GROUPS.index("accelerator")
DEPLOYMENT: Final = GROUPS.index("deployment")
DEPLOYMENT_NUMBERS: Final = ("log2_parameters", "log2_devices", "online", "constant")
COLUMNS: Final = (*FEATURES, *DEPLOYMENT_NUMBERS, *SHARES, "own")
ONLINE: Final = COLUMNS.index("online")
OWN: Final = COLUMNS.index("own")  # amplitude multiplier of the deployment's own covariance terms; 1 until known
WAIT: Final = 1 + TOLD  # column of `Features.kept`
_VARIANT: Final = ("engine_version", "precision", "tensor_parallel_size", "placement")
_UNKNOWN: Final = "\x00"
_SHARES: Final = slice(COLUMNS.index(SHARES[0]), COLUMNS.index(SHARES[0]) + len(SHARES))
CHUNK_ROWS: Final = 8_192  # whose arrays stay in the cache of a core


@dataclass(frozen=True, slots=True)
class Features:
    """n cells as arrays.

    `log_roofline` (n,) is the log latency that the roofline gives; `to_latency` (n,) is the log factor from the target
    to that latency, with sign: log latency = to_latency + sign × log target. `axes` (n, 3 + k) are log2 input, output
    and load and further workload axes' codes: where the cell lies. `unusable` (n,) marks rows that lack a workload.
    `loop` (n, TOLD + 2) is what a closed loop tells, and what waiting adds to the mean function of a first token, with
    its variance; NaN where there is none. `floor` (n,) is the log of the least seconds by published peaks, -inf
    where facts are guessed.
    """

    inputs: Inputs
    log_roofline: FloatArray
    to_latency: FloatArray
    sign: float
    axes: FloatArray
    unusable: NDArray[np.bool_]
    loop: FloatArray
    floor: FloatArray

    def __len__(self) -> int:
        return len(self.unusable)

    @property
    def deployment(self) -> IntArray:
        """The number of each cell's deployment, (n,)."""
        return self.inputs.codes[:, DEPLOYMENT]

    @property
    def online(self) -> NDArray[np.bool_]:
        """Cells of closed loops, (n,)."""
        return np.asarray(self.inputs.values[:, ONLINE] > 0)

    @property
    def kept(self) -> FloatArray:
        """What calibration needs of the cells beside their inputs: the mean function and `loop`, (n, 3 + TOLD)."""
        return np.column_stack([self.log_roofline, self.loop])

    @property
    def waiting(self) -> FloatArray:
        """How uncertain the wait for a first token is by itself, a variance of the log, (n,)."""
        return np.nan_to_num(self.loop[:, -1])

    @property
    def accelerator(self) -> IntArray:
        """The number of each cell's accelerator, (n,)."""
        return self.inputs.codes[:, ACCELERATOR]


class Encoder:
    """Numbers for names, growing as names are met; the same name always gets the same number."""

    def __init__(self, names: dict[str, dict[str, int]] | None = None) -> None:
        self.names: dict[str, dict[str, int]] = {} if names is None else names

    def codes(self, column: str, texts: Sequence[str]) -> IntArray:
        """A number for each text, (n,)."""
        known = self.names.setdefault(column, {})
        return np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)


def is_whole(target: str) -> bool:
    """Whether what is learned for a target is the latency of whole requests, from end to end."""
    return related_target(target) not in ("ttft_s", "tpot_s")


def featurise(X: pd.DataFrame, target: str, facts: Facts, encoder: Encoder) -> Features:
    """The arrays of the cells in X.

    Raises
    ------
    ModelError
        Where X lacks the columns of a workload.
    """
    for column in ("input_tokens", "output_tokens"):
        if column not in X.columns:
            raise ModelError(f"the cells need a column {column}", got=list(map(str, X.columns)))
    ii, oo = numbers_of(X, "input_tokens"), numbers_of(X, "output_tokens")
    batch, users = numbers_of(X, "batch_size"), numbers_of(X, "concurrency")
    online = np.isnan(batch) & ~np.isnan(users)
    load = np.where(np.isnan(batch), users, batch)
    usable = (ii > 0) & (oo > 0) & (load > 0) & np.isfinite(ii * oo * load)
    ii, oo, load = (np.where(usable, column, 1.0) for column in (ii, oo, load))

    options = sorted(str(c) for c in X.columns if str(c).startswith(OPTION_PREFIX))
    names = (*DEPLOYMENT_COLUMNS, *options)
    position, deployments = _deployments(X, names, online)
    hardware, numbers, known = _hardware([dict(zip(names, key, strict=False)) for key in deployments], facts)
    codes = _codes(names, deployments, encoder)

    latency = "e2e_latency_s" if is_whole(target) else related_target(target)
    values, log_roofline, floor = np.ones((len(X), len(COLUMNS))), np.empty(len(X)), np.empty(len(X))
    for start in range(0, len(X), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        who = position[rows]
        own = hardware.take(who)
        roof = roofline(ii[rows], oo[rows], load[rows], own, latency, online[rows])
        log_roofline[rows] = roof.log_latency
        floor[rows] = np.where(known[who], log_floor(ii[rows], oo[rows], own, latency), -np.inf)
        values[rows, :ONLINE] = np.hstack([roof.features, numbers[who]])
        values[rows, ONLINE] = online[rows]
        values[rows, _SHARES] = roof.shares
    to_latency, sign = np.zeros(len(X)), 1.0
    if target in ("throughput_tok_s", "total_throughput_tok_s"):
        tokens = oo if target == "throughput_tok_s" else ii + oo
        to_latency, sign = np.log(load * tokens), -1.0  # offline by definition, in a closed loop by Little's law
    elif METRICS[target].higher_is_better:  # requests or decoding steps a second, in the same way
        to_latency, sign = np.log(load), -1.0
    further = sorted(str(c) for c in X.columns if str(c).startswith(WORKLOAD_PREFIX))
    axes = np.column_stack(
        [np.log2(ii), np.log2(oo), np.log2(load), *(encoder.codes(c, _texts(X[c])).astype(np.float64) for c in further)]
    )
    return Features(
        Inputs(values, codes[position]), log_roofline, to_latency, sign, axes, ~usable,
        np.full((len(X), TOLD + 2), np.nan), floor,
    )  # fmt: skip


def _deployments(
    X: pd.DataFrame, names: Sequence[str], online: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], list[tuple[str, ...]]]:
    """Each row's deployment as a position in the list of deployments; a deployment's texts end in how it is loaded.

    Whether work is offline or online belongs to the deployment here: they share physics but no curve.
    """
    position = online.astype(np.int64)
    columns: list[tuple[NDArray[np.int64], list[str]]] = []
    for name in names:
        code, values = pd.factorize(X[name], use_na_sentinel=False) if name in X.columns else (0, [None])
        texts = _texts(values)
        columns.append((np.broadcast_to(np.asarray(code, dtype=np.int64), len(X)), texts))
        position = numbered(position * len(texts) + columns[-1][0])[1]
    first = np.zeros(position.max(initial=-1) + 1, dtype=np.intp)
    first[position[::-1]] = np.arange(len(position))[::-1]
    rows = [(*(texts[int(code[i])] for code, texts in columns), "online" if online[i] else "") for i in first.tolist()]
    return position.astype(np.intp), rows


def _codes(names: Sequence[str], deployments: list[tuple[str, ...]], encoder: Encoder) -> IntArray:
    """The group codes of each deployment, (d, len(GROUPS))."""
    if not deployments:
        return np.zeros((0, len(GROUPS)), dtype=np.int64)
    at = {name: i for i, name in enumerate(names)}
    variant = [at[name] for name in names if name in _VARIANT or name.startswith(OPTION_PREFIX)]
    texts = {
        "engine": [key[at["engine"]].lower() for key in deployments],
        "accelerator": [key[at["accelerator"]].lower() for key in deployments],
        "model": [key[at["model"]].lower() for key in deployments],
        "variant": ["\x1f".join([*(key[i] for i in variant), key[-1]]) for key in deployments],
        # an option that nobody sets is as if it had no column
        "deployment": [
            "\x1f".join([*key[: len(DEPLOYMENT_COLUMNS)], key[-1], *(
                f"{name}={text}" for name, text in zip(names, key, strict=False)
                if name.startswith(OPTION_PREFIX) and text != _UNKNOWN
            )])
            for key in deployments
        ],
    }  # fmt: skip
    return np.column_stack([encoder.codes(name, texts[name]) for name in GROUPS])


def _texts(values: Iterable[object]) -> list[str]:
    return [_text(value) for value in values]


def _text(value: object) -> str:
    if _unknown(value):
        return _UNKNOWN
    # one device is "1", whether the column came as integers or as floats
    return f"{float(value):g}" if isinstance(value, (int, float, np.number)) else str(value).strip()


def _unknown(value: object) -> bool:
    return (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or value == ""
        or (isinstance(value, float) and np.isnan(value))
    )


def _hardware(
    deployments: list[dict[str, str]], facts: Facts
) -> tuple[Hardware, NDArray[np.float64], NDArray[np.bool_]]:
    """The roofline's view of each deployment, its numbers (log2 active parameters and devices), if it is known."""
    rows, known = [], []
    for row in deployments:
        name = None if row["model"] == _UNKNOWN else row["model"]
        model = facts.model(name)
        device = facts.accelerator(None if row["accelerator"] == _UNKNOWN else row["accelerator"])
        precision = None if row["precision"] == _UNKNOWN else row["precision"]
        layout = Layout.of({column: text for column, text in row.items() if text != _UNKNOWN})
        devices = layout.devices / layout.replicas
        known.append(model.known and device.known and precision is not None)
        expert_ratio = min(1.0, model.experts_per_token / model.experts)
        # active = dense + ratio × experts, total = dense + experts
        share = (1 - model.active_parameters / model.parameters) / (1 - expert_ratio) if expert_ratio < 1 else 0.0
        rows.append(
            [
                model.parameters * weight_bytes(precision, name), model.parameters, model.active_parameters,
                min(share, 1.0), expert_ratio,
                2.0 * layout.cache_bytes * model.layers * model.kv_heads * model.head_dim,
                model.layers, model.hidden, devices, devices * device.bandwidth,
                devices * device.flops_at(precision, name), devices * device.memory_bytes, layout.replicas,
                model.window, model.full_layers,
            ]
        )  # fmt: skip
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 15)
    numbers = np.log2(table[:, [2, 8]])
    return Hardware(*table.T), numbers, np.array(known, dtype=bool)
