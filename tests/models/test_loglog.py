"""Log-log interpolation is exact on power laws and looks at nothing but the deployment."""

import numpy as np

from fewmark.models.baselines.loglog import LogLogInterpolation


def power_law(table):
    length = table["input_tokens"] + table["output_tokens"]
    return (3.0 * length**0.4 * table["batch_size"] ** 0.7).to_numpy()


def test_a_power_law_is_met_inside_and_beyond_in_length_and_in_load(make_table):
    table = make_table(2)
    y = power_law(table) * np.where(table["model"] == "model-1", 5.0, 1.0)
    hidden = table["input_tokens"].isin([256.0, 1024.0]).to_numpy() | (table["batch_size"] == 64.0).to_numpy()
    model = LogLogInterpolation().fit(table[~hidden], y[~hidden])
    np.testing.assert_allclose(model.predict(table[hidden]), y[hidden], rtol=1e-9)


def test_at_a_measured_load_only_that_load_counts(make_table):
    table = make_table(1)
    y = power_law(table)
    hidden = ((table["input_tokens"] == 256) & (table["batch_size"] == 4)).to_numpy()
    spoiled = np.where(table["batch_size"] == 4, y, 1e6 * y)
    model = LogLogInterpolation().fit(table[~hidden], spoiled[~hidden])
    np.testing.assert_allclose(model.predict(table[hidden]), y[hidden], rtol=1e-9)


def test_one_cell_is_a_constant(make_table):
    table = make_table(1)
    model = LogLogInterpolation().fit(table.iloc[[5]], np.array([7.0]))
    np.testing.assert_allclose(model.predict(table), 7.0)


def test_an_unseen_deployment_gets_no_answer(make_table):
    table = make_table(2)
    known = (table["model"] == "model-0").to_numpy()
    model = LogLogInterpolation().fit(table[known], power_law(table)[known])
    assert np.isnan(model.predict(table[~known])).all()
