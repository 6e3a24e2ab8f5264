"""A made-up table: deployments that obey a known latency law, with noise where wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from fewmark.tables.arrays import FloatArray

COEFFICIENTS = np.array([0.02, 0.01, 2e-4, 1e-5, 1e-7, 2e-10])


def latency_s(ii: FloatArray, oo: FloatArray, bb: FloatArray, k: FloatArray = COEFFICIENTS) -> FloatArray:
    return np.asarray(np.c_[np.ones_like(ii), oo, oo * bb, bb * ii, bb * oo * (ii + oo / 2), bb * ii**2] @ k)


def made_up(
    n_deployments: int = 3,
    *,
    lengths: Sequence[int] = (128, 256, 512, 1024),
    loads: Sequence[int] = (1, 4, 16, 64),
    noise: float = 0.0,
    seed: int = 0,
    online: bool = False,
) -> pd.DataFrame:
    """A canonical table; deployment number d is d + 1 times as slow as the first."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n_deployments):
        for ii in lengths:
            for bb in loads:
                seconds = float(latency_s(np.array([ii]), np.array([ii]), np.array([bb]))[0]) * (number + 1)
                seconds *= float(np.exp(noise * rng.standard_normal()))
                rows.append(
                    {
                        "engine": ("vllm", "other")[number % 2],
                        "model": f"model-{number}",
                        "accelerator": ("a", "b")[number // 2 % 2],
                        "accelerator_count": 1.0,
                        "input_tokens": float(ii),
                        "output_tokens": float(ii),
                        "batch_size": np.nan if online else float(bb),
                        "concurrency": float(bb) if online else np.nan,
                        "throughput_tok_s": bb * ii / seconds,
                        "e2e_latency_s": seconds,
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture
def make_table() -> Callable[..., pd.DataFrame]:
    return made_up


@pytest.fixture
def law() -> tuple[Callable[..., FloatArray], FloatArray]:
    return latency_s, COEFFICIENTS
