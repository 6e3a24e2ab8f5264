"""Conformal intervals: the theory's coverage, on data where it must hold, at any level."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from fewmark.core import ModelError
from fewmark.models.conformal.cross_conformal import MIN_SCORES, CrossConformal, quantile, situations, weighted_median
from fewmark.models.conformal.support import Support
from fewmark.models.design import anchors
from fewmark.tables.cells import read_cells


class Law:
    """A point predictor that knows the law of `cells` and learns nothing: its errors are exchangeable."""

    pools_deployments = False

    def __init__(self, *, target="throughput_tok_s", random_state=0):
        pass

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.asarray(X["input_tokens"] * X["batch_size"], float)

    def to_state(self):
        return {}, {}

    @classmethod
    def from_state(cls, state, arrays):
        return cls()


def cells(rng, n):
    return pd.DataFrame(
        {
            "engine": "e",
            "model": "m",
            "input_tokens": 2.0 ** rng.uniform(5, 12, n),
            "output_tokens": 2.0 ** rng.uniform(5, 12, n),
            "batch_size": rng.integers(1, 129, n).astype(float),
        }
    )


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("m", [9, 19, 60])
def test_the_quantile_covers_a_new_score_as_often_as_the_theory_says(level, m):
    rng = np.random.default_rng(m)
    n, rank = 4000, math.ceil((m + 1) * level - 1e-9)
    covered = sum(rng.exponential() <= quantile(rng.exponential(size=m), level) for _ in range(n))
    expected = min(1.0, rank / (m + 1))
    low, high = binom.interval(1 - 1e-6, n, expected)
    assert low <= covered <= high


def test_too_few_scores_for_a_level_give_no_bound():
    assert quantile(np.ones(8), 0.9) == math.inf
    assert quantile(np.ones(9), 0.9) == 1.0


@pytest.mark.parametrize("level", [0.6, 0.9])
@pytest.mark.slow
def test_intervals_keep_their_level_on_exchangeable_data(level):
    rng, inside = np.random.default_rng(7), []
    for _ in range(60):
        known, new = cells(rng, 40), cells(rng, 25)
        noise = [np.exp(0.2 * rng.standard_normal(len(X))) for X in (known, new)]
        model = CrossConformal("law", Law).fit(known, Law().predict(known) * noise[0])
        interval = model.predict_interval(new, level)
        y = Law().predict(new) * noise[1]
        inside.append(((interval[:, 0] <= y) & (y <= interval[:, 1])).mean())
    error = np.std(inside) / np.sqrt(len(inside))
    assert level - 4 * error < np.mean(inside) < level + 0.04 + 4 * error


def test_intervals_are_positive_and_grow_with_the_level():
    rng = np.random.default_rng(0)
    X = cells(rng, 60)
    model = CrossConformal("law", Law).fit(X, Law().predict(X) * np.exp(rng.standard_normal(60)))
    narrow, wide = model.predict_interval(X, 0.5), model.predict_interval(X, 0.95)
    value = model.predict(X)
    assert (wide[:, 0] > 0).all()
    assert (wide[:, 0] <= narrow[:, 0]).all() and (narrow[:, 1] <= wide[:, 1]).all()
    assert (narrow[:, 0] <= value).all() and (value <= narrow[:, 1]).all()


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 2.0, math.nan])
def test_a_level_that_is_none_is_refused(level):
    X = cells(np.random.default_rng(0), 20)
    model = CrossConformal("law", Law).fit(X, Law().predict(X))
    with pytest.raises(ModelError, match="confidence level"):
        model.predict_interval(X, level)


def test_one_cell_is_enough_to_predict_but_not_for_a_bounded_interval():
    X = cells(np.random.default_rng(0), 1)
    model = CrossConformal("law", Law).fit(X, Law().predict(X))
    assert np.isfinite(model.predict(X)).all()
    assert np.isinf(model.predict_interval(X)[:, 1]).all()


def test_harder_situations_get_wider_intervals(make_table):
    """Largest loads are off by much, everything else by little: only where that matters are intervals wide."""

    class Edge(Law):
        def fit(self, X, y):
            self.largest = X.groupby("model")["batch_size"].max()
            return self

        def predict(self, X):
            beyond = X["batch_size"].to_numpy() > X["model"].map(self.largest).to_numpy()
            return super().predict(X) * np.where(beyond, 3.0, 1.0)

    table = make_table(30)
    rng = np.random.default_rng(0)
    y = Law().predict(table) * np.exp(0.01 * rng.standard_normal(len(table)))
    model = CrossConformal("edge", Edge).fit(table, y)
    beyond = table.drop_duplicates("model").assign(batch_size=128.0, input_tokens=512.0, output_tokens=512.0)
    inside = beyond.assign(batch_size=8.0)
    width = [np.ptp(np.log(model.predict_interval(X)), axis=1) for X in (beyond, inside)]
    np.testing.assert_allclose(width[0], 2 * np.log(3), rtol=0.05)
    assert (width[1] < 0.1).all()
    assert model.forecast_error(beyond) == pytest.approx(2.0, rel=0.05)
    assert model.forecast_error(inside) < 0.02


def test_an_accelerator_that_nobody_has_seen_gets_the_errors_of_such(make_table):
    """A model that knows each accelerator's speed, and guesses for others: off by much there and only there."""

    class ByAccelerator(Law):
        pools_deployments = True

        def fit(self, X, y):
            self.known = set(X["accelerator"])
            return self

        def predict(self, X):
            return super().predict(X) * np.where(X["accelerator"].isin(self.known), 1.0, 5.0)

    table = make_table(24)
    model = CrossConformal("by accelerator", ByAccelerator).fit(table, Law().predict(table))
    new = table.iloc[[0]].assign(model="new")
    for accelerator, factor in (("a", 1.0), ("unheard of", 5.0)):
        ends = model.predict_interval(new.assign(accelerator=accelerator))[0]
        assert ends[1] / ends[0] == pytest.approx(factor**2)


def test_the_forecast_is_close_to_the_error_that_is_found_later():
    rng = np.random.default_rng(3)
    X, new = cells(rng, 300), cells(rng, 300)
    model = CrossConformal("law", Law).fit(X, Law().predict(X) * np.exp(0.1 * rng.standard_normal(300)))
    y = Law().predict(new) * np.exp(0.1 * rng.standard_normal(300))
    found = np.median(np.abs(model.predict(new) - y) / y)
    assert model.forecast_error(new) == pytest.approx(found, rel=0.25)


def test_few_scores_of_a_situation_borrow_from_the_nearest():
    X = cells(np.random.default_rng(0), 30)
    model = CrossConformal("law", Law).fit(X, Law().predict(X))
    for _, residuals in model._alike(model.support_.locate(cells(np.random.default_rng(1), 50))):
        assert len(residuals) >= MIN_SCORES


def test_provenance_and_similarity_follow_from_where_a_cell_lies(make_table):
    table = make_table(2)
    known = table[(table["model"] == "model-0") | (table["input_tokens"] == 128) & (table["batch_size"] == 1)]
    support = Support.of(known)
    row = table.iloc[[0]]
    asked = pd.concat(
        [
            row,
            row.assign(input_tokens=300.0, output_tokens=300.0, batch_size=8.0),
            row.assign(batch_size=128.0),
            row.assign(input_tokens=4096.0),
            row.assign(model="model-1", engine="other", batch_size=2.0),
            row.assign(model="never seen"),
            row.assign(model="never seen", accelerator="never seen"),
        ]
    )
    places = support.locate(asked)
    expected = ["measured", "interpolated", "extrapolated", "extrapolated", "transferred", "transferred", "transferred"]
    assert places.provenance.tolist() == expected
    assert places.similarity[0] == 1.0
    assert ((places.similarity[1:] > 0) & (places.similarity[1:] < 1)).all()
    assert situations(places).tolist() == [
        [4, 0, 0], [4, 0, 0], [4, 2, 0], [4, 1, 0], [0, 2, 0], [-2, 0, 0], [-2, 0, 1]
    ]  # fmt: skip
    assert situations(Support.of(known.iloc[:6]).locate(asked))[:, 2].tolist() == [1] * 7


def test_anchors_start_in_the_middle_and_never_with_the_largest_alone(make_table):
    table = make_table(3, loads=(1, 4, 16, 64, 256))
    cells_ = read_cells(table)
    for k in (1, 2, 4, 7):
        chosen = anchors(table, k)
        assert len(set(chosen)) == len(chosen) == 3 * k
        assert np.bincount(cells_.deployment[chosen]).tolist() == [k] * 3
    one, two = table.iloc[anchors(table, 1)], table.iloc[anchors(table, 2)]
    assert (one["batch_size"] == 16).all() and one["input_tokens"].isin([256, 512]).all()
    assert sorted(two["batch_size"]) == [1] * 3 + [16] * 3
    assert not len(anchors(table, 0))


def test_no_more_anchors_than_cells(make_table):
    assert sorted(anchors(make_table(1), 100)) == list(range(16))


def test_the_weighted_median_counts_weights():
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1, 10, 1])) == 1.0


def test_repeats_count_by_their_median():
    X = cells(np.random.default_rng(0), 30)
    y = Law().predict(X) * np.exp(0.1 * np.random.default_rng(1).standard_normal(30))
    wild = np.where(np.arange(30) % 2, 50.0, 0.02)
    thrice = CrossConformal("law", Law).fit(pd.concat([X, X, X], ignore_index=True), np.concatenate([y, y * wild, y]))
    np.testing.assert_array_equal(thrice.predict_interval(X), CrossConformal("law", Law).fit(X, y).predict_interval(X))
