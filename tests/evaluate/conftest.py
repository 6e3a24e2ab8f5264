"""Made-up tables for the protocols: uneven deployments, repeats, some not eligible, several accelerators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

PAIRS = ((128, 128), (64, 512), (512, 64), (512, 512), (1024, 256), (2048, 2048))


def made_up(n_deployments: int = 12, seed: int = 0, *, repeats: bool = True) -> pd.DataFrame:
    """Deployments with 4 to 6 pairs and 4 or 5 loads, holes among them; every fourth is too small to be eligible."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n_deployments):
        small = number % 4 == 3
        pairs = PAIRS[: 3 if small else int(rng.integers(4, 7))]
        loads = (1, 4, 16, 64, 256)[: int(rng.integers(4, 6))]
        hole = (
            (0, 0) if len(pairs) * len(loads) < 17 else (int(rng.integers(len(pairs))), int(rng.integers(len(loads))))
        )
        for i, (ii, oo) in enumerate(pairs):
            for j, bb in enumerate(loads):
                if (i, j) == hole and len(pairs) * len(loads) > 16:
                    continue
                seconds = (0.02 + oo * (0.01 + 2e-4 * bb) + 1e-5 * bb * ii) * (1 + number % 5)
                for _ in range(1 + 2 * int(repeats and rng.random() < 0.3)):
                    noisy = seconds * float(np.exp(0.05 * rng.standard_normal()))
                    rows.append(
                        {
                            "engine": ("vllm", "sglang")[number % 2],
                            "model": f"model-{number % 6}",
                            "precision": None if number < 6 else "fp8",
                            "accelerator": ("a", "b", None)[number % 3],
                            "input_tokens": float(ii),
                            "output_tokens": float(oo),
                            "batch_size": float(bb),
                            "concurrency": np.nan,
                            "throughput_tok_s": bb * oo / noisy,
                            "status": "ok",
                        }
                    )
    order = rng.permutation(len(rows))
    return pd.DataFrame(rows).iloc[order].reset_index(drop=True)


@pytest.fixture
def table() -> pd.DataFrame:
    return made_up()


@pytest.fixture
def make_table() -> Callable[..., pd.DataFrame]:
    return made_up


@pytest.fixture(scope="module")
def small_table() -> pd.DataFrame:
    return made_up(6)
