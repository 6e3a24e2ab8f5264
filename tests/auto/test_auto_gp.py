"""The process itself: gradients, recovered parameters, and formulas that equal brute force."""

from __future__ import annotations

import numpy as np
import pytest

from fewmark.models.gp import regression
from fewmark.models.gp.kernel import Component, Inputs, Kernel, Pairs
from fewmark.models.gp.posterior import Posterior

KERNEL = Kernel(
    (
        Component("all", (), (0, 1)),
        Component("group", (0,), (0,)),
        Component("line", (1,), (1,), linear=True),
    )
)
THETA = np.log([0.8, 2.0, 3.0, 0.4, 1.0, 0.1])


def _inputs(n: int, seed: int) -> Inputs:
    rng = np.random.default_rng(seed)
    return Inputs(rng.uniform(0, 8, (n, 2)), rng.integers(0, 4, (n, 2)))


def _posterior(n: int = 60, seed: int = 0) -> Posterior:
    inputs = _inputs(n, seed)
    rng = np.random.default_rng(seed + 1)
    variance = rng.uniform(0.001, 0.01, n)
    matrix = KERNEL.matrix(THETA, inputs) + np.diag(variance)
    return Posterior(KERNEL, THETA, inputs, np.linalg.cholesky(matrix) @ rng.standard_normal(n), variance)


def test_pairs_give_the_kernel_matrix_and_its_gradient() -> None:
    inputs = _inputs(30, 3)
    pairs = Pairs(KERNEL, inputs)
    full = KERNEL.matrix(THETA, inputs)
    assert np.allclose(pairs.matrix(THETA), np.tril(full))
    assert np.allclose(KERNEL.diagonal(THETA, inputs), np.diag(full))
    weights = np.random.default_rng(0).standard_normal((30, 30))
    weights = weights + weights.T
    slope = pairs.gradient(THETA, weights)
    for i in range(KERNEL.size):
        step = np.zeros(KERNEL.size)
        step[i] = 1e-5
        up, down = KERNEL.matrix(THETA + step, inputs), KERNEL.matrix(THETA - step, inputs)
        assert slope[i] == pytest.approx((weights * (up - down)).sum() / 2e-5, rel=1e-5)


@pytest.mark.slow
def test_learning_recovers_scales_and_noise_despite_outliers() -> None:
    rng = np.random.default_rng(5)
    n = 400
    inputs = Inputs(rng.uniform(0, 10, (n, 2)), np.repeat(np.arange(20), 20)[:, None] * np.ones((1, 2), dtype=int))
    kernel = Kernel((Component("all", (), (0, 1)),))
    truth = np.log([0.5, 2.0, 4.0])
    group = inputs.codes[:, 0]
    scale = np.where(group < 10, 0.005, 0.03)
    latent = np.linalg.cholesky(kernel.matrix(truth, inputs) + 1e-9 * np.eye(n)) @ rng.standard_normal(n)
    y = latent + scale * rng.standard_normal(n)
    y[::40] += 1.0
    prior = regression.HyperPrior(np.log([0.2, 3.0, 3.0]), np.ones(3), np.log(0.02), 1.0)
    theta, noise = regression.learn(kernel, prior, inputs, y, group)
    assert np.exp(theta - truth) == pytest.approx(np.ones(3), rel=0.35)
    learned = np.exp(noise.log_scale) * noise.factor
    # scales are drawn towards each other: a deployment has few cells
    assert 0.004 < np.median(learned[:10]) < 0.016 < 0.018 < np.median(learned[10:]) < 0.04
    assert noise.precision[::40].max() < 0.1 * np.median(noise.precision)


def test_a_search_that_strays_is_turned_back_without_a_warning() -> None:
    inputs = _inputs(30, 3)
    prior = regression.HyperPrior(THETA, np.ones(len(THETA)), np.log(0.02), 1.0)
    y = np.random.default_rng(1).standard_normal(30)

    def objective(away: float) -> float:
        packed = np.append(THETA + away, np.log(0.02))
        return regression._negative_log_posterior(packed, Pairs(KERNEL, inputs), prior, y, np.ones(30))[0]

    assert objective(0.0) < objective(3.0) < objective(-400.0) == objective(400.0) < np.inf


def test_leaving_a_block_out_equals_conditioning_on_the_rest() -> None:
    post = _posterior()
    block = np.array([3, 4, 17, 41])
    rest = np.setdiff1d(np.arange(60), block)
    other = Posterior(KERNEL, THETA, post.inputs.take(rest), post.y[rest], post.variance[rest])
    mean, covariance = other.joint(post.inputs.take(block))
    got_mean, got_covariance = post.without(block)
    assert np.allclose(got_mean, mean, atol=1e-9)
    assert np.allclose(got_covariance, covariance, atol=1e-9)


def test_one_more_measurement_equals_conditioning_anew() -> None:
    post = _posterior()
    new = _inputs(2, 9)
    grown = post.add(new, np.array([0.3, -0.2]), np.array([0.004, 0.002]))
    anew = Posterior(KERNEL, THETA, grown.inputs, grown.y, grown.variance)
    asked = _inputs(20, 11)
    for got, want in zip(grown.predict(asked), anew.predict(asked), strict=True):
        assert np.allclose(got, want, atol=1e-10)


def test_a_dense_deployment_is_compressed_without_loss() -> None:
    post = _posterior()
    rng = np.random.default_rng(2)
    asked = Inputs(rng.uniform(0, 8, (900, 2)), np.ones((900, 2), dtype=np.int64))
    other = Inputs(rng.uniform(0, 8, (500, 2)), np.zeros((500, 2), dtype=np.int64))
    for cells, (dense_mean, dense_variance) in zip((asked, other), post.predict_dense([asked, other], 0), strict=True):
        mean, variance = post.predict(cells)
        assert np.abs(dense_mean - mean).max() < 3e-3
        assert np.abs(np.sqrt(dense_variance) - np.sqrt(variance)).max() < 3e-3


def test_a_block_left_out_under_other_inputs_is_predicted_without_its_cells() -> None:
    rng = np.random.default_rng(5)
    inputs, variance, y = _inputs(30, 5), rng.uniform(0.01, 0.1, 30), rng.standard_normal(30)
    posterior, block = Posterior(KERNEL, THETA, inputs, y, variance), np.array([3, 4, 11, 25])
    for usual, revised in zip(posterior.without(block), posterior.without(block, inputs.values[block]), strict=True):
        assert np.allclose(usual, revised, atol=1e-9)
    others = np.setdiff1d(np.arange(30), block)
    rest = Posterior(KERNEL, THETA, inputs.take(others), y[others], variance[others])
    moved = inputs.values[block] + 0.3
    for expected, revised in zip(
        rest.joint(Inputs(moved, inputs.codes[block])), posterior.without(block, moved), strict=True
    ):
        assert np.allclose(expected, revised, atol=1e-9)
