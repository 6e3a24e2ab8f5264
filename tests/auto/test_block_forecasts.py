"""Blocks solved in a stack get what each gets by itself."""

from __future__ import annotations

import numpy as np

from fewmark.models.auto.block_forecasts import Block, foretell
from fewmark.models.auto.inflation import DEGREES, inflation
from fewmark.models.gp.amplitude import amplitude, is_unusual
from fewmark.models.gp.linalg import cholesky, solve
from fewmark.models.gp.noise import NOISE_STEPS, Noise, refresh_noise, settle_noise


def block(rng: np.random.Generator, n: int, n_stay: int, *, wild: bool) -> Block:
    x = rng.uniform(0, 6, n)
    own = 0.05 * np.exp(-0.5 * (x[:, None] - x) ** 2)
    covariance = 0.1 + 0.01 * np.outer(x, x) + own
    y = rng.multivariate_normal(np.zeros(n), covariance + 1e-4 * np.eye(n))
    if wild:
        y += 1.5 * np.sin(x) + np.where(rng.uniform(size=n) < 0.2, 0.8, 0.0)
    stay = np.zeros(n, dtype=bool)
    stay[rng.permutation(n)[:n_stay]] = True
    return Block(0.1 * rng.standard_normal(n), covariance, own, y, stay, np.log(0.01))


def alone(one: Block) -> tuple[np.ndarray, np.ndarray]:
    stay, group = one.stay, np.zeros(int(one.stay.sum()), dtype=np.int64)
    covariance, known = one.covariance, one.covariance[np.ix_(one.stay, one.stay)]
    y = one.y[stay] - one.mean[stay]
    noise = Noise(one.log_scale, np.ones(1), np.ones(len(y)))
    refresh_noise(noise, known, y, group, steps=NOISE_STEPS)
    if is_unusual(noise.precision, float(noise.factor[0])):
        found, noise = amplitude(y, known, one.own[np.ix_(stay, stay)], one.log_scale)
        covariance = covariance + (found**2 - 1) * one.own
    known, across = covariance[np.ix_(stay, stay)], covariance[np.ix_(~stay, stay)]
    factor = cholesky(known + np.diag(noise.variance(group)))
    weights = solve(factor, y)
    explained = (across * solve(factor, np.asfortranarray(across.T)).T).sum(1)
    variance = np.diag(covariance)[~stay] - explained + (np.exp(one.log_scale) * noise.factor[0]) ** 2
    return one.mean[~stay] + across @ weights, variance * inflation(float(y @ weights), len(y)) ** 2


def test_a_stack_of_uneven_blocks_gets_what_each_gets_alone() -> None:
    rng = np.random.default_rng(0)
    blocks = [
        block(rng, n, k, wild=i % 3 == 0) for i, (n, k) in enumerate([(8, 1), (30, 12), (9, 5), (25, 24), (40, 7)] * 6)
    ]
    for one, (mean, variance) in zip(blocks, foretell(blocks, DEGREES), strict=True):
        expected = alone(one)
        np.testing.assert_allclose(mean, expected[0], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(variance, expected[1], rtol=1e-6)


def test_noise_settles_where_many_steps_of_expectation_maximisation_lead() -> None:
    rng = np.random.default_rng(3)
    x, group = rng.uniform(0, 6, 60), np.repeat(np.arange(3), 20)
    covariance = 0.3 * np.exp(-0.5 * (x[:, None] - x) ** 2)
    y = rng.multivariate_normal(np.zeros(60), covariance) + 0.02 * rng.standard_normal(60)
    y[::15] += 1.0
    fast, slow = (Noise(np.log(0.01), np.ones(3), np.ones(60)) for _ in range(2))
    settle_noise(fast, covariance, y, group, steps=20)
    refresh_noise(slow, covariance, y, group, steps=600)
    np.testing.assert_allclose(np.log(fast.variance(group)), np.log(slow.variance(group)), atol=0.05)
