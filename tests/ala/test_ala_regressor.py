"""ALA's core: known pairs, unseen pairs, scikit-learn's contract, bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import check_estimator
from xgboost import XGBRegressor

from fewmark.core.errors import FewmarkError, ModelError
from fewmark.models.ala.curve import saturation
from fewmark.models.ala.error_predictor import ErrorPredictor
from fewmark.models.ala.parameters import pair_features
from fewmark.models.ala.regressor import AlaRegressor


@pytest.mark.parametrize(
    "estimator",
    [AlaRegressor(), AlaRegressor(fitting="line"), AlaRegressor(learner=LinearRegression()), ErrorPredictor()],
    ids=repr,
)
@pytest.mark.slow
def test_passes_scikit_learns_checks_without_exception(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks' own, about what they leave out
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) > 40
    assert [r["check_name"] for r in results if r["status"] not in ("passed", "skipped")] == []
    # array API input needs another array library; it is all that is left out
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {"check_array_api_input"}


def test_known_pairs_are_predicted_at_unseen_batches(grid, curve):
    X = grid([128, 512], [256], [1, 4, 16, 64])
    asked = grid([128, 512], [256], [2, 8, 32, 256])
    np.testing.assert_allclose(AlaRegressor().fit(X, curve(X)).predict(asked), curve(asked), rtol=1e-4)


def test_unseen_pairs_get_the_parameters_that_xgboost_predicts(table):
    X, y = table
    model = AlaRegressor().fit(X, y)
    asked = np.array([[300.0, 700, 24], [4096, 64, 2]])
    features = pair_features(asked[:, :2])
    learned = [
        XGBRegressor(n_jobs=1).fit(pair_features(model.pairs_), target).predict(features)
        for target in model.parameters_.T
    ]
    np.testing.assert_allclose(model.predict(asked), saturation(asked[:, 2], *np.float64(learned)), rtol=1e-4)


def test_another_learner_is_used_and_not_changed(table):
    X, y = table
    learner = LinearRegression()
    model = AlaRegressor(learner=learner).fit(X, y)
    asked = np.array([[300.0, 700, 24]])
    fitted = LinearRegression().fit(pair_features(model.pairs_), model.parameters_)
    expected = saturation(24, *fitted.predict(pair_features(asked[:, :2]))[0])
    np.testing.assert_allclose(model.predict(asked), expected)
    assert not hasattr(learner, "coef_")


def test_a_pair_that_does_not_saturate_is_predicted_like_an_unseen_one(grid, curve):
    X = grid([128, 512, 1024], [256], [1, 4, 16, 64])
    y = curve(X)
    convex = X[:, 0] == 512
    y[convex] = 10 + X[convex, 2] ** 1.5
    model = AlaRegressor().fit(X, y)
    without = AlaRegressor().fit(X[~convex], y[~convex])
    assert model.statuses_.tolist() == ["converged", "not-converged", "converged"]
    np.testing.assert_allclose(model.predict(X), without.predict(X))


def test_duplicates_count_as_rows_and_do_not_disturb(table):
    X, y = table
    once = AlaRegressor().fit(X, y).predict(X)
    np.testing.assert_allclose(AlaRegressor().fit(np.tile(X, (3, 1)), np.tile(y, 3)).predict(X), once, rtol=1e-9)


def test_one_batch_size_only_predicts_a_constant_over_batches(grid, curve):
    X = grid([128, 512], [256], [16])
    model = AlaRegressor().fit(X, curve(X))
    assert set(model.statuses_) == {"one-batch"}
    np.testing.assert_allclose(model.predict(X + np.array([0, 0, 48])), curve(X), rtol=1e-3)


def test_one_pair_only_lends_its_curve_to_every_other(grid, curve):
    X = grid([128], [256], [1, 4, 16, 64])
    model = AlaRegressor().fit(X, curve(X))
    np.testing.assert_allclose(model.predict(X + np.array([900, 900, 0])), curve(X), rtol=1e-3)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda X, y: (X, np.where(np.arange(len(y)) == 3, 0.0, y)), r"above 0"),
        (lambda X, y: (X, -y), r"above 0"),
        (lambda X, y: (X, np.where(np.arange(len(y)) == 3, np.nan, y)), "NaN"),
        (lambda X, y: (X, np.where(np.arange(len(y)) == 3, np.inf, y)), "infinity"),
        (lambda X, y: (np.where(X == 64, np.nan, X), y), "NaN"),
        (lambda X, y: (-X, y), "Negative"),
        (lambda X, y: (X[:, :1], y), "columns ii, oo, bb"),
        (lambda X, y: (X, y[:-1]), "inconsistent"),
    ],
    ids=["zero", "negative", "nan", "infinite", "nan in X", "negative X", "one column", "lengths"],
)
def test_bad_input_is_refused_with_a_reason(table, spoil, says):
    X, y = spoil(*table)
    with pytest.raises(ValueError, match=says) as error:
        AlaRegressor().fit(X, y)
    assert isinstance(error.value, FewmarkError)


def test_when_no_fit_converges_it_says_what_to_do(grid):
    X = grid([128, 512], [256], [1, 2, 4, 8])
    with pytest.raises(ModelError, match="larger batch sizes"):
        AlaRegressor().fit(X, 10 + X[:, 2] ** 2)
    assert AlaRegressor(fitting="line").fit(X, 10 + X[:, 2] ** 2).predict(X).shape == (8,)
