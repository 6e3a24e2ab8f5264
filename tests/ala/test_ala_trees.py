"""The restated booster against XGBoost itself."""

from __future__ import annotations

import numpy as np
import pytest
from xgboost import XGBRegressor

from fewmark.models.ala.batched_trees import boost, distinct_orders
from fewmark.models.ala.parameters import ParameterModels, pair_features

LENGTHS = 2.0 ** np.arange(4, 13)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.01, 1.0, 5000.0])
@pytest.mark.parametrize("square", [False, True], ids=["equal lengths", "free lengths"])
def test_predicts_what_xgboost_predicts(scale, square):
    rng = np.random.default_rng(int(scale * 100) + square)
    for _ in range(6):
        n = rng.integers(3, 13)
        ii = rng.permutation(LENGTHS)[: min(n, 9)] if not square else rng.choice(LENGTHS, n)
        oo = rng.choice(LENGTHS, len(ii)) if square else ii
        features = pair_features(np.column_stack([ii, oo]))
        train = rng.random((4, len(ii))) < 0.7
        train[:, 0] = True
        y = rng.random((4, len(ii))) * scale
        ours = boost(distinct_orders(features), train, y)
        for row in range(4):
            theirs = XGBRegressor(n_jobs=1).fit(features[train[row]], y[row][train[row]]).predict(features)
            np.testing.assert_allclose(ours[row], theirs, rtol=1e-5, atol=1e-6 * scale)


def test_small_and_large_training_sets_take_different_ways_to_the_same_answer():
    rng = np.random.default_rng(0)
    pairs = np.column_stack([LENGTHS[:7], LENGTHS[:7]])
    parameters = rng.random((7, 3)) * [1000, 0.1, 2000]
    models = ParameterModels().fit(np.zeros(7, np.intp), pairs, parameters)
    asked = np.column_stack([np.geomspace(10, 5000, 200)] * 2)
    large = models.predict(np.zeros(200, np.intp), asked)[::4]
    small = np.vstack([models.predict(np.zeros(5, np.intp), part) for part in np.split(asked[::4], 10)])
    np.testing.assert_allclose(small, large, rtol=1e-5)


def test_deployments_learn_apart():
    pairs = np.column_stack([LENGTHS[:4], LENGTHS[:4]])
    group = np.repeat([3, 8], 4)
    parameters = np.vstack([np.full((4, 3), 5.0), np.full((4, 3), 70.0)])
    models = ParameterModels().fit(group.astype(np.intp), np.vstack([pairs, pairs]), parameters)
    learned = models.predict(np.array([8, 3, 5]), np.array([[100.0, 100], [100, 100], [100, 100]]))
    np.testing.assert_allclose(learned[:2], [[70.0] * 3, [5.0] * 3])
    assert np.isnan(learned[2]).all()


@pytest.mark.parametrize("n", [6, 60])
def test_many_rows_get_xgboosts_own_answer(n):
    rng = np.random.default_rng(n)
    pairs, parameters = rng.integers(1, 4096, (n, 2)).astype(float), rng.random((n, 3)) * [1000, 0.1, 2000]
    asked = np.unique(np.vstack([rng.integers(1, 5000, (3000, 2)).astype(float), pairs]), axis=0)
    ours = ParameterModels().fit(np.zeros(n, np.intp), pairs, parameters).predict(np.zeros(len(asked), np.intp), asked)
    theirs = XGBRegressor(n_jobs=1).fit(pair_features(pairs), parameters).predict(pair_features(asked))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
