"""Clean tables from a latency law with noise, on grids of several kinds.

e2e = overhead + prefill (bandwidth or compute) + output × step, a step being the larger of reading the weights and
computing the batch, plus reading the cache; beyond the cache's capacity, batches run one after the other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

Cell = tuple[float, float, float]
LENGTHS = (128, 256, 512, 1024, 2048)
BATCHES = (1, 16, 32, 64)
MODELS = {"alpha-7b": 7.0, "beta-13b": 13.0, "gamma-34b": 34.0, "delta-70b": 70.0}
CHIPS = {
    "A100": (2.0, 300.0, 80.0),
    "H100": (3.3, 900.0, 80.0),
    "MI250": (1.6, 180.0, 64.0),
    "Gaudi2": (2.4, 400.0, 96.0),
}
ENGINES = {"fast": 1.0, "slow": 1.6}


def diagonal() -> list[Cell]:
    """Input equals output, times batch."""
    return [(n, n, b) for n in LENGTHS for b in BATCHES]


def full() -> list[Cell]:
    """Input × output × batch."""
    return [(i, o, b) for i in (128, 512, 2048) for o in (64, 256, 1024) for b in (1, 4, 16, 64)]


def one_axis_at_a_time() -> list[Cell]:
    """A star around one cell."""
    centre = (512.0, 128.0, 1.0)
    cells = {centre}
    cells |= {(i, 128, 1) for i in (128, 256, 1024, 2048, 4096)}
    cells |= {(512, o, 1) for o in (256, 512, 1024, 2048)}
    cells |= {(512, 128, b) for b in (2, 4, 8, 16, 32, 64)}
    return sorted(cells)


def sparse() -> list[Cell]:
    """A third of the full grid, the same for every deployment."""
    return full()[::3]


GRIDS: dict[str, Callable[[], list[Cell]]] = {
    "diagonal": diagonal,
    "full": full,
    "one-axis": one_axis_at_a_time,
    "sparse": sparse,
}


def latency(model: float, chip: tuple[float, float, float], engine: float, count: int, cell: Cell) -> float:
    """Seconds of the whole batch."""
    ii, oo, bb = cell
    bandwidth, compute, memory = chip
    weights = 2 * model  # GB
    cache_per_token = 1.6e-5 * model  # GB
    room = max(memory * count * 0.9 - weights, 4.0)
    together = min(bb, max(1.0, room / (cache_per_token * (ii + oo))))
    rounds = bb / together
    step = max(weights / (1000 * bandwidth * count), 2 * model * together / (1000 * compute * count))
    step += cache_per_token * together * (ii + oo / 2) / (1000 * bandwidth * count) + 0.002
    prefill = 2 * model * ii * together / (1000 * compute * count)
    return engine * (0.05 + rounds * (prefill + oo * step))


def make_table(
    cells: Iterable[Cell],
    *,
    noise: float,
    seed: int,
    repeats: int = 1,
    drop: float = 0.0,
    online: bool = False,
    n_models: int = 4,
    n_chips: int = 4,
    counts: tuple[int, ...] = (1, 2, 4),
) -> pd.DataFrame:
    """A clean canonical table: noise is the standard deviation of the logarithm of each latency."""
    rng = np.random.default_rng(seed)
    cells = list(cells)
    rows = []
    for engine, slowness in ENGINES.items():
        for chip, speed in list(CHIPS.items())[:n_chips]:
            for model, size in list(MODELS.items())[:n_models]:
                for count in counts:
                    personal = float(np.exp(rng.normal(0, 0.1)))
                    for cell in cells:
                        if rng.random() < drop:
                            continue
                        for _ in range(repeats):
                            took = latency(size, speed, slowness, count, cell) * personal * np.exp(rng.normal(0, noise))
                            rows.append((engine, model, chip, count, *cell, float(took)))
    names = [
        "engine",
        "model",
        "accelerator",
        "accelerator_count",
        "input_tokens",
        "output_tokens",
        "load",
        "e2e_latency_s",
    ]
    frame = pd.DataFrame(rows, columns=names).astype(dict.fromkeys(names[3:], float))
    frame["status"] = "ok"
    frame["concurrency" if online else "batch_size"] = frame.pop("load")
    if not online:
        tokens = frame["input_tokens"] + frame["output_tokens"]
        frame["total_throughput_tok_s"] = frame["batch_size"] * tokens / frame["e2e_latency_s"]
        frame["throughput_tok_s"] = frame["batch_size"] * frame["output_tokens"] / frame["e2e_latency_s"]
    return frame


def set_latency(frame: pd.DataFrame, rows: Iterable[int], values: Iterable[float]) -> None:
    """Change latencies in place, with the throughputs that follow from them."""
    for row, value in zip(rows, values, strict=True):
        factor = value / float(frame["e2e_latency_s"].loc[row])
        frame.at[row, "e2e_latency_s"] = value
        for name in ("total_throughput_tok_s", "throughput_tok_s"):
            if name in frame:
                frame.at[row, name] = float(frame[name].loc[row]) / factor


@pytest.fixture(scope="session")
def room() -> ModuleType:
    """This machine room, for tests to make tables with."""
    return sys.modules[make_table.__module__]
