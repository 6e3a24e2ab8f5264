"""Factors of covariances: Cholesky with jitter, the inverse, triangular solves, the normal log density."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.linalg import lapack

from fewmark.core.errors import ModelError
from fewmark.tables.arrays import FloatArray

MANY_ROWS: Final = 500


def cholesky(matrix: FloatArray, noise: FloatArray | float = 0.0) -> FloatArray:
    """The lower factor of a symmetric matrix plus `noise` (n,) on its diagonal.

    Adds the smallest jitter that makes it definite.
    """
    size = float(np.mean(np.diag(matrix) + noise))
    for jitter in (0.0, 1e-10, 1e-8, 1e-6, 1e-4):
        trial = matrix.T.copy(order="F")  # the same matrix, and columns are copied faster than rows
        trial[np.diag_indices(len(trial))] += noise + jitter * size
        factor, info = lapack.dpotrf(trial, lower=1, clean=1, overwrite_a=1)
        if info == 0:
            return np.asarray(factor)
    raise ModelError("the covariance of the measured cells is not positive definite", hint="report this table")


def inverse(factor: FloatArray) -> FloatArray:
    """The symmetric inverse of the matrix whose lower Cholesky factor this is."""
    out, info = lapack.dpotri(factor, lower=1)
    if info != 0:
        raise ModelError("the covariance of the measured cells is singular", hint="report this table")
    both = out + out.T  # above the diagonal the factor has zeros, and so has its inverse
    both[np.diag_indices(len(out))] *= 0.5
    return np.asarray(both)


def inverse_diagonal(factor: FloatArray) -> FloatArray:
    """The diagonal of the inverse of the matrix whose lower Cholesky factor this is, (n,).

    For many rows in single precision: good for what takes a variance, not for what solves.
    """
    if len(factor) < MANY_ROWS:
        root, _ = lapack.dtrtri(factor, lower=1)
    else:
        root, _ = lapack.strtri(factor.astype(np.float32, order="F"), lower=1, overwrite_c=1)
    return np.asarray(np.einsum("ij,ij->j", root, root), dtype=np.float64)


def solve(factor: FloatArray, right: FloatArray) -> FloatArray:
    """(L L^T)^-1 right."""
    out, _ = lapack.dpotrs(factor, right, lower=1)
    return np.asarray(out)


def log_normal(y: FloatArray, covariance: FloatArray) -> float:
    """log N(y | 0, covariance) of n values, up to a constant."""
    factor = cholesky(covariance)
    return float(-0.5 * y @ solve(factor, y) - np.log(np.diag(factor)).sum())
