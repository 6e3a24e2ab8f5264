"""The situation of a deployment that is asked about: what it is, and which of its cells are known."""

from __future__ import annotations

import numpy as np

from fewmark.tables.arrays import FloatArray

# a deployment's number, its accelerator's, log2 of its devices, the axes of its known cells
Situation = tuple[int, int, float, bytes]


def situation_of(
    deployment: int, accelerator: int, log2_devices: float, known: FloatArray
) -> tuple[Situation, FloatArray]:
    """The situation as a key, and the axes of its known cells, each once."""
    kept = np.unique(known[:, :3], axis=0)
    return (deployment, accelerator, log2_devices, kept.tobytes()), kept
