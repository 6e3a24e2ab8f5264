"""ALA over deployments (Algorithm 4), as the registry's model `ala`."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from fewmark.models.ala.regressor import AlaModel, AlaRegressor
from fewmark.models.registry import make_model


@pytest.fixture
def cells(grid, curve):
    X = grid([128, 512, 2048], [128, 1024], [1, 8, 32, 64])
    rows = pd.DataFrame(X, columns=["input_tokens", "output_tokens", "batch_size"])
    tables = []
    for factor, engine in ((1.0, "one"), (3.0, "two")):
        tables.append(rows.assign(engine=engine, accelerator_count=np.nan, throughput_tok_s=curve(X) * factor))
    return pd.concat(tables, ignore_index=True)


def test_each_deployment_is_an_ala_of_its_own(cells):
    model = AlaModel().fit(cells, cells["throughput_tok_s"].to_numpy())
    asked = cells.assign(input_tokens=300.0)
    for engine in ("one", "two"):
        mine = cells[cells["engine"] == engine]
        X = mine[["input_tokens", "output_tokens", "batch_size"]].to_numpy()
        alone = AlaRegressor().fit(X, mine["throughput_tok_s"])
        np.testing.assert_allclose(
            model.predict(asked[asked["engine"] == engine]), alone.predict(X * [0, 1, 1] + [300, 0, 0]), rtol=1e-5
        )


def test_rows_may_come_in_any_order_and_unknown_deployments_get_no_answer(cells):
    model = AlaModel().fit(cells, cells["throughput_tok_s"].to_numpy())
    shuffled = cells.sample(frac=1, random_state=0)
    np.testing.assert_allclose(model.predict(shuffled), shuffled["throughput_tok_s"], rtol=1e-4)
    assert np.isnan(model.predict(cells.assign(engine="three"))).all()


def test_concurrency_and_batch_size_are_different_loads(cells):
    online = cells.assign(concurrency=cells["batch_size"], batch_size=np.nan)
    online["throughput_tok_s"] *= 0.5
    both = pd.concat([cells, online], ignore_index=True)
    model = AlaModel().fit(both, both["throughput_tok_s"].to_numpy())
    np.testing.assert_allclose(model.predict(both), both["throughput_tok_s"], rtol=1e-4)


def test_latency_goes_by_way_of_throughput(cells):
    latency = (cells["batch_size"] * cells["output_tokens"] / cells["throughput_tok_s"]).to_numpy()
    model = AlaModel(target="e2e_latency_s").fit(cells, latency)
    np.testing.assert_allclose(model.predict(cells), latency, rtol=1e-4)


def test_state_round_trip_predicts_the_same(cells):
    model = AlaModel().fit(cells, cells["throughput_tok_s"].to_numpy())
    state, arrays = model.to_state()
    again = AlaModel.from_state(json.loads(json.dumps(state)), arrays)
    asked = cells.assign(input_tokens=300.0)
    np.testing.assert_array_equal(again.predict(asked), model.predict(asked))


def test_registered_model_has_intervals_around_its_prediction(cells):
    rng = np.random.default_rng(0)
    y = cells["throughput_tok_s"].to_numpy() * rng.lognormal(0, 0.03, len(cells))
    model = make_model("ala").fit(cells, y)
    ends = model.predict_interval(cells, 0.8)
    value = model.predict(cells)
    assert ((ends[:, 0] <= value) & (value <= ends[:, 1])).all()
