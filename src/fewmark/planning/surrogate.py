"""What is believed of a space before and after a model is fitted to its known cells.

A model with a joint posterior answers by it; any other by its intervals and a smooth correlation within deployments.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from scipy.special import ndtri as normal_quantile

from fewmark.core.errors import ModelError
from fewmark.facts.facts import load_facts, user_files
from fewmark.models.auto.covariance import components, prior
from fewmark.models.auto.features import COLUMNS, DEPLOYMENT, Encoder, featurise
from fewmark.models.base import JointModel, Model
from fewmark.models.cache import FittedModels
from fewmark.models.gp.kernel import Component, Kernel
from fewmark.planning.belief import INTERVAL_LEVEL, Belief, Observation
from fewmark.planning.space import Space
from fewmark.tables.arrays import FloatArray
from fewmark.tables.repeats import measured_cells

MIN_ROWS: Final = 2  # below this no model is asked


def fit(model: Model | None, known: pd.DataFrame, target: str, models: FittedModels | None = None) -> Model | None:
    """The model fitted on known cells (see `measured_cells`); None where there is none or too little to fit it on.

    `models` are those fitted before, of which one may be of the same cells.
    """
    if model is None or len(known) < MIN_ROWS:
        return None
    try:
        y = known[target].to_numpy(dtype=float)
        return model.fit(known, y) if models is None else models.fit(model, known, y)
    except ModelError:
        return None


def joined(known: pd.DataFrame, relatives: pd.DataFrame | None, target: str) -> tuple[pd.DataFrame, int]:
    """What is known, with relatives measured elsewhere where it is too little to fit a model on; how many joined."""
    if relatives is None or relatives.empty or (len(known) and len(measured_cells(known, target)) >= MIN_ROWS):
        return known, 0
    if known.empty:
        return relatives, len(relatives)
    return pd.concat([known.astype(object), relatives.astype(object)], ignore_index=True), len(relatives)


def believe(space: Space, known: pd.DataFrame, target: str, fitted: Model | None) -> Belief:
    """What is believed of a space by a model fitted on `known`; the space's cells among them are marked as measured.

    Without a model only the space's own known cells count.
    """
    belief = prior_belief(space, target) if fitted is None else model_belief(space, fitted)
    knows = isinstance(fitted, JointModel)  # its posterior has the known values in it already
    values = np.log(known[target].to_numpy(dtype=float)) if len(known) else np.zeros(0)
    where = [(int(at), float(value)) for at, value in zip(space.locate(known), values, strict=True) if at >= 0]
    if not knows:  # all at once: each telling starts over from what was believed before the first
        return belief.condition_on([Observation(position, value, position) for position, value in where])
    for position, value in where:
        belief = belief.recall(position, value)
    return belief


NOISE_SD: Final = 0.01
# What one load of a deployment has for itself, at about the same lengths: engines choose their kernels by it. The sd,
# and the octaves of input, output and load over which it stays the same.
STEPS: Final = Component("steps", (DEPLOYMENT,), tuple(map(COLUMNS.index, ("log2_input", "log2_output", "log2_load"))))
STEPS_THETA: Final = np.log([0.06, 4.0, 4.0, 0.3])


def prior_belief(space: Space, target: str) -> Belief:
    """What is believed of a space of which nothing is measured: a roofline, right in its shape more than in its level.

    Mean and covariance are those that the model `auto` starts from before it has learned anything, and beside it what
    is no smooth function of the load: from one batch size to the next an engine may run other kernels.
    """
    smooth = Kernel(components())
    table = featurise(space.cells, target, load_facts(user_files()), Encoder())
    mean = table.sign * (table.log_roofline - table.to_latency)
    theta = np.append(prior(smooth).mean, STEPS_THETA)
    covariance = Kernel((*smooth.components, STEPS)).matrix(theta, table.inputs)
    return Belief(mean, covariance, np.zeros(len(space), dtype=bool), np.full(len(space), NOISE_SD))


def model_belief(space: Space, model: Model) -> Belief:
    """What a fitted model believes: its joint posterior where it has one, else its intervals and a smooth correlation.

    Where the model abstains, the belief is that of `prior_belief`.
    """
    blank = prior_belief(space, model.target)
    noise = blank.noise
    if isinstance(model, JointModel):
        mean, covariance, noise = model.joint(space.cells)
    else:
        answers = model.answer(space.cells, INTERVAL_LEVEL)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.log(answers.value)
            # a low end at or below zero says nothing on a log scale; the upper half of the interval always does
            upper = np.log(answers.high) - mean
            lower = mean - np.log(answers.low)
            width = np.where(np.isfinite(lower), np.maximum(upper, lower), upper) / normal_quantile(
                0.5 + INTERVAL_LEVEL / 2
            )
        width = np.where(np.isfinite(width), np.clip(width, 1e-3, 3.0), 1.0)
        correlation = structure(space, level=0.7, slope=0.1, long=0.5, short=0.2)
        unit = np.sqrt(np.diag(correlation))
        covariance = correlation / np.outer(unit, unit) * np.outer(width, width)
    known = np.isfinite(mean)
    if not known.all():
        both = np.outer(known, known)
        mean = np.where(known, mean, blank.mean)
        covariance = np.where(both, covariance, np.where(np.outer(~known, ~known), blank.covariance, 0.0))
    return Belief(mean, covariance, np.zeros(len(space), dtype=bool), noise)


def structure(space: Space, *, level: float, slope: float, long: float, short: float) -> FloatArray:
    """A covariance that is smooth within each deployment: a level, slopes by octave, long and short waves (n, n).

    The four are standard deviations of the log (slope: an octave).
    """
    x = space.octaves - space.octaves.mean(axis=0)
    distance = ((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=2)
    out = level**2 + slope**2 * (x @ x.T) + long**2 * np.exp(-distance / (2 * 3.0**2))
    out += short**2 * np.exp(-distance / (2 * 1.0**2))
    same = (space.deployment[:, None] == space.deployment[None, :]) & (space.kind[:, None] == space.kind[None, :])
    return np.asarray(out * same)
