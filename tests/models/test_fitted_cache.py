"""Fitted models kept between processes: found for the same question, never for another, never an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewmark.models import cache
from fewmark.models.auto.latency_gp import LatencyGP
from fewmark.models.base import Model
from fewmark.models.cache import FittedModels, cache_folder
from fewmark.models.registry import make_model


@pytest.fixture(autouse=True)
def _small_tables_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MIN_CELLS", 1)


def table() -> tuple[pd.DataFrame, np.ndarray]:
    cells = pd.DataFrame(
        [("vllm", model, "H100", 1.0, float(n), 128.0, float(b)) for model in ("llama-2-7b", "mistral-7b", "qwen2-7b")
         for n in (128, 512, 1024) for b in (1, 8, 32)],
        columns=["engine", "model", "accelerator", "accelerator_count", "input_tokens", "output_tokens", "batch_size"],
    )  # fmt: skip
    b = cells.batch_size.to_numpy()
    return cells, 1000 * b / (1 + 0.02 * b + cells.input_tokens.to_numpy() / 4000)


def fit(folder: Path | None, X: pd.DataFrame, y: np.ndarray, **parameters: object) -> tuple[Model, FittedModels]:
    models = FittedModels(folder)
    found = models.fit(make_model("auto", **parameters), X, y)  # type: ignore[arg-type]
    return found, models


def n_fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted: list[int] = []
    fitted = LatencyGP.fit

    def counting(self: LatencyGP, X: pd.DataFrame, y: np.ndarray) -> LatencyGP:
        counted.append(len(X))
        return fitted(self, X, y)

    monkeypatch.setattr(LatencyGP, "fit", counting)
    return counted


def test_a_second_question_finds_the_model_and_what_was_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table()
    counted = n_fits(monkeypatch)
    first, models = fit(tmp_path, X, y)
    asked = X.assign(batch_size=X.batch_size * 1.5)
    before = first.predict_interval(asked)
    models.keep()
    again, models = fit(tmp_path, X, y)
    assert counted == [len(X)]
    assert again.n_worked_out() == first.n_worked_out() > 0
    monkeypatch.setattr("fewmark.models.auto.leave_out.Calibrator._leave_out", None)  # nothing is left out anew
    np.testing.assert_allclose(again.predict_interval(asked), before, rtol=1e-7)
    models.keep()
    assert len(list(tmp_path.iterdir())) == 1


def test_other_values_parameters_or_code_are_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table()
    fit(tmp_path, X, y)[1].keep()
    counted = n_fits(monkeypatch)
    fit(tmp_path, X, np.append(y[:-1], 1.001 * y[-1]))
    fit(tmp_path, X.assign(engine="tgi"), y)
    fit(tmp_path, X, y, random_state=1)
    fit(tmp_path, X, y, target="total_throughput_tok_s")
    monkeypatch.setattr(cache, "_code", lambda: "other code")
    fit(tmp_path, X, y)
    assert len(counted) == 5


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive at all"])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table()
    fit(tmp_path, X, y)[1].keep()
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    counted = n_fits(monkeypatch)
    fit(tmp_path, X, y)[1].keep()
    fit(tmp_path, X, y)
    assert counted == [len(X)]


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    X, y = table()
    (tmp_path / "file").write_text("no folder")
    model, models = fit(tmp_path / "file", X, y)
    models.keep()
    assert np.isfinite(model.predict(X)).all()


def test_the_least_recently_used_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table()
    for factor in (1.0, 2.0, 3.0):
        fit(tmp_path, X, factor * y)[1].keep()
    size = max(path.stat().st_size for path in tmp_path.iterdir())
    fit(tmp_path, X, y)  # used again
    monkeypatch.setattr(cache, "MAX_BYTES", int(2.5 * size))
    fit(tmp_path, X, 4 * y)[1].keep()
    counted = n_fits(monkeypatch)
    fit(tmp_path, X, y)
    fit(tmp_path, X, 4 * y)
    assert counted == [] and len(list(tmp_path.iterdir())) == 2


def test_the_variable_names_the_folder_or_switches_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    assert cache_folder() == tmp_path
    for off in ("", "off", "0"):
        monkeypatch.setenv(cache.VARIABLE, off)
        assert cache_folder() is None


def test_a_point_predictor_is_kept_with_its_conformal_intervals(tmp_path: Path) -> None:
    X, y = table()
    models = FittedModels(tmp_path)
    first = models.fit(make_model("mechanistic"), X, y)
    models.keep()
    again = FittedModels(tmp_path).fit(make_model("mechanistic"), X, y)
    assert len(list(tmp_path.iterdir())) == 1
    np.testing.assert_array_equal(again.predict_interval(X), first.predict_interval(X))
