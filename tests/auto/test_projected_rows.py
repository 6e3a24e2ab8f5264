"""Rows that were projected count as far as their intervals let them; rows without one count as ever."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from fewmark.models.auto.featuriser import Featuriser
from fewmark.models.auto.model import AutoModel
from fewmark.models.base import learned_columns
from fewmark.models.persistence import load_model, save_model
from fewmark.tables.identity import cell_columns
from fewmark.tables.precision import INTERVAL, log_sd
from fewmark.tables.repeats import median_of_repeats, target_cells

TARGET = "e2e_latency_s"


@pytest.fixture(scope="module")
def known(make_world: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Cells of four deployments with their latency."""
    cells = make_world(engines=1, accelerators=("A100", "H100"), models=("llama-2-7b", "qwen2-7b"), noise=0.02)
    latency = cells["batch_size"] * cells["output_tokens"] / cells["y"]
    return cells.drop(columns="y").assign(**{TARGET: latency})


def with_interval(frame: pd.DataFrame, rows: np.ndarray, sd: float) -> pd.DataFrame:
    half = sd * 1.6448536269514722
    ends = [np.where(rows, frame[TARGET] * np.exp(sign * half), np.nan) for sign in (-1, 1)]
    return frame.assign(**dict(zip(INTERVAL, (*ends, np.where(rows, 0.9, np.nan)), strict=True)))


def fitted(frame: pd.DataFrame) -> AutoModel:
    model = AutoModel(target=TARGET)
    return model.fit(frame[learned_columns(frame, model)], frame[TARGET].to_numpy())


def strayed(known: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The cells, one deployment's longest of them a third too slow, and which these are."""
    rows = (known["accelerator"] == "H100") & (known["model"] == "qwen2-7b") & (known["input_tokens"] == 2048)
    return known.assign(**{TARGET: known[TARGET] * np.where(rows, 1.33, 1.0)}), rows.to_numpy()


def test_a_wide_interval_moves_the_posterior_less_than_a_measurement(known: pd.DataFrame) -> None:
    wrong, rows = strayed(known)
    asked = known[rows][cell_columns(known)]
    truth = known.loc[rows, TARGET].to_numpy()
    moved = [
        float(np.median(np.log(fitted(frame).predict(asked) / truth)))
        for frame in (wrong, with_interval(wrong, rows, 0.02), with_interval(wrong, rows, 0.3))
    ]
    assert moved[0] > 0.15  # measured: believed
    assert moved[0] >= moved[1] - 0.02 and moved[2] < 0.6 * moved[0]


def test_a_wide_interval_leaves_a_wider_prediction(known: pd.DataFrame) -> None:
    rows = ((known["accelerator"] == "H100") & (known["model"] == "qwen2-7b")).to_numpy()
    asked = known[rows][cell_columns(known)]
    sds = [fitted(frame).process_.estimate(asked).sd for frame in (known, with_interval(known, rows, 0.2))]
    assert np.median(sds[1]) > 1.2 * np.median(sds[0])


def test_without_intervals_nothing_changes_by_a_bit(known: pd.DataFrame) -> None:
    asked = known.iloc[::7][cell_columns(known)].assign(input_tokens=900.0)
    none = known.assign(**dict.fromkeys(INTERVAL, np.nan))
    one, other = (fitted(frame) for frame in (known, none))
    assert np.array_equal(one.predict_interval(asked), other.predict_interval(asked))
    assert np.array_equal(one.predict(asked), other.predict(asked))


def test_it_holds_when_a_row_is_added_and_when_the_model_is_saved(known: pd.DataFrame, tmp_path: object) -> None:
    wrong, rows = strayed(known)
    asked = known[rows][cell_columns(known)]
    sure, unsure = (fitted(known[~rows]) for _ in range(2))
    before = sure.predict(asked)
    doubted = with_interval(wrong, rows, 0.5)[rows]
    sure.add(wrong[rows], wrong.loc[rows, TARGET].to_numpy())
    unsure.add(doubted, doubted[TARGET].to_numpy())
    shift = [np.median(np.abs(np.log(model.predict(asked) / before))) for model in (sure, unsure)]
    assert shift[1] < 0.6 * shift[0]
    model = fitted(with_interval(wrong, rows, 0.3))
    path = tmp_path / "m.fewmark"  # type: ignore[operator]
    save_model(model, path)
    again = load_model(path)
    assert np.allclose(model.predict_interval(asked), again.predict_interval(asked), rtol=1e-9)


def test_the_time_of_each_token_is_doubted_more_than_the_whole_and_the_first_not_at_all(known: pd.DataFrame) -> None:
    frame = with_interval(known, np.ones(len(known), dtype=bool), 0.1)
    frame["ttft_s"] = 0.5 * frame[TARGET]
    found = {
        name: np.sqrt(Featuriser(name).projected_variance(frame)).mean()
        for name in ("ttft_s", "e2e_latency_s", "throughput_tok_s", "tpot_s")
    }
    assert found == pytest.approx({"ttft_s": 0, "e2e_latency_s": 0.1, "throughput_tok_s": 0.1, "tpot_s": 0.2})


def test_the_table_of_cells_keeps_an_interval_unless_the_cell_was_measured_too(known: pd.DataFrame) -> None:
    rows = np.arange(len(known)) % 2 == 0
    frame = with_interval(known.assign(status="ok"), rows, 0.1)
    twice = pd.concat([frame, known.iloc[:1].assign(status="ok")], ignore_index=True)
    X, _ = target_cells(twice, "throughput_tok_s")
    assert log_sd(X)[0] == 0 and log_sd(X)[2] == pytest.approx(0.1)
    assert log_sd(X)[1] == 0 and (log_sd(X) > 0).sum() == rows.sum() - 1
    assert not set(INTERVAL) & set(map(str, median_of_repeats(known, known[TARGET])[0]))


@pytest.mark.parametrize(("low", "high"), [(None, 2.0), (2.0, 1.0), (0.0, 1.0), (-1.0, 1.0), ("x", 1.0), (1.0, 1.0)])
def test_an_interval_that_is_none_says_nothing(low: object, high: object) -> None:
    frame = pd.DataFrame({INTERVAL[0]: [low], INTERVAL[1]: [high]})
    assert log_sd(frame).tolist() == [0.0]
