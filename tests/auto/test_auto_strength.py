"""A deployment that differs coherently by factors is believed; a single cell that does is an outlier."""

from __future__ import annotations

import numpy as np

from fewmark.models.gp.amplitude import amplitude, is_unusual

LENGTH, LOAD = (a.ravel() for a in np.meshgrid(np.arange(7.0, 12.0), np.array([0.0, 4.0, 5.0, 6.0]), indexing="ij"))
OWN = 0.03**2 * np.exp(-0.5 * ((LENGTH[:, None] - LENGTH) ** 2 / 4 + (LOAD[:, None] - LOAD) ** 2))
COVARIANCE = OWN + 0.05**2 * np.exp(-0.5 * (LENGTH[:, None] - LENGTH) ** 2 / 16)
LOG_SCALE = np.log(0.01)


def test_a_coherent_difference_is_strength() -> None:
    jump = np.where(LOAD >= 5, 0.06 * (LENGTH - 6), 0.0)
    found, noise = amplitude(jump, COVARIANCE, OWN, LOG_SCALE)
    assert found >= 4
    assert (noise.precision > 0.4).mean() > 0.8


def test_single_outliers_are_noise() -> None:
    residual = np.zeros(len(LOAD))
    residual[[3, 12]] = 1.6, -1.2
    found, noise = amplitude(residual, COVARIANCE, OWN, LOG_SCALE)
    assert found == 1.0
    assert (noise.precision[[3, 12]] < 0.05).all()


def test_usual_deployments_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(COVARIANCE + 0.01**2 * np.eye(len(LOAD)))
    found = [amplitude(root @ rng.standard_normal(len(LOAD)), COVARIANCE, OWN, LOG_SCALE)[0] for _ in range(40)]
    assert np.mean(np.array(found) == 1.0) >= 0.95


def test_what_looks_unusual() -> None:
    assert is_unusual(np.array([1.0, 0.2, 0.3, 1.1]), 1.0)
    assert is_unusual(np.ones(5), 3.0)
    assert not is_unusual(np.array([1.0, 0.01, 0.9, 1.1]), 1.0)
    assert not is_unusual(np.full(3, 0.1), 5.0)
