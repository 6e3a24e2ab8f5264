"""Public measurements joined to a small table, where they predict its cells better than it does by itself.

Of very few cells the public ones need but foretell more than the roofline does. Of `MIN_TELLING` cells or more, each is
foretold without itself, and each deployment without all of its cells, with the public cells under the prior's
hyperparameters and without them under the table's own: the higher log density (of a Student t, so that one cell does
not decide) is taken. The table's hyperparameters have seen what they foretell, so doubt is on its side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from fewmark.models.auto.covariance import prior as prior_of_kernel
from fewmark.models.auto.features import is_whole
from fewmark.models.auto.featuriser import Featuriser
from fewmark.models.auto.hyperparameters import Hyperparameters
from fewmark.models.auto.local_experts import LocalExperts
from fewmark.models.auto.public_prior import MAX_OWN_CELLS, Prior, packaged_prior
from fewmark.models.gp.linalg import log_normal
from fewmark.tables.arrays import FloatArray
from fewmark.tables.metrics import convert, latency_of, tokens_and_load

MIN_TELLING: Final = 8
DEGREES: Final = 4.0


@dataclass(frozen=True, slots=True)
class Joined:
    """A table joined by public cells.

    Attributes
    ----------
    featuriser, hypers, experts
        What the joint table has taught; hyperparameters are the prior's.
    n_public_cells : int
        How many public cells joined.
    helps : bool
        Whether the public cells predict the table's own better than the roofline alone does.
    """

    featuriser: Featuriser
    hypers: list[Hyperparameters]
    experts: LocalExperts
    n_public_cells: int
    helps: bool


def prior_for(prior: bool | Mapping[str, Prior], target: str, X: pd.DataFrame, values: FloatArray) -> Prior | None:
    """The prior that may join these cells; None where there is none, or the cells are many or packaged ones."""
    if not prior or len(X) > MAX_OWN_CELLS:
        return None
    name = latency_of(target)
    found = packaged_prior(name) if prior is True else dict(prior).get(name)
    if found is None or not {"input_tokens", "output_tokens"} <= set(map(str, X.columns)):
        return None
    return None if found.has_seen(X, convert(target, values, *tokens_and_load(X))) else found


def join(
    prior: Prior, X: pd.DataFrame, values: FloatArray, featuriser: Featuriser, *, max_cells: int, random_state: int
) -> Joined:
    """Join the prior's nearest cells to n cells with `values` (n,), under the prior's hyperparameters."""
    target = featuriser.target
    packaged, at = prior.related(X, featuriser.facts)
    both = pd.concat([X.astype(object), packaged.astype(object)], ignore_index=True)
    public = convert(target, prior.seconds[at], *tokens_and_load(packaged))
    table, residual = featuriser.learn(both, np.append(values, public))
    codes, fold = table.deployment, np.append(np.ones(len(X), dtype=np.int64), prior.fold[at])
    hypers = [
        Hyperparameters(theta, float(scale), frozenset(codes[fold == number].tolist()) if number else frozenset())
        for number, (theta, scale) in enumerate(zip(prior.theta, prior.log_scale, strict=True))
    ]

    def experts(of: slice) -> LocalExperts:
        rows = np.arange(len(both))[of]
        part = replace(
            table, inputs=table.inputs.take(rows), log_roofline=table.log_roofline[of], axes=table.axes[of],
            loop=table.loop[of], floor=table.floor[of], to_latency=table.to_latency[of], unusable=table.unusable[of],
        )  # fmt: skip
        return LocalExperts.condition(
            hypers, part, residual[of], max_cells=max_cells, random_state=random_state, whole=is_whole(target)
        )

    alone = experts(slice(len(X), None))
    own, one = table.inputs.take(np.arange(len(X))), np.eye(len(X))
    first = alone.members[0]
    mean, covariance = first.posterior.joint(own)
    told = log_normal(residual[: len(X)] - mean, covariance + alone.typical_noise**2 * one)
    blank = prior_of_kernel(first.kernel)
    untaught = first.kernel.matrix(blank.mean, own) + np.exp(2 * blank.noise_mean) * one
    helps = told >= log_normal(residual[: len(X)], untaught)
    return Joined(featuriser, hypers, experts(slice(None)) if helps else alone, len(packaged), helps)


def log_density(experts: LocalExperts, n: int) -> float:
    """The log density of the first n cells of a single expert, each left out by itself and with its deployment."""
    one = experts.members[0]
    posterior, noise = one.posterior, one.posterior.variance
    blocks = [np.array([row]) for row in range(n)]
    own = [rows[rows < n] for rows in one.members.values()]
    own = [rows for rows in own if len(rows)]
    if len(own) > 1:
        blocks += own
    total = 0.0
    for rows in blocks:
        mean, covariance = posterior.without(rows)
        variance = np.maximum(np.diag(covariance), 0.0) + noise[rows]
        off2 = (posterior.y[rows] - mean) ** 2 / variance
        total += float((-0.5 * (DEGREES + 1) * np.log1p(off2 / DEGREES) - 0.5 * np.log(variance)).sum())
    return total
