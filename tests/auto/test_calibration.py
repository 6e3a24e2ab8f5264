"""What intervals are made of: stretches, weights of scores, and how many scores there are when cells err together."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student_t

from fewmark.models.calibration import DEGREES, stretch
from fewmark.models.kernel import Inputs, Kernel, Part
from fewmark.models.posterior import Posterior
from fewmark.models.scores import Scores, correlation

KNOWN, ASKED = slice(0, 4), slice(4, 12)


def test_stretched_deviations_cover_deployments_of_every_scale() -> None:
    rng = np.random.default_rng(0)
    x = np.linspace(0, 3, 12)
    covariance = np.exp(-0.5 * (x[:, None] - x) ** 2) + 0.01 * np.eye(12)
    scale = 1 / np.sqrt(rng.gamma(DEGREES / 2, 2 / DEGREES, 4000))
    values = scale[:, None] * rng.multivariate_normal(np.zeros(12), covariance, 4000)
    gain = np.linalg.solve(covariance[KNOWN, KNOWN], covariance[KNOWN, ASKED])
    sd = np.sqrt(np.diag(covariance[ASKED, ASKED] - covariance[ASKED, KNOWN] @ gain))
    distance = (values[:, KNOWN] * np.linalg.solve(covariance[KNOWN, KNOWN], values[:, KNOWN].T).T).sum(1)
    z = np.abs(values[:, ASKED] - values[:, KNOWN] @ gain) / sd
    z /= np.array([stretch(float(d), 4) for d in distance])[:, None]
    inside = (z < student_t.ppf(0.95, DEGREES + 4)).mean(1)
    quarters = np.digitize(distance, np.quantile(distance, [0.25, 0.5, 0.75]))
    covered = [inside[quarters == quarter].mean() for quarter in range(4)]
    assert np.allclose(covered, 0.9, atol=0.025)


def test_surprise_is_the_distance_from_what_all_others_foretell() -> None:
    rng = np.random.default_rng(1)
    values, codes = rng.uniform(0, 4, (20, 1)), rng.integers(0, 3, (20, 1))
    kernel = Kernel((Part("all", (), (0,)), Part("own", (0,), (0,))))
    theta = np.log(np.array([0.5, 1.0, 0.3, 1.0]))
    y, variance = rng.standard_normal(20), np.full(20, 0.04)
    posterior = Posterior(kernel, theta, Inputs(values, codes.astype(np.int64)), y, variance)
    block, rest = np.arange(0, 6), np.arange(6, 20)
    matrix = kernel.matrix(theta, Inputs(values, codes.astype(np.int64))) + np.diag(variance)
    gain = np.linalg.solve(matrix[np.ix_(rest, rest)], matrix[np.ix_(rest, block)])
    residual = y[block] - gain.T @ y[rest]
    covariance = matrix[np.ix_(block, block)] - matrix[np.ix_(block, rest)] @ gain
    assert np.isclose(posterior.surprise(block), residual @ np.linalg.solve(covariance, residual))


def test_cells_that_are_off_together_are_told_from_independent_ones() -> None:
    rng = np.random.default_rng(2)
    member = np.repeat(np.arange(200), 10)
    assert correlation(rng.random(2000) < 0.1, member) < 0.03
    assert correlation((rng.random(200) < 0.1)[member], member) > 0.97
    assert correlation(np.array([True, False]), np.array([0, 1])) == 0.0
    assert correlation(np.zeros(4, dtype=bool), np.array([0, 0, 1, 1])) == 0.0


def test_a_new_deployment_is_covered_where_cells_of_a_deployment_err_together() -> None:
    rng = np.random.default_rng(3)
    here = (np.zeros(1), np.zeros((1, 2)))
    together, apart = np.repeat(np.arange(20), 25), np.arange(500)
    covered: dict[str, list[float]] = {"together": [], "apart": []}
    for _ in range(150):
        scale = np.exp(0.5 * rng.standard_normal(21))
        z = np.abs(scale[together] * rng.standard_normal(500))
        new = np.abs(scale[20] * rng.standard_normal(500))
        for name, deployment in (("together", together), ("apart", apart)):
            scores = Scores(z, np.zeros(500), np.zeros((500, 2)), np.ones(500), deployment)
            covered[name].append(float((new <= scores.factor(*here, 0.9)).mean()))
    assert np.mean(covered["apart"]) < np.mean(covered["together"]) < 0.93
    assert np.mean(covered["together"]) > 0.885


def test_scores_of_kin_count_more() -> None:
    z = np.concatenate([np.full(200, 0.5), np.full(200, 3.0)])
    here = (np.zeros(1), np.zeros((1, 2)))

    def factor(kinship: np.ndarray) -> float:
        scores = Scores(z, np.zeros(400), np.zeros((400, 2)), kinship, np.arange(400))
        return float(scores.factor(*here, 0.5)[0])

    assert factor(np.repeat([6.0, 1.0], 200)) < 1.0 < factor(np.repeat([1.0, 6.0], 200))
