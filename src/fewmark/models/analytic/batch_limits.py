"""How likely each limit of a batch is by a deployment's cells: of its sequences S, and of its cached tokens K.

Notation as in `fewmark.models.analytic.closed_loop`; n cells; grids of s values of log2 S, k of log2 K, l of the log2
of the tokens of a request.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from fewmark.models.analytic.queueing import log_first_token
from fewmark.tables.arrays import FloatArray

STEP: Final = 0.25  # octaves
SEQUENCES: Final = np.arange(0.0, 12.0 + STEP, STEP)  # log2 S, and log2 B
TOKENS: Final = np.arange(2.0, 26.0 + STEP, STEP)  # log2 K
LENGTHS: Final = np.arange(0.0, 20.5, 0.5)  # log2 (ii + oo) at which B is kept
SCALE: Final = 0.3  # of log ttft beside its formula
SCALE_OF_SHARE: Final = 0.25  # of the log of e2e / D
CROWDED: Final = 0.6  # the same of the part without waiting, above it
DEGREES: Final = 4.0
MIN_PRECISION: Final = 1e-2  # precision of what tells nothing


def log_waves(users: FloatArray, log2_most: FloatArray) -> FloatArray:
    """log(1 + (U / B)^3) / 3: how many times over the users fill the batch, natural log."""
    return np.asarray(np.logaddexp(0.0, 3 * np.log(2.0) * (np.log2(users) - log2_most)) / 3)


def log_likelihood(first: FloatArray, at_rest: FloatArray, users: FloatArray, *, sharp: bool) -> FloatArray:
    """The log likelihood of each B of the grid by each cell, (n, b), averaged over what lies between its points."""
    waiting = log_first_token(users, SEQUENCES, STEP, at_rest, sharp=sharp)
    off = first[:, None, None] - at_rest[:, None, None] - waiting
    above = np.hypot(SCALE, CROWDED * np.exp(-waiting))
    each = -0.5 * (DEGREES + 1) * np.log1p((off / np.where(off < 0, SCALE, above)) ** 2 / DEGREES)
    return np.asarray(logsumexp(each - np.log(SCALE + above), axis=2))


def soft_log_likelihood(first: FloatArray, at_rest: FloatArray, users: FloatArray) -> FloatArray:
    """The same where knees are rounded, by the share of a request's time that is not decoding."""
    excess = np.log1p(np.exp(first)) - np.log1p(np.exp(at_rest))
    off = excess[:, None] - log_waves(users[:, None], SEQUENCES)
    return np.asarray(-0.5 * (DEGREES + 1) * np.log1p((off / SCALE_OF_SHARE) ** 2 / DEGREES))


@lru_cache(maxsize=128)
def _place(steps: int) -> NDArray[np.intp]:
    """Where B lies on its grid for requests of so many steps of log2 tokens, (s, k)."""
    fitting = np.rint(TOKENS / STEP).astype(np.intp) - steps
    place = np.minimum(np.arange(len(SEQUENCES))[:, None], np.maximum(fitting, 0))
    place.setflags(write=False)
    return place


def together(each: FloatArray, log2_tokens: FloatArray) -> FloatArray:
    """The log likelihood of S and K by all cells of a deployment, (s, k)."""
    out = np.zeros((len(SEQUENCES), len(TOKENS)))
    for length in np.unique(log2_tokens).tolist():
        alike = each[log2_tokens == length].sum(0)
        steps, rest = divmod(length / STEP, 1.0)
        out += (1 - rest) * alike[_place(int(steps))] + rest * alike[_place(int(steps) + 1)]
    return out


def log_prior(prior: FloatArray) -> FloatArray:
    """log p(S, K), up to a constant, (s, k)."""
    mean_s, variance_s, mean_k, variance_k = prior
    apart = -0.5 * (SEQUENCES[:, None] - mean_s) ** 2 / variance_s
    return np.asarray(apart - 0.5 * (TOKENS - mean_k) ** 2 / variance_k)


def _weights(likelihood: FloatArray, prior: FloatArray) -> FloatArray:
    """The posterior over S and K, (s, k)."""
    log_weight = likelihood + log_prior(prior)
    weight = np.exp(log_weight - log_weight.max())
    return np.asarray(weight / weight.sum())


def site(likelihood: FloatArray, prior: FloatArray) -> FloatArray:
    """What a deployment's cells say of S and of K by themselves, as Gaussians: the posterior over the prior, (4,)."""
    weight = _weights(likelihood, prior)
    out = np.empty(4)
    for at, grid, share in ((0, SEQUENCES, weight.sum(1)), (2, TOKENS, weight.sum(0))):
        mean = share @ grid
        variance = share @ grid**2 - mean**2 + 0.04  # the grid's own coarseness
        precision = 1 / variance - 1 / prior[at + 1]
        if precision < MIN_PRECISION:
            out[at : at + 2] = prior[at], 1 / MIN_PRECISION
        else:
            out[at : at + 2] = (mean / variance - prior[at] / prior[at + 1]) / precision, 1 / precision
    return out


def reach_of(likelihood: FloatArray, prior: FloatArray) -> FloatArray:
    """The chance that B is at least each of its grid, at each of `LENGTHS`, (l, s)."""
    both = np.cumsum(np.cumsum(_weights(likelihood, prior)[::-1, ::-1], axis=0), axis=1)[::-1, ::-1]
    padded = np.pad(both, ((0, 0), (0, 1)))
    at = np.rint((SEQUENCES + LENGTHS[:, None] - TOKENS[0]) / STEP).astype(np.intp)
    out = padded[np.arange(len(SEQUENCES)), np.clip(at, 0, len(TOKENS))]
    out[:, 0] = 1.0  # one is always served
    return np.asarray(out)


def between(log2_tokens: FloatArray, reach: FloatArray) -> FloatArray:
    """`reach` (l, s) at these lengths, (n, s)."""
    at = np.clip(log2_tokens / (LENGTHS[1] - LENGTHS[0]), 0.0, len(LENGTHS) - 1.0)
    low = np.minimum(at.astype(np.intp), len(LENGTHS) - 2)
    share = (at - low)[:, None]
    return np.asarray((1 - share) * reach[low] + share * reach[low + 1])
