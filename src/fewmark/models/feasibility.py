"""Whether a cell can run at all: what failed before, and what memory does not hold.

Notation (arrays (n,), one entry a cell; bytes, tokens):
    ii, oo, bb    input tokens, output tokens, sequences at once (batch size or concurrency)
    W, kv         bytes of the weights, and of a token's keys and values: 2 × layers × kv_heads × head_dim × 2 (or 1)
    M             memory of all accelerators

A static batch holds bb · (ii + oo) tokens at once and fails where W + bb · (ii + oo) · kv exceeds M. An engine that
queues runs what fits and lets the rest wait: it fails only where the weights and one sequence exceed M. Between what
certainly fits and what certainly does not, the chance is that of a log-normal error of the formula. Measurements come
before it: what asks no more than a cell that ran is feasible, what asks no less than one that ran out of memory is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr as normal_cdf

from fewmark.core.columns import LOAD_COLUMNS, OPTION_PREFIX
from fewmark.core.values import Status
from fewmark.facts.facts import Facts, load_facts, user_files, weight_bytes
from fewmark.tables.arrays import BoolArray, FloatArray, IntArray
from fewmark.tables.columns import load_kind_of, load_label, load_of, numbers_of
from fewmark.tables.identity import deployment_columns, group_codes

FEASIBLE: Final = 0.05
"""The least chance of running at which a cell is still answered, with the chance said."""
LIKELY: Final = 0.9
"""The least chance at which nothing is said."""
STATIC_ENGINES: Final = frozenset({"transformers", "huggingface", "hf", "deepspeed", "flexgen", "flexllmgen"})
"""Engines that hold a whole batch at once; all others, as far as they are known, let wait what does not fit."""
KNOWN_SD: Final = 0.1  # of the log of what the formula says, for published shapes
ESTIMATED_SD: Final = 0.4  # for shapes that are guessed from a size in a name
MAX_DEVICES: Final = 8.0  # where their number is unknown
MAX_WAVES: Final = 8.0  # times that a queue may go through memory before "a batch" is no word for it
_BATCH, _USERS, _RATE = range(len(LOAD_COLUMNS))


@dataclass(frozen=True, slots=True)
class Feasibility:
    """The chance that each cell runs, (n,), and what speaks against it; the reason is empty where nothing does."""

    probability: FloatArray
    reason: list[str]

    @property
    def infeasible(self) -> BoolArray:
        """Cells that are not answered, (n,)."""
        return np.asarray(self.probability < FEASIBLE)


def feasibility(X: pd.DataFrame, known: pd.DataFrame | None = None, facts: Facts | None = None) -> Feasibility:
    """What is known of whether the cells of X can run.

    Parameters
    ----------
    X : canonical table of cells (n rows)
    known : canonical table of measurements, failed ones too; None where there is none
    facts : published facts; by default the packaged ones and the user's files
    """
    probability, reason = _by_memory(X, load_facts(user_files()) if facts is None else facts)
    if known is not None and len(known) and "status" in known:
        _by_measurements(X, known, probability, reason)
    return Feasibility(probability, reason)


def _by_memory(X: pd.DataFrame, facts: Facts) -> tuple[FloatArray, list[str]]:
    ii, oo, load, kind = numbers_of(X, "input_tokens"), numbers_of(X, "output_tokens"), load_of(X), load_kind_of(X)
    probability, reason = np.ones(len(X)), [""] * len(X)
    code, first = group_codes(X, deployment_columns(X))
    for number, row in enumerate(first.tolist()):
        shape = _Shape.of(X.iloc[row], facts)
        if shape is None:
            continue
        rows = np.flatnonzero((code == number) & (kind >= 0) & (ii > 0) & (oo > 0) & (load > 0))
        static = (kind[rows] == _BATCH) & shape.static
        held = np.where(kind[rows] == _RATE, 1.0, load[rows])
        one = (ii[rows] + oo[rows]) * shape.kv_bytes
        need = shape.weights + np.where(static, held, 1.0) * one
        # a batch that a queue would go through many times is not one, whatever the engine does with it
        room = np.maximum(shape.memory - shape.weights, one)
        waves = np.where((kind[rows] == _BATCH) & ~static, held * one / room / MAX_WAVES, 0.0)
        excess = np.log(np.maximum(need / shape.memory, waves))
        probability[rows] = normal_cdf(-excess / shape.sd)
        queued = waves > need / shape.memory
        for i, at in enumerate(rows.tolist()):
            if probability[at] < LIKELY:
                sequences = held[i] if static[i] or queued[i] else 1.0
                reason[at] = shape.told(sequences, one[i], ii[at], oo[at], probability[at], queues=bool(queued[i]))
    return probability, reason


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a deployment's memory holds, bytes."""

    model: str
    accelerator: str
    engine: str
    weights: float
    kv_bytes: float
    memory: float
    devices: float
    static: bool
    sd: float

    @classmethod
    def of(cls, row: pd.Series, facts: Facts) -> _Shape | None:
        """The deployment of a row; None where too little is known of it, or where it lives elsewhere, too."""

        def text(name: str) -> str | None:
            value = row.get(name)
            return None if value is None or pd.isna(value) or not str(value).strip() else str(value)

        name, device_name, precision, engine = map(text, ("model", "accelerator", "precision", "engine"))
        if name is None or device_name is None or text("placement") not in (None, "accelerator"):
            return None
        model, device = facts.model(name), facts.accelerator(device_name)
        if not device.known:
            return None
        counts = [text("accelerator_count"), text("tensor_parallel_size")]
        devices = max((float(count) for count in counts if count is not None), default=MAX_DEVICES)
        item = 1.0 if any(_is_small_cache(str(column), row[column]) for column in row.index) else 2.0
        return cls(
            model=name,
            accelerator=device_name,
            engine=engine or "the engine",
            weights=model.parameters * weight_bytes(precision, name),
            kv_bytes=2.0 * model.layers * model.kv_heads * model.head_dim * item,
            memory=devices * device.memory_bytes,
            devices=devices,
            static=engine is None or engine.strip().lower() in STATIC_ENGINES,
            sd=KNOWN_SD if model.known else ESTIMATED_SD,
        )

    def told(self, sequences: float, one: float, ii: float, oo: float, chance: float, *, queues: bool) -> str:
        """The arithmetic, for people."""
        cache = sequences * one
        many = f"{self.devices:g} × " if self.devices > 1 else ""
        total = (
            f"{self.weights / 1e9:.4g} GB of weights and {cache / 1e9:.4g} GB of cache ({sequences:g} × "
            f"({ii:g} + {oo:g}) tokens × {self.kv_bytes / 1e3:.4g} kB) of {self.memory / 1e9:.4g} GB on "
            f"{many}{self.accelerator}"
        )
        if queues:
            room = max(self.memory - self.weights, one)
            return (
                f"infeasible as a static batch: {total}; {self.engine} would let most of it wait and go through its "
                f"memory {np.ceil(cache / room):g} times: ask for a concurrency"
            )
        if chance < FEASIBLE:
            return f"infeasible (chance of fitting {chance:.0%}): {total}"
        return f"may not fit (chance of fitting {chance:.0%}): {total}"


def _is_small_cache(column: str, value: object) -> bool:
    """Whether an option says that keys and values take one byte each."""
    name = column.removeprefix(OPTION_PREFIX).lower()
    if not column.startswith(OPTION_PREFIX) or "kv" not in name or value is None:
        return False
    told = f"{name} {value}".lower()
    return "8" in told and str(value).lower() not in ("false", "0", "0.0", "nan", "none", "auto", "fp16", "bf16")


def _by_measurements(X: pd.DataFrame, known: pd.DataFrame, probability: FloatArray, reason: list[str]) -> None:
    """Put what was measured in the place of what the formula says."""
    status = known["status"].fillna(Status.OK).astype(str).to_numpy()
    if (status == Status.OK).all() and (probability >= 1).all():
        return  # nothing to put in place of anything
    names = list(dict.fromkeys([*deployment_columns(X), *deployment_columns(known)]))
    both = pd.concat([part.reindex(columns=names).astype(object) for part in (X, known)], ignore_index=True)
    code, _ = group_codes(both, names)
    kind = np.append(load_kind_of(X), load_kind_of(known))
    curve = np.where(kind < 0, -1, len(LOAD_COLUMNS) * code + kind)
    own, theirs = curve[: len(X)], curve[len(X) :]
    told = _Told(_axes(known), status == Status.OK, status == Status.OUT_OF_MEMORY, status, known)
    doubtful = (own >= 0) & (np.isin(own, theirs[status != Status.OK]) | (probability < 1))
    asked = _axes(X)
    for number in np.unique(own[doubtful]):
        near = np.flatnonzero(theirs == number)
        if len(near):
            for row in np.flatnonzero(doubtful & (own == number)):
                probability[row], reason[row] = told.of(asked[row], near, probability[row], reason[row])


@dataclass(frozen=True, slots=True)
class _Told:
    """What measurements say: their axes (k, 3), which ran, which ran out of memory, how each ended."""

    axes: FloatArray
    ran: BoolArray
    exhausted: BoolArray
    status: NDArray[np.object_]
    known: pd.DataFrame

    def of(self, here: FloatArray, near: IntArray, chance: float, reason: str) -> tuple[float, str]:
        """Of a cell at `here` (3,), from the measurements `near` of its deployment and kind of load."""
        there, ran, exhausted = self.axes[near], self.ran[near], self.exhausted[near]
        no_less, no_more = (there >= here - 1e-9).all(axis=1), (there <= here + 1e-9).all(axis=1)
        same = no_less & no_more
        if same.any():
            good = int(ran[same].sum())
            if good == same.sum():
                return 1.0, ""
            if good:
                return (good + 1) / (int(same.sum()) + 2), f"it ran in {good} of {int(same.sum())} measurements"
            ended = self.status[near][same][-1]
            how = "it ran out of memory" if ended == Status.OUT_OF_MEMORY else f"it ended as {ended}"
            return 0.0, f"infeasible: {how} when it was measured"
        if (ran & no_less).any():
            return 1.0, ""
        # a cell that ran once is no limit, even if it failed another time
        limits = np.array([not (ran & (there == each).all(axis=1)).any() for each in there]) & exhausted
        if (limits & no_more).any():
            at = near[np.flatnonzero(limits & no_more)[-1]]
            return 0.0, f"infeasible: {self._name(at)} ran out of memory, and this asks no less"
        lower, upper = np.flatnonzero(ran & no_more), np.flatnonzero(limits & no_less)
        if len(lower) and len(upper):
            held = np.log(there[:, 2] * (there[:, 0] + there[:, 1]))
            low, high = lower[np.argmax(held[lower])], upper[np.argmin(held[upper])]
            between = float((held[high] - np.log(here[2] * (here[0] + here[1]))) / (held[high] - held[low]))
            if between < chance:
                return between, (
                    f"may not fit (chance of fitting {between:.0%}): {self._name(near[low])} ran, "
                    f"{self._name(near[high])} ran out of memory"
                )
        return chance, reason

    def _name(self, at: int) -> str:
        row = self.known.iloc[int(at)]
        return f"{row['input_tokens']:g} tokens in, {row['output_tokens']:g} out, {load_label(row.to_dict())}"


def _axes(table: pd.DataFrame) -> FloatArray:
    return np.column_stack([numbers_of(table, "input_tokens"), numbers_of(table, "output_tokens"), load_of(table)])
