"""Trees as arrays say what the libraries that grew them say, and damaged ones are refused."""

import numpy as np
import pytest
import xgboost
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor

from fewmark.core import ModelError
from fewmark.models.baselines.trees import Forest


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.uniform(-3, 3, (300, 5))
    X[:, 3] = rng.integers(0, 2, 300)
    return X, np.sin(X[:, 0]) + X[:, 3] * X[:, 1]


def test_a_random_forest(data):
    grown = RandomForestRegressor(10, random_state=0).fit(*data)
    forest = Forest.of([tree.tree_ for tree in grown.estimators_], base=0.0, scale=0.1)
    np.testing.assert_allclose(forest.predict(data[0]), grown.predict(data[0]), rtol=1e-12, atol=1e-12)


def test_gradient_boosting(data):
    grown = GradientBoostingRegressor(random_state=0).fit(*data)
    trees = [tree.tree_ for tree in grown.estimators_[:, 0]]
    forest = Forest.of(trees, base=float(data[1].mean()), scale=grown.learning_rate)
    np.testing.assert_allclose(forest.predict(data[0]), grown.predict(data[0]), rtol=1e-9, atol=1e-9)


def test_xgboost_with_values_that_lie_on_a_threshold(data):
    X, y = np.round(data[0]), data[1]
    grown = xgboost.train({"nthread": 1}, xgboost.DMatrix(X, y), num_boost_round=50)
    forest = Forest.of_booster(grown)
    thresholds = np.array([[t] * 5 for t in np.unique(forest.threshold)])
    asked = np.vstack([X, thresholds, np.nextafter(thresholds.astype(np.float32), np.float32(np.inf))])
    np.testing.assert_allclose(forest.predict(asked), grown.predict(xgboost.DMatrix(asked)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("field", "value"), [("left", 0), ("right", -1), ("right", 10**6), ("roots", 10**6), ("feature", 99)]
)
def test_links_that_lead_astray_are_refused(data, field, value):
    grown = RandomForestRegressor(3, random_state=0).fit(*data)
    arrays = Forest.of([tree.tree_ for tree in grown.estimators_], base=0.0, scale=1.0).to_arrays()
    arrays[field] = arrays[field].copy()
    arrays[field][0] = value
    with pytest.raises(ModelError, match="damaged"):
        Forest.from_arrays(arrays, n_features=5)
