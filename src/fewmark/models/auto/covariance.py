"""The components of `auto`'s covariance and the priors on their hyperparameters.

Length scales are in octaves (all inputs are logs to base 2), standard deviations in natural-log units of latency.
The priors are broad statements about inference systems in general, not learned from any table.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from fewmark.models.auto.features import COLUMNS, GROUPS, OWN
from fewmark.models.gp.kernel import Component, Kernel
from fewmark.models.gp.regression import HyperPrior
from fewmark.tables.arrays import FloatArray

_SCALES: Final = {  # prior median of the length scale, in octaves
    "log2_input": 4.0, "log2_output": 4.0, "log2_load": 4.0, "kv_to_weights": 4.0, "compute_to_memory": 4.0,
    "overhead_to_memory": 4.0, "pressure": 2.0, "prefill_to_decode": 4.0, "log2_parameters": 3.0, "log2_devices": 2.0,
    "online": 1.0,
}  # fmt: skip
_CELL: Final = tuple(name for name in _SCALES if name not in ("log2_parameters", "log2_devices", "online"))
_SD: Final = 1.0  # of a log length scale


def components() -> tuple[Component, ...]:
    """The summands, from what all deployments share down to what one has for itself."""
    e, a, m, d = (GROUPS.index(name) for name in ("engine", "accelerator", "model", "deployment"))

    def at(*names: str) -> tuple[int, ...]:
        return tuple(COLUMNS.index(name) for name in names)

    every = at(*_CELL, "log2_parameters", "log2_devices", "online")
    shares = at("memory", "compute", "overhead", "cache")
    return (
        Component("all", (), every),
        Component("engine", (e,), every),
        Component("accelerator", (a,), every),
        Component("model", (m,), every),
        Component("engine x accelerator", (e, a), every),
        Component("engine x model", (e, m), every),
        Component("accelerator x model", (a, m), every),
        Component("engine x accelerator x model", (e, a, m), every),
        Component("deployment", (d,), at(*_CELL), scaled=OWN),
        Component("deployment, local", (d,), at("log2_input", "log2_output", "log2_load"), scaled=OWN),
        Component("level", (), at("constant"), linear=True),
        Component("engine shares", (e,), shares, linear=True),
        Component("accelerator shares", (a,), shares, linear=True),
        Component("engine x accelerator shares", (e, a), shares, linear=True),
        Component("deployment shares", (d,), shares, linear=True, scaled=OWN),
    )


def own(kernel: Kernel, theta: FloatArray, values: FloatArray) -> FloatArray:
    """The covariance that cells of one deployment have for themselves alone, at amplitude 1, (n, n)."""
    values = values.copy()
    values[:, OWN] = 1.0
    return kernel.within(theta, values, values, only_scaled=True)


def prior(kernel: Kernel) -> HyperPrior:
    """Where the search starts and how far it may go."""
    mean, sd = np.empty(kernel.size), np.empty(kernel.size)
    for component, at in zip(kernel.components, kernel.slices, strict=True):
        if component.linear:
            mean[at], sd[at] = np.log(0.5 if component.name == "level" else 0.1), 1.0
            continue
        local = component.name.endswith("local")
        scales = [_SCALES[COLUMNS[column]] * (0.4 if local else 1.0) for column in component.columns]
        mean[at] = np.log([0.02 if local else 0.15, *scales])
        sd[at] = [1.0, *([_SD] * len(scales))]
    return HyperPrior(mean, sd, noise_mean=np.log(0.01), noise_sd=1.0)
