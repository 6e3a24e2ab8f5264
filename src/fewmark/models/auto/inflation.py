"""Wider intervals where the known cells of a deployment are surprising, as of a Student-t process."""

from __future__ import annotations

import numpy as np

DEGREES = 4.0  # of the common scale of what is not known of a deployment


def inflation(distance: float, n_known: int) -> float:
    """What to multiply a block's standard deviations with, by how surprising its n known cells are.

    `distance` is the squared Mahalanobis distance of their values from what all other cells foretell of them.
    """
    return float(np.sqrt((DEGREES + distance) / (DEGREES + n_known)))
