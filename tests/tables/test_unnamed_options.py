"""Columns that tell repeats apart are named as options; columns that do not are left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from fewmark.screening import screen
from fewmark.tables.unnamed_options import unnamed_options
from fewmark.verbs.source import read_source


def table(effect: float, *, repeats: int = 1, noise: float = 0.01) -> pd.DataFrame:
    """Cells measured under two power limits, by hosts that make no difference."""
    rng = np.random.default_rng(0)
    rows = []
    for batch in (1, 2, 4, 8, 16, 32):
        for limit in (300, 450):
            for _ in range(repeats):
                slower = np.exp(effect * (limit == 300) + noise * rng.standard_normal())
                rows.append(
                    {
                        "engine": "vllm", "model": "m", "accelerator": "H100",
                        "input_tokens": 512, "output_tokens": 128,
                        "batch_size": batch, "e2e_latency_s": (2 + 0.1 * batch) * slower, "power_limit_w": limit,
                        "host": f"node-{rng.integers(2)}", "peak_power": 400 + rng.standard_normal(),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_option_that_splits_repeats_is_named() -> None:
    for repeats in (1, 3):
        (found,) = unnamed_options(table(0.2, repeats=repeats))
        assert found.column == "power_limit_w"
        assert 0.15 < found.effect < 0.25
        assert found.n_cells == 6


def test_columns_that_split_nothing_stay_unnamed() -> None:
    assert unnamed_options(table(0.0)) == []
    assert unnamed_options(table(0.2).rename(columns={"power_limit_w": "option.power_limit_w"})) == []
    assert unnamed_options(table(0.05, noise=0.2)) == []


def test_reading_warns_and_offers_the_option(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    table(0.2).to_csv(path, index=False)
    (note,) = [note for note in read_source(str(path)).attrs["notes"] if "power_limit_w" in note]
    assert "option.power_limit_w" in note


def test_what_an_option_splits_does_not_contradict() -> None:
    wide = table(1.0, repeats=2)
    assert not [finding for finding in screen(wide) if finding.rule == "contradicting-repeats"]
