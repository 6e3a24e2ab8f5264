"""Algorithms 7 and 8: encodings, the predictor, histograms and similarity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xgboost import XGBRegressor

from fewmark.core.errors import FewmarkError, ModelError
from fewmark.models.ala.annealing.search import Schedule, anneal
from fewmark.models.ala.error_predictor import ErrorPredictor, forecast_error
from fewmark.models.ala.histogram_similarity import histogram_distance, similarity, subset_distances


@pytest.fixture(scope="module")
def logs():
    return {}


@pytest.fixture
def log(table, logs):
    """A search for subsets, made once."""
    if not logs:
        logs["log"] = anneal(*table, schedule=Schedule(n_iterations=150), random_state=1)
    return logs["log"]


def test_encoding_is_ii_then_bb_then_oo(log):
    ii, oo, bb = log.sets(5)
    expected = [*np.isin(log.values[0], ii), *np.isin(log.values[2], bb), *np.isin(log.values[1], oo)]
    assert log.encode()[5].tolist() == [float(bit) for bit in expected]


@pytest.mark.slow
def test_predictor_is_xgboost_on_the_logs_encodings(log):
    known = log.known
    theirs = XGBRegressor(n_jobs=1).fit(log.encode()[known], log.error[known]).predict(log.encode())
    np.testing.assert_allclose(ErrorPredictor().fit_log(log).predict(log.encode()), theirs, rtol=1e-6)


def test_a_log_without_errors_teaches_nothing(log):
    empty = type(log)(**{**log.__dict__, "error": np.full(len(log), np.inf)})
    with pytest.raises(ModelError, match="no subset with an error"):
        ErrorPredictor().fit_log(empty)


def test_distance_by_hand():
    one, other = np.array([[0.0], [0.0], [9.9]]), np.array([[0.0], [9.9], [9.9]])
    assert histogram_distance(one, other, n_bins=2) == pytest.approx(1 - 4 / 5)
    both = np.column_stack([one, [1.0, 1, 1]]), np.column_stack([other, [1.0, 1, 1]])
    assert histogram_distance(*both, n_bins=2) == pytest.approx((1 - 4 / 5) / 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 30), st.sampled_from(["linear", "log"]))
def test_distance_is_symmetric_in_bounds_and_zero_for_itself(seed, n, m, scale):
    rng = np.random.default_rng(seed)
    one, other = rng.lognormal(3, 2, (n, 4)), rng.lognormal(3, 2, (m, 4))
    there, back = histogram_distance(one, other, scale=scale), histogram_distance(other, one, scale=scale)
    assert there == pytest.approx(back)
    assert 0 <= there <= 1
    assert histogram_distance(one, one[::-1], scale=scale) == pytest.approx(0, abs=1e-12)
    assert 0.5 <= similarity(there) <= 1


def test_distances_to_subsets_agree_with_numpys_histograms():
    rng = np.random.default_rng(2)
    known, new = rng.lognormal(4, 1, (40, 4)), rng.lognormal(4.5, 1, (25, 4))
    subsets = rng.random((6, 40)) < 0.4
    subsets[3] = False
    found = subset_distances(known, subsets, new)
    assert np.isinf(found[3])
    for subset, distance in zip(subsets[[0, 5]], found[[0, 5]], strict=True):
        total = 0.0
        for j in range(4):
            edges = np.histogram_bin_edges(np.concatenate([known[:, j], new[:, j]]), bins=10)
            p, q = np.histogram(known[subset, j], edges)[0], np.histogram(new[:, j], edges)[0]
            total += 1 - p @ q / np.linalg.norm(p) / np.linalg.norm(q)
        assert distance == pytest.approx(total / 4)


def test_forecast_of_the_known_table_is_more_similar_than_one_elsewhere(table, log):
    X, y = table
    predictor = ErrorPredictor().fit_log(log)
    at_home = forecast_error(predictor, log, X, y, X, y)
    elsewhere = forecast_error(predictor, log, X, y, X * [1, 1, 3], y * 40)
    assert at_home.n_unknown[0] == 0
    assert elsewhere.n_unknown[0] == 5  # batch sizes 3, 24, 48, 96, 192
    assert at_home.similarity[0] > elsewhere.similarity[0]
    everything = np.ones((1, log.subsets.shape[1]), bool)
    assert at_home.error[0] == predictor.predict(log.encode(everything))[0]


def test_each_deployment_of_a_new_table_is_one_combination(table, log):
    X, y = table
    predictor = ErrorPredictor().fit_log(log)
    half = X[:, 0] == 128
    both = forecast_error(predictor, log, X, y, X, y, np.where(half, 4, 9))
    alone = forecast_error(predictor, log, X, y, X[half], y[half])
    assert both.error.shape == (2,)
    assert (both.error[0], both.similarity[0]) == (alone.error[0], alone.similarity[0])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda X, y: histogram_distance(X, X[:, :2]), "same columns"),
        (lambda X, y: histogram_distance(X, X[:0]), "rows"),
        (lambda X, y: histogram_distance(X, X * np.nan), "finite"),
        (lambda X, y: histogram_distance(X, X * 0, scale="log"), "above 0"),
        (lambda X, y: histogram_distance(X, X, scale="cubic"), "scale"),
        (lambda X, y: histogram_distance(X, X, n_bins=0), "n_bins"),
    ],
)
def test_bad_input_is_refused(table, call, says):
    with pytest.raises(FewmarkError, match=says):
        call(*table)


@pytest.mark.slow
def test_a_table_that_was_not_annealed_is_refused(table, log):
    X, y = table
    with pytest.raises(FewmarkError, match="does not know"):
        forecast_error(ErrorPredictor().fit_log(log), log, X * 2, y, X, y)
