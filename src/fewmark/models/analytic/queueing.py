"""Waiting in a closed loop: what a first token takes where users outnumber the sequences that are served at once.

Notation: U users, B the most sequences that an engine serves at once, D the decoding of a request, x = T0 / D with T0
the first token's time where nobody waits. Each user always has one request in the system, so that a request waits for
U / B - 1 others to be served, each T0 + D long, and not at all below the knee at U = B:

    ttft = T0 + (T0 + D) · max(0, U / B - 1) = T0 · W,   log W = log(1 + (1 + 1 / x) · max(0, U / B - 1))

Where B is uncertain, log W is: between nothing and several units near a knee. Its mean is added to the mean function,
its variance to that of what is foretold.

Source: Little's law for the closed system and for those in service (Little 1961); with deterministic service the two
asymptotes of a closed queue are met exactly (Denning and Buzen 1978, section 4).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from fewmark.tables.arrays import FloatArray

FINE: Final = 3  # points of each step of a grid


def log_first_token(
    users: FloatArray, log2_most: FloatArray, step: float, log_x: FloatArray, *, sharp: bool = True
) -> FloatArray:
    """log W of cells (n,) at each of b grid values of log2 B, and around it within the step, (n, b, FINE).

    With knees that are not sharp, U / B - 1 is (1 + (U / B)^3)^(1/3) - 1.
    """
    around = log2_most[:, None] + step * ((np.arange(FINE) + 0.5) / FINE - 0.5)
    ratio = users[:, None, None] / np.exp2(around)
    waiting = np.maximum(ratio - 1.0, 0.0) if sharp else np.cbrt(1.0 + ratio**3) - 1.0
    return np.asarray(np.log1p((1.0 + np.exp(-log_x))[:, None, None] * waiting))


def expected_waiting(
    reach: FloatArray, users: FloatArray, log2_most: FloatArray, step: float, log_x: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of log W, (n,) each; `reach` (n, b): the chance that B is at least each value of the grid."""
    chance = -np.diff(np.pad(reach, ((0, 0), (0, 1))), axis=1)[:, :, None] / FINE
    log_w = log_first_token(users, log2_most, step, log_x)
    mean = (chance * log_w).sum(axis=(1, 2))
    variance = (chance * (log_w - mean[:, None, None]) ** 2).sum(axis=(1, 2))
    return np.asarray(mean), np.asarray(np.maximum(variance, 0.0))
