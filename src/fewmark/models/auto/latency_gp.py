"""One latency of all deployments: a Gaussian process on top of a roofline, with calibrated intervals.

    log latency = roofline(cell, published facts) + f(cell) + Student-t noise of the deployment's own scale

f is a Gaussian process whose covariance shares what deployments with the same engine, accelerator or model share
and leaves each deployment its own part (`fewmark.models.auto.covariance`); a deployment never seen starts from its
relatives, one without relatives from the roofline. At loads beyond those known, predictions shrink towards the
deployment's own parametric fit (`fewmark.models.auto.extrapolation`).

The model is composed of a featuriser (`fewmark.models.auto.featuriser`), a learning schedule by marginal likelihood
(`fewmark.models.auto.hyperparameters`), local experts that are exact (`fewmark.models.auto.local_experts`) and a
conformal layer, which takes the scores of other deployments under the same pattern of knowing
(`fewmark.models.auto.leave_out`). Throughput is latency turned over (in a closed loop by Little's law), so that these
targets agree with one another exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit as student_quantile

from fewmark.core.errors import ModelError
from fewmark.core.fractions import require_fraction
from fewmark.facts.facts import user_files
from fewmark.models.analytic.mechanistic import N_TERMS, Mechanistic
from fewmark.models.auto import state as saved_state
from fewmark.models.auto.conformity_scores import PRIOR_DEGREES
from fewmark.models.auto.estimate import CalibratedEstimate, LatencyEstimate, Scored
from fewmark.models.auto.features import Encoder, Features, is_whole
from fewmark.models.auto.featuriser import UNUSABLE, Featuriser
from fewmark.models.auto.hyperparameters import LearningSchedule
from fewmark.models.auto.local_experts import MAX_DOUBLINGS, LocalExperts
from fewmark.models.auto.prior_joining import join, prior_for
from fewmark.models.auto.public_prior import Prior
from fewmark.models.base import Answers, Model
from fewmark.models.design import anchors, greedy
from fewmark.models.gp.threads import single_threaded
from fewmark.models.state import Arrays, State, part, real, whole
from fewmark.tables.arrays import FloatArray
from fewmark.tables.cells import check_target
from fewmark.tables.precision import rounding_step

MAX_OWN_NOISE: Final = 0.15  # log sd; more than this is a shape that the parametric model lacks


class LatencyGP(Model):
    """A Gaussian process over all deployments on a roofline, robust to outliers, with calibrated intervals.

    Parameters
    ----------
    target : str, default "throughput_tok_s"
        The metric; one of `fewmark.core.metrics.TARGETS`.
    random_state : int, default 0
        Seed of the choice of cells that hyperparameters are learned from where there are very many.
    facts : sequence of str, optional
        Files with further facts of models and accelerators (`fewmark.facts.facts`); by default those that the variable
        `FEWMARK_FACTS` names.
    max_learning_cells : int, default 1000
        Hyperparameters are learned from at most this many cells, drawn at random.
    max_expert_cells : int, default 3000
        More cells than this are partitioned into local experts, each exact by itself.
    max_log_sd : float, default 0.7
        Abstain where the log prediction's standard deviation exceeds this: the interval would span a factor of ten.
    prior : bool or mapping, default False
        Whether a table of few cells, none of them packaged, is joined by public measurements
        (`fewmark.models.auto.public_prior`); or the priors themselves, by latency.

    Attributes
    ----------
    hypers_ : list of Hyperparameters
        First those that predict, then those that calibrate.
    featuriser_ : Featuriser
        What it learned of names and closed loops.
    experts_ : LocalExperts
        The measured cells.
    own_noise_ : float
        The log standard deviation of what may be noise of a deployment alone; 0 where there are several.
    n_public_cells_ : int
        How many public cells joined; 0 where the prior was not asked for, or did not help.
    """

    name: ClassVar[str] = "auto"
    pools_deployments: ClassVar[bool] = True
    uses_prior: ClassVar[bool] = True

    def __init__(
        self,
        *,
        target: str = "throughput_tok_s",
        random_state: int = 0,
        facts: Sequence[str] | None = None,
        max_learning_cells: int = 1000,
        max_expert_cells: int = 3000,
        max_log_sd: float = 0.7,
        prior: bool | Mapping[str, Prior] = False,
    ) -> None:
        super().__init__(target=target, random_state=random_state)
        self.facts = user_files() if facts is None else tuple(facts)
        self.max_learning_cells = max_learning_cells
        self.max_expert_cells = max_expert_cells
        self.max_log_sd = max_log_sd
        self.prior = prior

    @single_threaded
    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        values = check_target(y, len(X))
        if self._join_prior(X, values):
            return self
        self.featuriser_ = Featuriser(self.target, self.facts, step=rounding_step(values))
        table, residual = self.featuriser_.learn(X, values)
        self.hypers_ = LearningSchedule(self.max_learning_cells, self.random_state).learn(table.inputs, residual)
        return self._condition(X, values, table, residual)

    @single_threaded
    def refit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from other measured cells, with the hyperparameters that a fit has learned before."""
        self._require_fitted()
        values = check_target(y, len(X))
        if self._join_prior(X, values):
            return self
        encoder = self.featuriser_.encoder
        self.featuriser_ = Featuriser(self.target, self.facts, step=rounding_step(values), encoder=encoder)
        return self._condition(X, values, *self.featuriser_.learn(X, values))

    @single_threaded
    def add(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Take in further measurements without learning anew: hyperparameters stay, the factor grows by these rows."""
        self._require_fitted()
        self.experts_.add(*self.featuriser_.measured(X, y))
        return self

    @single_threaded
    def answer(self, X: pd.DataFrame, confidence_level: float = 0.9) -> Answers:
        found = self.estimate(X)
        return self.describe(found, self.calibrated(found), self.scored(found.features), confidence_level)

    @single_threaded
    def predict(self, X: pd.DataFrame) -> FloatArray:
        return self.calibrated(self.estimate(X)).values()

    @single_threaded
    def predict_interval(self, X: pd.DataFrame, confidence_level: float = 0.9) -> FloatArray:
        require_level(confidence_level)
        found = self.calibrated(self.estimate(X))
        return found.intervals(self.scored(found.features), confidence_level, self.extra_width(confidence_level))

    @single_threaded
    def provenance(self, X: pd.DataFrame) -> NDArray[np.str_]:
        return self._provenance(self.estimate(X))

    @single_threaded
    def similarity(self, X: pd.DataFrame) -> FloatArray:
        """The share of a cell's prior variance that the learned cells explain, in [0, 1], shape (n,)."""
        table = self._read(X)
        return self.experts_.explained(table, self.experts_.latent(table)[1])

    @single_threaded
    def abstentions(self, X: pd.DataFrame) -> list[str]:
        return self._abstentions(self.estimate(X))

    @single_threaded
    def forecast_error(self, X: pd.DataFrame) -> float:
        found = self.calibrated(self.estimate(X))
        return self.forecast(found, self.scored(found.features))

    def forecast(self, found: CalibratedEstimate, scored: list[Scored]) -> float:
        """The forecast of the median error over estimated cells."""
        errors, weights = [], []
        for rows, scores, outside in scored:
            answered = ~found.silent[rows]
            if answered.any():
                error, weight = scores.median_error(np.log(found.sd[rows][answered]), outside[answered])
                errors.append(error.ravel())
                weights.append(weight.ravel())
        if not errors:
            return float("nan")
        error, weight = np.concatenate(errors), np.concatenate(weights)
        order = np.argsort(error)
        total = np.cumsum(weight[order])
        return float(np.expm1(error[order][np.searchsorted(total, 0.5 * total[-1])]))

    @single_threaded
    def design(self, X: pd.DataFrame, n_cells: int) -> NDArray[np.intp]:
        """Which `n_cells` rows of X to measure first: greedily those that leave the smallest sum of deviations.

        Before anything is known there is nothing to weigh, and the cells fill the space
        (`fewmark.models.design.anchors`).
        """
        if not hasattr(self, "experts_"):
            return anchors(X, n_cells)
        table = self._read(X)
        noise = self.experts_.noise(table)
        chosen: list[NDArray[np.intp]] = []
        for _, rows, expert in self.experts_.by_deployment(table):
            _, first = np.unique(table.axes[rows], axis=0, return_index=True)
            rows = rows[np.sort(first)]
            _, covariance = expert.posterior.joint(table.inputs.take(rows))
            chosen.append(rows[greedy(covariance, noise[rows] ** 2, min(n_cells, len(rows)))])
        return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.intp)

    @single_threaded
    def joint(self, X: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
        """How the errors of many cells hang together, for planning.

        Mean (m,) and covariance (m, m) of the log target without noise; the noise's standard deviation (m,).
        """
        table = self._read(X)
        mean, covariance = self.experts_.joint(table)
        log_target = table.sign * (table.log_roofline + mean - table.to_latency)
        return log_target, covariance, self.experts_.noise(table)

    def to_state(self) -> tuple[State, Arrays]:
        self._require_fitted()
        parameters = {**self.get_params(), "facts": list(self.facts)}
        del parameters["prior"]  # it is among the cells, if it joined
        encoder = self.featuriser_.encoder
        state, arrays = saved_state.write(parameters, encoder.names, self.hypers_, self.experts_.members)
        features, own = self.featuriser_.to_state()
        state |= {"features": features, "own_noise": self.own_noise_, "n_public_cells": self.n_public_cells_}
        return state, arrays | own

    @classmethod
    def from_state(cls, state: State, arrays: Arrays) -> Self:
        parameters, names, hypers, experts = saved_state.read(state, arrays)
        try:
            model = cls(**parameters)
        except TypeError as error:
            raise ModelError("a saved auto model has unknown parameters", got=str(error), hint="fit it again") from None
        model.hypers_, model.experts_ = hypers, LocalExperts(experts)
        model.featuriser_ = Featuriser.from_state(
            model.target, model.facts, Encoder(names), part(state, "features") if "features" in state else {}, arrays
        )
        model.own_noise_ = real(state, "own_noise") if "own_noise" in state else 0.0
        model.n_public_cells_ = whole(state, "n_public_cells") if "n_public_cells" in state else 0
        return model

    @property
    def is_cacheable(self) -> bool:
        return isinstance(self.prior, bool)

    def n_worked_out(self) -> int:
        return self.experts_.n_worked_out()

    def worked_out(self) -> Arrays:
        return self.experts_.worked_out()

    def recall(self, arrays: Arrays) -> None:
        self.experts_.recall(arrays)

    # --- the parts of an answer, which several processes share in `fewmark.models.auto.model` ------------------------

    def estimate(self, X: pd.DataFrame) -> LatencyEstimate:
        """The log latency of each cell as this process has it."""
        table = self._read(X)
        mean, variance = self.experts_.latent(table)
        mean, sd = table.log_roofline + mean, np.sqrt(variance + self.experts_.noise(table) ** 2)
        mean = self.experts_.shrunk(table, mean, sd)
        # what will be measured is rounded as what was
        rounded = self.featuriser_.rounded_variance(table.sign * (mean - table.to_latency))
        return LatencyEstimate(table, mean, np.sqrt(sd**2 + rounded + table.waiting), variance)

    def calibrated(self, found: LatencyEstimate) -> CalibratedEstimate:
        """The estimate with standard deviations as wide as each deployment is surprising."""
        sd, floor = self.experts_.inflated(found.features, found.sd), self.floor(found.features)
        return CalibratedEstimate(found.features, np.maximum(found.mean, floor), sd, self.silent(found), floor)

    def floor(self, table: Features) -> FloatArray:
        """The log of the least seconds of cells, as far as measurements bear published facts out, (m,)."""
        return self.featuriser_.floor(table, self.experts_.place)

    def scored(self, table: Features) -> list[Scored]:
        """For each deployment asked for: the asked rows, the scores that apply, and octaves beyond the known cells."""
        return [(rows, left.scores, outside) for rows, left, outside in self.experts_.situations(table)]

    def extra_width(self, confidence_level: float) -> float:
        """Half an interval on the log scale for noise that the process may have taken for signal."""
        return self.own_noise_ * float(student_quantile(PRIOR_DEGREES, 0.5 + confidence_level / 2))

    def describe(
        self, found: LatencyEstimate, calibrated: CalibratedEstimate, scored: list[Scored], confidence_level: float
    ) -> Answers:
        """Everything about the estimated cells; `calibrated` and `scored` may come of several processes."""
        require_level(confidence_level)
        ends = calibrated.intervals(scored, confidence_level, self.extra_width(confidence_level))
        return Answers(
            value=calibrated.values(),
            low=ends[:, 0],
            high=ends[:, 1],
            provenance=self._provenance(found),
            similarity=self.experts_.explained(found.features, found.variance),
            abstained=self._abstentions(found),
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    def _join_prior(self, X: pd.DataFrame, values: FloatArray) -> bool:
        """Learn from these cells joined by public ones, if these help."""
        self.own_noise_, self.n_public_cells_ = 0.0, 0
        prior = prior_for(self.prior, self.target, X, values)
        if prior is None:
            return False
        featuriser = Featuriser(self.target, self.facts, step=rounding_step(values))
        joined = join(
            prior, X, values, featuriser, max_cells=self.max_expert_cells, random_state=self.random_state
        )  # fmt: skip
        # kept also where the cells do not help: a refit takes over hyperparameters, and few own cells teach fewer
        self.featuriser_, self.hypers_, self.experts_ = joined.featuriser, joined.hypers, joined.experts
        if joined.helps:
            self.n_public_cells_ = joined.n_public_cells
        return joined.helps

    def _condition(self, X: pd.DataFrame, values: FloatArray, table: Features, residual: FloatArray) -> Self:
        self.experts_ = LocalExperts.condition(
            self.hypers_, table, residual, max_cells=self.max_expert_cells, random_state=self.random_state,
            whole=is_whole(self.target),
        )  # fmt: skip
        self.own_noise_ = self._scatter(X, values)
        return self

    def _scatter(self, X: pd.DataFrame, values: FloatArray) -> float:
        """The scatter about a parametric model that the process takes for signal, a standard deviation of the log.

        A deployment alone has no others to calibrate by, and a flexible process follows the noise of few cells; what
        scatters about the few terms of `fewmark.models.analytic.mechanistic` may all be noise.
        """
        n, scales = len(values), self.experts_.noise_scales
        if len(scales) > 1 or n <= 2 * N_TERMS - 5:
            return 0.0
        parametric = Mechanistic(target=self.target).fit(X, values).predict(X)
        scatter = np.log(parametric / values) ** 2
        own = next(iter(scales.values()))
        found = np.sqrt(max(0.0, float(np.nansum(scatter)) / (n - N_TERMS + 1) - own**2))
        return float(min(found, MAX_OWN_NOISE))

    def _require_fitted(self) -> None:
        if not hasattr(self, "experts_"):
            raise ModelError("auto must be fitted first", hint="call fit")

    def _read(self, X: pd.DataFrame) -> Features:
        self._require_fitted()
        return self.experts_.with_amplitudes(self.featuriser_.asked(X))

    def silent(self, found: LatencyEstimate) -> NDArray[np.bool_]:
        """Where the model abstains, (m,)."""
        table = found.features
        return np.asarray(table.unusable | (found.sd > self.max_log_sd) | self.experts_.is_far(table))

    def _provenance(self, found: LatencyEstimate) -> NDArray[np.str_]:
        table = found.features
        out = np.full(len(table), "transferred", dtype="<U12")
        for code, rows, expert in self.experts_.by_deployment(table):
            known = expert.known(code)
            if not len(known):
                continue
            axes = table.axes[rows]
            inside = (axes[:, :3] >= known[:, :3].min(0)).all(1) & (axes[:, :3] <= known[:, :3].max(0)).all(1)
            out[rows] = np.where(inside, "interpolated", "extrapolated")
            measured = {tuple(row) for row in known.tolist()}
            out[rows[[tuple(row) in measured for row in axes.tolist()]]] = "measured"
        out[self.silent(found)] = "abstained"
        return out

    def _abstentions(self, found: LatencyEstimate) -> list[str]:
        reasons = [""] * len(found.sd)
        for row in np.flatnonzero(found.sd > self.max_log_sd):
            reasons[row] = f"out of domain: one standard deviation is a factor of {np.exp(found.sd[row]):.1f}"
        for row in np.flatnonzero(self.experts_.is_far(found.features)):
            reasons[row] = f"out of domain: more than {MAX_DOUBLINGS:g} doublings beyond anything measured"
        for row in np.flatnonzero(found.features.unusable):
            reasons[row] = UNUSABLE
        return reasons


def require_level(confidence_level: float) -> None:
    """Raise `ModelError` unless the confidence level is a fraction."""
    require_fraction("the confidence level", confidence_level, error=ModelError)
