"""A world whose truth is known: a roofline with effects of engine, accelerator and model, and noise of known size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from fewmark.facts.facts import load_facts
from fewmark.models.auto.features import Encoder, featurise

LENGTHS = (128, 256, 512, 1024, 2048)
BATCHES = (1, 16, 32, 64)


def world(
    seed: int = 0,
    *,
    engines: int = 2,
    accelerators: tuple[str, ...] = ("A100", "H100", "MI250"),
    models: tuple[str, ...] = ("llama-2-7b", "qwen2-7b", "llama-3-70b"),
    noise: float = 0.01,
    concurrency: bool = False,
) -> pd.DataFrame:
    """Cells with their throughput in the column y."""
    rng = np.random.default_rng(seed)
    load = "concurrency" if concurrency else "batch_size"
    cells = pd.DataFrame(
        [
            {"engine": f"engine-{e}", "model": m, "accelerator": a, "accelerator_count": 4.0,
             "input_tokens": float(n), "output_tokens": float(n), load: float(b)}
            for e in range(engines) for a in accelerators for m in models for n in LENGTHS for b in BATCHES
        ]
    )  # fmt: skip
    table = featurise(cells, "throughput_tok_s", load_facts(), Encoder())
    codes = table.inputs.codes
    level = sum(0.2 * rng.standard_normal(codes[:, g].max() + 1)[codes[:, g]] for g in (0, 1, 2))
    slope = 0.03 * rng.standard_normal(codes[:, 4].max() + 1)[codes[:, 4]] * (table.axes[:, 2] - 3)
    bend = 0.02 * np.sin(table.axes[:, 0] - 7 + codes[:, 1])
    latency = table.log_roofline + level + slope + bend + noise * rng.standard_normal(len(cells))
    return cells.assign(y=np.exp(table.to_latency - latency))


@pytest.fixture(scope="session")
def make_world() -> Callable[..., pd.DataFrame]:
    return world


@pytest.fixture(scope="session")
def cells() -> pd.DataFrame:
    return world()
