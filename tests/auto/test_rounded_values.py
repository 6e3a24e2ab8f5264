"""Tables print few digits: what rounding took away is neither learned from nor missed by intervals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewmark.models.auto import latency_gp
from fewmark.models.auto.model import AutoModel
from fewmark.models.persistence import load_model, save_model
from fewmark.tables.identity import cell_columns
from fewmark.tables.precision import rounding_step

TARGET = "e2e_latency_s"


@pytest.fixture(scope="module")
def table(make_world: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Cells with their latency: from five steps of a millisecond up, a few in a hundred off for rounding alone."""
    cells = make_world(engines=1, noise=0.003)
    latency = cells["batch_size"] * cells["output_tokens"] / cells["y"]
    return cells.drop(columns="y").assign(**{TARGET: np.round(5e-3 * latency / latency.min(), 3)})


@given(
    st.lists(st.integers(min_value=8, max_value=5000), min_size=12, max_size=60),
    st.integers(min_value=-5, max_value=1),
)
def test_the_step_is_found_and_medians_of_two_do_not_hide_it(counts: list[int], power: int) -> None:
    values = np.array([11, 13, *counts]) * 10.0**power
    assert rounding_step(values) == pytest.approx(10.0**power)
    values[1] += 0.5 * 10.0**power
    assert rounding_step(values) == pytest.approx(10.0**power)


def test_values_with_all_their_digits_or_few_of_them_are_not_rounded() -> None:
    values = np.random.default_rng(0).uniform(0.01, 3.0, 50)
    assert rounding_step(values) == 0.0
    assert rounding_step(np.round(values[:7], 3)) == 0.0


def test_intervals_hold_where_values_have_few_digits(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = np.random.default_rng(1).random(len(table)) < 0.5
    small = table[hidden & (table[TARGET] < 0.02)]
    assert len(small) > 10

    def covered() -> float:
        model = AutoModel(target=TARGET).fit(table[~hidden][cell_columns(table)], table[TARGET][~hidden])
        low, high = model.predict_interval(small[cell_columns(table)], 0.9).T
        return float(np.mean((low <= small[TARGET]) & (small[TARGET] <= high)))

    told = covered()
    monkeypatch.setattr(latency_gp, "rounding_step", lambda values: 0.0)
    assert told >= 0.85 and told > covered()


def test_a_saved_model_remembers_the_step(table: pd.DataFrame, tmp_path: Path) -> None:
    cells = table[cell_columns(table)]
    model = AutoModel(target=TARGET).fit(cells, table[TARGET])
    assert model.process_.featuriser_.step == pytest.approx(1e-3)
    save_model(model, tmp_path / "m.fewmark")
    loaded = load_model(tmp_path / "m.fewmark")
    np.testing.assert_allclose(loaded.predict_interval(cells, 0.8), model.predict_interval(cells, 0.8))
