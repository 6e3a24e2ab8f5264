"""What is known of a deployment's load before the first probe: its earlier measurements, and a model of all others.

Measurements of the deployment itself at the same lengths are probes that cost nothing. All that a store holds besides,
of this deployment at other lengths and of others, teaches a model, whose intervals at a few loads say how much it is
worth. A model that abstains at any of them, or has nothing to learn from, says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Final, Literal

import numpy as np

from fewmark.core import Case, Deployment, FewmarkError, Measurement, Workload
from fewmark.interop import from_measurements
from fewmark.models.cache import FittedModels, cache_folder
from fewmark.models.gp.threads import single_threaded
from fewmark.tables.arrays import FloatArray
from fewmark.verbs.learning import Learner
from fewmark.verbs.predict import answer_cases
from fewmark.verbs.source import read_source

Load = Literal["concurrency", "request_rate"]
Curve = Callable[[float], tuple[float, float]]
N_LOADS: Final = 7
LEVEL: Final = 0.9
MIN_SD: Final = 0.1  # log units: no model is believed more than that where nothing was measured


def at_load(workload: Workload, load: Load, value: float) -> Workload:
    """The workload at a load."""
    streams, rate = (int(value), None) if load == "concurrency" else (None, value)
    return replace(workload, batch_size=None, concurrency=streams, request_rate=rate)


def split(
    held: Sequence[Measurement], deployment: Deployment, workload: Workload, load: Load
) -> tuple[list[Measurement], list[Measurement]]:
    """Measurements under this kind of load: those of the deployment at these lengths, and all others."""
    own: list[Measurement] = []
    others: list[Measurement] = []
    for measurement in held:
        value = getattr(measurement.case.workload, load)
        if value is None:
            continue
        is_own = measurement.case == Case(deployment, at_load(workload, load, value))
        (own if is_own else others).append(measurement)
    return own, others


@single_threaded
def predicted_curves(
    others: Sequence[Measurement],
    deployment: Deployment,
    workload: Workload,
    load: Load,
    metrics: Sequence[str],
    low: float,
    high: float,
    random_state: int = 0,
) -> dict[str, Curve] | None:
    """Each metric against the load by a model that is fitted to other measurements; None where it does not tell.

    Parameters
    ----------
    others : sequence of Measurement
    deployment, workload : Deployment, Workload
        Whose loads are asked for.
    load : {"concurrency", "request_rate"}
    metrics : sequence of str
    low, high : float
        The range of loads.
    random_state : int

    Returns
    -------
    dict of str to callable, or None
        From a load to the metric (s) and its standard deviation in log units.
    """
    if not others:
        return None
    loads = np.unique(np.geomspace(low, high, N_LOADS).round() if load == "concurrency" else np.geomspace(low, high, 7))
    asked = from_measurements([Measurement(Case(deployment, at_load(workload, load, float(at)))) for at in loads])
    models = FittedModels(cache_folder())
    try:
        learner = Learner(read_source(from_measurements(others)), "auto", models, random_state)
        curves: dict[str, Curve] = {}
        for metric in metrics:
            fitted, known, _ = learner.fit(metric)
            answered, _, _ = answer_cases(fitted, asked, known, None, LEVEL)
            curve = _curve(loads, *(answered[name].to_numpy(float) for name in ("value", "low", "high")))
            if curve is None:
                return None
            curves[metric] = curve
    except FewmarkError:
        return None  # too little is known to learn from
    finally:
        models.keep()
    return curves


def _curve(loads: FloatArray, value: FloatArray, low: FloatArray, high: FloatArray) -> Curve | None:
    """A prediction between loads, straight in logs; None where there is none at one of them."""
    if not (np.isfinite([value, low, high]).all() and (low > 0).all() and (high > low).all()):
        return None
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    sd = np.maximum(np.log(high / low) / (2 * z), MIN_SD)
    places, heights = np.log(loads), np.log(value)

    def curve(at: float) -> tuple[float, float]:
        return math.exp(float(np.interp(math.log(at), places, heights))), float(np.interp(math.log(at), places, sd))

    return curve


def probe_seconds(
    load: Load, n_requests: Callable[[float], int], known: Callable[[], Mapping[float, float]]
) -> Callable[[float], float]:
    """Seconds that a probe at a load is expected to take.

    Parameters
    ----------
    load : {"concurrency", "request_rate"}
    n_requests : callable
        Requests of a probe at a load.
    known : callable
        End-to-end latency (s) by load, as far as it is known.
    """

    def seconds(at: float) -> float:
        if load == "request_rate":
            return SETUP_S + n_requests(at) / at
        e2e = known()
        if not e2e:
            return 1.0  # all alike: nothing is known of how long a request takes
        near = min(e2e, key=lambda other: abs(math.log(other / at)))
        return SETUP_S + n_requests(at) * e2e[near] * math.sqrt(max(at / near, 1.0)) / at

    return seconds


SETUP_S: Final = 3.0  # warm-up, cache reset, the window's ends
