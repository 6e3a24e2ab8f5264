"""One suite for every registered model: what `fewmark.models.base.Model` promises."""

import json

import numpy as np
import pandas as pd
import pytest

from fewmark.core import ModelError
from fewmark.core.values import PREDICTION_PROVENANCES
from fewmark.models.registry import MODELS, make_model, model_names
from fewmark.tables.cells import read_cells

pytestmark = pytest.mark.xdist_group("models")  # fitted once, in one process
TARGET = "throughput_tok_s"


@pytest.fixture(scope="module")
def fitted():
    """Each model fitted once, on all but the cells of one length and one whole deployment."""
    return {}


@pytest.fixture(params=sorted(MODELS))
def name(request):
    return request.param


@pytest.fixture
def table(make_table):
    return make_table(4, noise=0.03)


@pytest.fixture
def known(table):
    return table[(table["input_tokens"] != 256) & (table["model"] != "model-3")]


@pytest.fixture
def model(name, fitted, known):
    if name not in fitted:
        fitted[name] = make_model(name, target=TARGET).fit(known, known[TARGET].to_numpy())
    return fitted[name]


@pytest.mark.slow
def test_answers_have_their_shapes_and_silences_their_reasons(model, table):
    value, interval = model.predict(table), model.predict_interval(table)
    assert value.shape == (len(table),) and interval.shape == (len(table), 2)
    answered = np.isfinite(value)
    assert (value[answered] > 0).all() and (interval[answered] > 0).all()
    assert (interval[answered, 0] <= value[answered]).all() and (value[answered] <= interval[answered, 1]).all()
    assert np.isnan(interval[~answered]).all()
    provenance, reasons = model.provenance(table), model.abstentions(table)
    assert set(provenance.tolist()) <= set(PREDICTION_PROVENANCES)
    assert ((provenance == "abstained") == ~answered).all()
    assert [bool(reason) for reason in reasons] == (~answered).tolist()
    similarity = model.similarity(table)
    assert ((similarity >= 0) & (similarity <= 1)).all()


def test_known_deployments_are_answered_well(model, table):
    hidden = table[(table["input_tokens"] == 256) & (table["model"] != "model-3")]
    value = model.predict(hidden)
    assert np.median(np.abs(value / hidden[TARGET].to_numpy() - 1)) < 0.5
    assert set(model.provenance(hidden).tolist()) == {"interpolated"}


def test_measured_cells_say_so(model, known):
    assert set(model.provenance(known).tolist()) <= {"measured"}


def test_the_order_of_rows_and_foreign_columns_change_nothing(model, table):
    order = np.random.default_rng(0).permutation(len(table))
    mixed = table.iloc[order].assign(note="anything", source="elsewhere")
    np.testing.assert_allclose(model.predict(mixed), model.predict(table)[order], rtol=1e-9)
    np.testing.assert_allclose(model.predict_interval(mixed), model.predict_interval(table)[order], rtol=1e-9)


def test_one_row_is_answered_as_among_many(model, table):
    alone = [model.predict(table.iloc[[i]])[0] for i in range(0, len(table), 7)]
    np.testing.assert_allclose(alone, model.predict(table)[::7], rtol=1e-9)


def test_no_rows_give_no_answers(model, table):
    none = table.iloc[:0]
    assert model.predict(none).shape == (0,)
    assert model.predict_interval(none).shape == (0, 2)
    assert model.abstentions(none) == []


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model(name, model, known, table):
    again = make_model(name, target=TARGET).fit(known, known[TARGET].to_numpy())
    np.testing.assert_array_equal(again.predict_interval(table), model.predict_interval(table))


def test_higher_levels_are_wider(model, table):
    half, most = model.predict_interval(table, 0.5), model.predict_interval(table, 0.9)
    answered = np.isfinite(half).all(axis=1)
    assert (most[answered, 0] <= half[answered, 0] * (1 + 1e-9)).all()
    assert (most[answered, 1] >= half[answered, 1] * (1 - 1e-9)).all()


@pytest.mark.parametrize("level", [0.0, 1.0, np.nan])
@pytest.mark.slow
def test_levels_that_are_none_are_refused(model, table, level):
    with pytest.raises(ModelError):
        model.predict_interval(table, level)


def test_a_design_chooses_as_many_cells_of_each_deployment(model, table):
    deployment = read_cells(table).deployment
    for k in (1, 2, 4):
        chosen = model.design(table, k)
        assert len(set(chosen.tolist())) == len(chosen)
        assert np.bincount(deployment[chosen], minlength=4).tolist() == [k] * 4


def test_forecasts_are_errors(model, table):
    forecast = model.forecast_error(table[table["model"] != "model-3"])
    assert 0 <= forecast < 2


def test_the_state_is_data(model):
    state, arrays = model.to_state()
    assert json.loads(json.dumps(state)) == json.loads(json.dumps(state))
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in arrays.values())


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda X, y: (X.iloc[:0], y[:0]), id="nothing"),
        pytest.param(lambda X, y: (X, y[:-1]), id="fewer values"),
        pytest.param(lambda X, y: (X, np.r_[np.nan, y[1:]]), id="unknown value"),
        pytest.param(lambda X, y: (X, np.r_[-1.0, y[1:]]), id="negative value"),
        pytest.param(lambda X, y: (X.drop(columns="input_tokens"), y), id="no input_tokens"),
        pytest.param(lambda X, y: (X.assign(batch_size=np.nan), y), id="no load"),
        pytest.param(lambda X, y: (X.assign(output_tokens=0.0), y), id="no output"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(name, known, spoil):
    with pytest.raises(ModelError):
        make_model(name, target=TARGET).fit(*spoil(known, known[TARGET].to_numpy()))


def test_an_unfitted_model_says_so(name, table):
    with pytest.raises(ModelError, match="fit"):
        make_model(name, target=TARGET).predict(table)


@pytest.mark.slow
def test_repeats_of_a_cell_are_one_cell(name, model, known, table):
    X = pd.concat([known, known], ignore_index=True)
    twice = make_model(name, target=TARGET).fit(X, np.tile(known[TARGET].to_numpy(), 2))
    value, expected = twice.predict(table), model.predict(table)
    assert (np.isnan(value) == np.isnan(expected)).all()
    known_deployments = (table["model"] != "model-3").to_numpy()
    assert np.nanmedian(np.abs(np.log(value / expected))[known_deployments]) < 0.03


def test_names_are_known_and_mistakes_get_a_hint():
    assert model_names()[: len(MODELS)] == list(MODELS)
    with pytest.raises(ModelError, match="did you mean loglog"):
        make_model("log-log")
    with pytest.raises(ModelError, match="target"):
        make_model("loglog", target="throughput")
