"""What is foretold of left-out cells of many deployments at once: the algebra of small matrices, in stacks.

A calibration leaves out cells of thousands of small blocks, a deployment each, and one call of LAPACK a block would
spend its time in Python. Blocks of like size are padded (with independent cells of no residual) and solved as a stack.

Notation as in `fewmark.models.gp.noise`; B blocks of at most k cells that stay, W = the mask of real ones (B, k).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fewmark.models.gp.amplitude import AMPLITUDES, LARGE_NOISE, LOG_ODDS, LOW_PRECISION, MIN_CELLS, STEPS
from fewmark.models.gp.noise import DEGREES, KAPPA, NOISE_FLOOR, NOISE_STEPS
from fewmark.tables.arrays import FloatArray

STACK: Final = 512  # blocks solved at once
BUCKET: Final = 6  # sizes that share a stack


@dataclass(frozen=True, slots=True)
class Block:
    """One deployment's cells of which some stay.

    `mean` (n,), `covariance` (n, n): of the latent function given all other deployments, at amplitude 1; `own` (n, n):
    what of it is the deployment's own; `y` (n,): its residuals; `stay` (n,): which are known (one at least);
    `log_scale`: of the common noise.
    """

    mean: FloatArray
    covariance: FloatArray
    own: FloatArray
    y: FloatArray
    stay: NDArray[np.bool_]
    log_scale: float


@dataclass(slots=True)
class _Noise:
    """Noise of B blocks: log common scale (B,), factor on it (B,), latent precisions (B, k)."""

    log_scale: FloatArray
    factor: FloatArray
    precision: FloatArray

    @classmethod
    def blank(cls, log_scale: FloatArray, mask: NDArray[np.bool_]) -> _Noise:
        return cls(log_scale, np.ones(len(mask)), np.ones(mask.shape))

    @property
    def variance(self) -> FloatArray:
        scale2 = (np.exp(self.log_scale) * self.factor) ** 2 + NOISE_FLOOR**2
        return np.asarray(scale2[:, None] / self.precision)


def foretell(blocks: Sequence[Block], degrees: float) -> list[tuple[FloatArray, FloatArray]]:
    """Mean and variance (with noise, stretched) of the cells that do not stay, given those that do, for each block.

    `degrees` as in `leave_out.stretch`.
    """
    out: list[tuple[FloatArray, FloatArray] | None] = [None] * len(blocks)
    known = np.array([int(block.stay.sum()) for block in blocks])
    hidden = np.array([len(block.stay) for block in blocks]) - known
    order = np.lexsort([hidden, -(-known // BUCKET)])
    bucket = -(-known[order] // BUCKET)
    start = 0
    while start < len(order):
        stop = start + int(np.searchsorted(bucket[start : start + STACK], bucket[start], side="right"))
        chosen = order[start:stop]
        for at, answer in zip(chosen, _stack([blocks[i] for i in chosen], degrees), strict=True):
            out[at] = answer
        start = stop
    return [answer for answer in out if answer is not None]


def _stack(blocks: Sequence[Block], degrees: float) -> list[tuple[FloatArray, FloatArray]]:
    k = max(int(block.stay.sum()) for block in blocks)
    h = max(len(block.stay) - int(block.stay.sum()) for block in blocks)
    count = len(blocks)
    mask = np.zeros((count, k), dtype=bool)
    known, own = np.zeros((count, k, k)), np.zeros((count, k, k))
    across, own_across = np.zeros((count, h, k)), np.zeros((count, h, k))
    prior, own_prior = np.zeros((count, h)), np.zeros((count, h))
    y = np.zeros((count, k))
    for i, block in enumerate(blocks):
        at, asked = np.flatnonzero(block.stay), np.flatnonzero(~block.stay)
        n, m = len(at), len(asked)
        mask[i, :n] = True
        y[i, :n] = block.y[at] - block.mean[at]
        for full, inner, outer, diagonal in (
            (block.covariance, known, across, prior),
            (block.own, own, own_across, own_prior),
        ):
            columns = full[:, at]
            inner[i, :n, :n], outer[i, :m, :n] = columns[at], columns[asked]
            diagonal[i, :m] = full[asked, asked]
    size = mask.sum(1)
    log_scale = np.array([block.log_scale for block in blocks])
    noise = _Noise.blank(log_scale, mask)
    _refresh(noise, known, y, mask, NOISE_STEPS)
    low = ((noise.precision < LOW_PRECISION) & mask).sum(1)
    unusual = np.flatnonzero((size >= MIN_CELLS) & ((low >= 2) | (noise.factor > LARGE_NOISE)))
    if len(unusual):
        found, better = _amplitude(known[unusual], own[unusual], y[unusual], mask[unusual], log_scale[unusual])
        noise.factor[unusual], noise.precision[unusual] = better.factor, better.precision
        extra = (found**2 - 1)[:, None, None]
        known[unusual] += extra * own[unusual]
        across[unusual] += extra * own_across[unusual]
        prior[unusual] += extra[:, 0] * own_prior[unusual]
    inverse = np.linalg.inv(_with_noise(known, noise.variance, mask))
    weights = (inverse @ y[:, :, None])[:, :, 0]
    stretched = (degrees + (weights * y).sum(1)) / (degrees + size)
    mean = (across @ weights[:, :, None])[:, :, 0]
    explained = ((across @ inverse) * across).sum(2)
    scale2 = np.exp(2 * log_scale) * noise.factor**2
    variance = np.maximum(prior - explained + scale2[:, None], 1e-12) * stretched[:, None]
    return [
        (block.mean[~block.stay] + mean[i, :m], variance[i, :m])
        for i, block in enumerate(blocks)
        for m in [int((~block.stay).sum())]
    ]


def _with_noise(covariance: FloatArray, variance: FloatArray, mask: NDArray[np.bool_]) -> FloatArray:
    out = covariance.copy()
    at = np.arange(out.shape[1])
    out[:, at, at] += np.where(mask, variance, 1.0)
    return out


def _refresh(noise: _Noise, covariance: FloatArray, y: FloatArray, mask: NDArray[np.bool_], steps: int) -> None:
    """As `noise.refresh_noise`, for a stack of single groups."""
    count = mask.sum(1)
    common = np.exp(2 * noise.log_scale)
    at = np.arange(y.shape[1])
    for _ in range(steps):
        variance = noise.variance
        inverse = np.linalg.inv(_with_noise(covariance, variance, mask))
        a = (inverse @ y[:, :, None])[:, :, 0]
        squared = (variance * a) ** 2 + variance - variance**2 * inverse[:, at, at]
        for _ in range(3):  # precision and scale settle together at little cost
            scale2 = common * noise.factor**2 + NOISE_FLOOR**2
            noise.precision = (DEGREES + 1) / (DEGREES + squared / scale2[:, None])
            weighted = np.where(mask, noise.precision * squared, 0.0).sum(1)
            noise.factor = np.sqrt((weighted / common + KAPPA) / (count + KAPPA))


def _amplitude(
    known: FloatArray, own: FloatArray, y: FloatArray, mask: NDArray[np.bool_], log_scale: FloatArray
) -> tuple[FloatArray, _Noise]:
    """As `amplitude`, for a stack: the amplitude of each block's own terms (B,), and the noise under it."""
    found = np.ones(len(y))
    best, noise = _evidence(known, y, mask, log_scale)
    for g in AMPLITUDES:
        evidence, other = _evidence(known + (g**2 - 1) * own, y, mask, log_scale)
        evidence -= LOG_ODDS + 0.5 * np.log(g) ** 2
        better = evidence > best
        best, found = np.where(better, evidence, best), np.where(better, g, found)
        noise.factor = np.where(better, other.factor, noise.factor)
        noise.precision = np.where(better[:, None], other.precision, noise.precision)
    return found, noise


def _evidence(
    covariance: FloatArray, y: FloatArray, mask: NDArray[np.bool_], log_scale: FloatArray
) -> tuple[FloatArray, _Noise]:
    noise = _Noise.blank(log_scale, mask)
    _refresh(noise, covariance, y, mask, STEPS)
    total = _with_noise(covariance, noise.variance, mask)
    solved = np.linalg.solve(total, y[:, :, None])[:, :, 0]
    fit = -0.5 * (y * solved).sum(1) - 0.5 * np.linalg.slogdet(total)[1]
    w = noise.precision
    precisions = np.where(mask, (DEGREES / 2 - 1) * np.log(w) - DEGREES / 2 * w, 0.0).sum(1)
    return fit + precisions - 0.5 * KAPPA * noise.factor**-2.0 - KAPPA * np.log(noise.factor), noise
