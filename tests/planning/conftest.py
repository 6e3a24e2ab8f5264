"""A made-up system that obeys the usual physics: prefill, a step that grows with batch and context, noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from fewmark.planning.space import Space
from fewmark.tables.arrays import FloatArray


@dataclass(frozen=True)
class Recorded:
    """A table with its space, the true throughput and the latency of each cell."""

    table: pd.DataFrame
    space: Space
    throughput: FloatArray
    latency_s: FloatArray


def made_up(
    models: tuple[str, ...] = ("m",), lengths: tuple[float, ...] = (128, 256, 512, 1024, 2048),
    loads: tuple[float, ...] = (1, 4, 16, 64), *, outputs: tuple[float, ...] = (), noise: float = 0.0, seed: int = 0,
) -> Recorded:  # fmt: skip
    rng = np.random.default_rng(seed)
    rows = []
    for index, model in enumerate(models):
        step = 0.01 * (1 + index)
        for ii in lengths:
            for oo in outputs or (ii,):
                for bb in loads:
                    prefill = 2e-5 * ii * bb * (1 + index)
                    e2e = prefill + oo * (step + 2e-4 * bb + 1e-7 * bb * (ii + oo / 2))
                    e2e *= float(np.exp(noise * rng.standard_normal()))
                    rows.append(
                        {"engine": "made-up", "model": model, "accelerator_count": 1.0, "input_tokens": float(ii),
                         "output_tokens": float(oo), "batch_size": float(bb), "concurrency": np.nan,
                         "e2e_latency_s": e2e, "ttft_s": prefill, "throughput_tok_s": bb * oo / e2e, "status": "ok"}
                    )  # fmt: skip
    table = pd.DataFrame(rows)
    space = Space.from_table(table)
    return Recorded(table, space, table["throughput_tok_s"].to_numpy(), table["e2e_latency_s"].to_numpy())


@pytest.fixture
def grid() -> Recorded:
    return made_up()


@pytest.fixture
def make_grid() -> Callable[..., Recorded]:
    return made_up
