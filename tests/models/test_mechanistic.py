"""The latency law: recovered, inverted for every target, sane where cells are few, silent where none is known."""

import numpy as np
import pytest

from fewmark.models.analytic.mechanistic import Mechanistic
from fewmark.tables.identity import cell_columns


def varied(make_table, law, **parameters):
    """A table with unequal input and output, so that every term can be told from the others."""
    latency_s, _ = law
    table = make_table(1, lengths=(64, 128, 512, 2048), loads=(1, 2, 8, 32, 128), **parameters)
    table = table.loc[table.index.repeat(3)].reset_index(drop=True)
    table["output_tokens"] = np.tile([32.0, 256.0, 1024.0], len(table) // 3)
    load = table["batch_size"].fillna(table["concurrency"]).to_numpy()
    table["e2e_latency_s"] = latency_s(table["input_tokens"].to_numpy(), table["output_tokens"].to_numpy(), load)
    table["throughput_tok_s"] = load * table["output_tokens"] / table["e2e_latency_s"]
    table["total_throughput_tok_s"] = load * (table["input_tokens"] + table["output_tokens"]) / table["e2e_latency_s"]
    return table


@pytest.mark.parametrize("target", ["e2e_latency_s", "throughput_tok_s", "total_throughput_tok_s"])
def test_the_coefficients_are_recovered_from_any_target(make_table, law, target):
    table = varied(make_table, law)
    model = Mechanistic(target=target).fit(table[cell_columns(table)], table[target].to_numpy())
    np.testing.assert_allclose(model.coefficients_[0], law[1], rtol=0.02)


def test_concurrency_counts_as_load(make_table, law):
    table = varied(make_table, law, online=True)
    model = Mechanistic(target="e2e_latency_s").fit(table, table["e2e_latency_s"].to_numpy())
    np.testing.assert_allclose(model.predict(table), table["e2e_latency_s"], rtol=1e-3)


@pytest.mark.parametrize(
    ("target", "terms"), [("ttft_s", (0.02, 2e-4, 1e-5, 2e-10)), ("tpot_s", (0.01, 2e-4, 1e-7, 0.0))]
)
def test_the_parts_of_the_latency_follow_their_own_terms(make_table, law, target, terms):
    table = varied(make_table, law)
    ii, oo, bb = (table[name].to_numpy() for name in ("input_tokens", "output_tokens", "batch_size"))
    if target == "ttft_s":
        y = terms[0] + terms[1] * bb + terms[2] * bb * ii + terms[3] * bb * ii**2
    else:
        y = terms[0] + terms[1] * bb + terms[2] * bb * (ii + oo / 2)
    half = np.arange(len(table)) % 2 == 0
    model = Mechanistic(target=target).fit(table[half], y[half])
    np.testing.assert_allclose(model.predict(table[~half]), y[~half], rtol=0.01)


def test_throughput_rises_with_batch_and_saturates(make_table):
    table = make_table(1, noise=0.02)
    model = Mechanistic().fit(table, table["throughput_tok_s"].to_numpy())
    row = table.iloc[[0] * 12].assign(batch_size=2.0 ** np.arange(12))
    gain = np.diff(np.log(model.predict(row)))
    assert (gain > -1e-9).all()
    assert gain[-1] < 0.2 * gain[0]


def test_one_cell_gives_a_latency_that_grows_with_length_and_batch(make_table):
    table = make_table(1)
    one = table[(table["input_tokens"] == 256) & (table["batch_size"] == 16)]
    model = Mechanistic(target="e2e_latency_s").fit(one, one["e2e_latency_s"].to_numpy())
    np.testing.assert_allclose(model.predict(one), one["e2e_latency_s"], rtol=1e-3)
    longer, larger = one.assign(output_tokens=1024.0), one.assign(batch_size=64.0)
    now = one["e2e_latency_s"].iloc[0]
    assert 2 * now < model.predict(longer)[0] < 8 * now
    assert now < model.predict(larger)[0] < 4 * now


def test_other_deployments_and_other_kinds_of_load_get_no_answer(make_table):
    table = make_table(2)
    known = table[table["model"] == "model-0"]
    model = Mechanistic().fit(known, known["throughput_tok_s"].to_numpy())
    assert np.isnan(model.predict(table[table["model"] == "model-1"])).all()
    online = known.assign(concurrency=known["batch_size"], batch_size=np.nan)
    assert np.isnan(model.predict(online)).all()
