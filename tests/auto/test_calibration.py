"""What intervals are made of: stretches, weights of scores, and what a deployment that is left out says of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student_t

from fewmark.models.auto.conformity_scores import Scores, left_out_coverage
from fewmark.models.auto.inflation import DEGREES, inflation
from fewmark.models.gp.kernel import Component, Inputs, Kernel
from fewmark.models.gp.posterior import Posterior

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
    z /= np.array([inflation(float(d), 4) for d in distance])[:, None]
    inside = (z < student_t.ppf(0.95, DEGREES + 4)).mean(1)
    quarters = np.digitize(distance, np.quantile(distance, [0.25, 0.5, 0.75]))
    covered = [inside[quarters == quarter].mean() for quarter in range(4)]
    assert np.allclose(covered, 0.9, atol=0.025)


def test_surprise_is_the_distance_from_what_all_others_foretell() -> None:
    rng = np.random.default_rng(1)
    values, codes = rng.uniform(0, 4, (20, 1)), rng.integers(0, 3, (20, 1))
    kernel = Kernel((Component("all", (), (0,)), Component("own", (0,), (0,))))
    theta = np.log(np.array([0.5, 1.0, 0.3, 1.0]))
    y, variance = rng.standard_normal(20), np.full(20, 0.04)
    posterior = Posterior(kernel, theta, Inputs(values, codes.astype(np.int64)), y, variance)
    block, rest = np.arange(0, 6), np.arange(6, 20)
    matrix = kernel.matrix(theta, Inputs(values, codes.astype(np.int64))) + np.diag(variance)
    gain = np.linalg.solve(matrix[np.ix_(rest, rest)], matrix[np.ix_(rest, block)])
    residual = y[block] - gain.T @ y[rest]
    covariance = matrix[np.ix_(block, block)] - matrix[np.ix_(block, rest)] @ gain
    assert np.isclose(posterior.surprise(block), residual @ np.linalg.solve(covariance, residual))


def test_the_coverage_of_a_left_out_deployment_is_what_leaving_each_out_in_turn_gives() -> None:
    rng = np.random.default_rng(2)
    member = rng.integers(0, 7, 90)
    z, weight = np.abs(rng.standard_normal(90)), rng.uniform(0.5, 2.0, 90)
    covered = 0.0
    for number in range(7):
        own, others = member == number, member != number
        order = np.argsort(z[others])
        reached = np.cumsum(weight[others][order]) >= 0.8 * weight[others].sum()
        covered += weight[own][z[own] <= z[others][order][reached.argmax()]].sum()
    assert np.isclose(left_out_coverage(z, weight, member, 0.8), covered / weight.sum())


@pytest.mark.parametrize("n_deployments", [5, 20, 60])
@pytest.mark.parametrize("unlike", [0.0, 0.3, 0.6])
def test_a_new_deployment_is_covered_where_cells_of_a_deployment_err_together(
    n_deployments: int, unlike: float
) -> None:
    rng = np.random.default_rng(3)
    here = (np.zeros(1), np.zeros((1, 2)))
    deployment = np.repeat(np.arange(n_deployments), 25)
    covered = []
    for _ in range(300):
        scale = np.exp(unlike * rng.standard_normal(n_deployments + 1))
        z = np.abs(scale[deployment] * rng.standard_normal(len(deployment)))
        scores = Scores(z, np.zeros(len(z)), np.zeros((len(z), 2)), np.ones(len(z)), deployment)
        factor = scores.factor(*here, 0.9)[0]
        covered.append(2 * norm.cdf(factor / scale[-1]) - 1)
    assert 0.88 < np.mean(covered) < 0.92


def test_one_deployment_alone_is_calibrated_by_its_cells() -> None:
    z = np.abs(np.random.default_rng(4).standard_normal(300))
    scores = Scores(z, np.zeros(300), np.zeros((300, 2)), np.ones(300), np.zeros(300, dtype=np.int64))
    assert np.isclose(scores.factor(np.zeros(1), np.zeros((1, 2)), 0.9)[0], norm.ppf(0.95), atol=0.25)


def test_scores_of_kin_count_more() -> None:
    z = np.concatenate([np.full(200, 0.5), np.full(200, 3.0)])
    here = (np.zeros(1), np.zeros((1, 2)))

    def factor(similarity_weight: np.ndarray) -> float:
        scores = Scores(z, np.zeros(400), np.zeros((400, 2)), similarity_weight, np.arange(400))
        return float(scores.factor(*here, 0.5)[0])

    assert factor(np.repeat([6.0, 1.0], 200)) < 1.0 < factor(np.repeat([1.0, 6.0], 200))


@pytest.mark.parametrize("n_known", [1, 2, 4])
def test_an_unknown_accelerator_is_covered_by_what_few_others_say(n_known: int) -> None:
    """Accelerators have scales of their own (of precision Gamma(2, 2)), which few of them do not show."""
    rng = np.random.default_rng(5)
    deployment = np.repeat(np.arange(15 * n_known), 10)
    accelerator = deployment // 15
    here = (np.zeros(1), np.zeros((1, 2)))
    covered, narrow = [], []
    for _ in range(300):
        scale = np.sqrt(1 / rng.gamma(2, 1 / 2, size=n_known + 1))
        z = np.abs(scale[accelerator] * rng.standard_normal(len(deployment)))
        scores = Scores(z, np.zeros(len(z)), np.zeros((len(z), 2)), np.ones(len(z)), deployment, n_known)
        covered.append(2 * norm.cdf(scores.factor(*here, 0.9)[0] / scale[-1]) - 1)
        narrow.append(2 * norm.cdf(replace(scores, n_foreign=0).factor(*here, 0.9)[0] / scale[-1]) - 1)
    assert 0.86 < np.mean(covered) < 0.93
    assert np.mean(narrow) < np.mean(covered) - 0.008
