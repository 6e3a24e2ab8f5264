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
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit as student_quantile

from fewmark.core.errors import ModelError
from fewmark.core.fractions import require_fraction
from fewmark.facts.facts import user_files
from fewmark.models.auto import state as saved_state
from fewmark.models.auto.conformity_scores import PRIOR_DEGREES
from fewmark.models.auto.estimate import JUDGED_LEVEL, MAX_SPAN, CalibratedEstimate, LatencyEstimate, Scored
from fewmark.models.auto.features import Encoder, Features, is_whole
from fewmark.models.auto.featuriser import Featuriser
from fewmark.models.auto.hyperparameters import LearningSchedule
from fewmark.models.auto.limits import RATE, Order, log_rate
from fewmark.models.auto.local_experts import LocalExperts
from fewmark.models.auto.monotone import Grid, correction
from fewmark.models.auto.own_noise import scatter_alone
from fewmark.models.auto.prior_joining import MIN_TELLING, Joined, join, log_density, prior_for
from fewmark.models.auto.provenance import abstentions, provenance
from fewmark.models.auto.public_prior import Prior
from fewmark.models.base import Answers, Model
from fewmark.models.design import anchors, greedy
from fewmark.models.gp.threads import single_threaded
from fewmark.models.state import Arrays, State, part, real, under, whole
from fewmark.tables.arrays import FloatArray
from fewmark.tables.cells import check_target
from fewmark.tables.metrics import latency_of
from fewmark.tables.precision import rounding_step


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
    max_log_sd : float, default 1.0
        Abstain where the log prediction's standard deviation exceeds this, as where the ends of the 90% interval would
        be more than a factor of 20 apart.
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
    order_: Order | None = None

    def __init__(
        self,
        *,
        target: str = "throughput_tok_s",
        random_state: int = 0,
        facts: Sequence[str] | None = None,
        max_learning_cells: int = 1000,
        max_expert_cells: int = 3000,
        max_log_sd: float = 1.0,
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
        joined = self._joined(X, values)
        if joined is not None and joined.helps and len(X) < MIN_TELLING:
            return self._take(joined, X, values)
        self.featuriser_ = Featuriser(self.target, self.facts, step=rounding_step(values))
        table, residual = self.featuriser_.learn(X, values)
        self.hypers_ = LearningSchedule(self.max_learning_cells, self.random_state).learn(table.inputs, residual)
        return self._better(joined, self._condition(X, values, table, residual), X, values)

    @single_threaded
    def refit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from other measured cells, with the hyperparameters that a fit has learned before."""
        self._require_fitted()
        values = check_target(y, len(X))
        joined = self._joined(X, values)
        if joined is not None and len(X) < MIN_TELLING:
            if joined.helps:
                return self._take(joined, X, values)
            # few own cells teach fewer hyperparameters than public ones do
            self.featuriser_, self.hypers_ = joined.featuriser, joined.hypers
        encoder = self.featuriser_.encoder
        self.featuriser_ = Featuriser(self.target, self.facts, step=rounding_step(values), encoder=encoder)
        alone = self._condition(X, values, *self.featuriser_.learn(X, values))
        return self._better(joined, alone, X, values)

    @single_threaded
    def add(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Take in further measurements without learning anew: hyperparameters stay, the factor grows by these rows."""
        self._require_fitted()
        self.experts_.add(*self.featuriser_.measured(X, y))
        return self

    def for_target(self, target: str) -> Self | None:
        """This process for another metric of the same latency, such as the rate that follows from it."""
        if target == self.target:
            return self
        if latency_of(target) != latency_of(self.target):
            return None
        self._require_fitted()
        model = type(self)(**{**self.get_params(), "target": target})
        model.featuriser_, model.hypers_, model.experts_ = self.featuriser_.of(target), self.hypers_, self.experts_
        model.own_noise_, model.n_public_cells_ = self.own_noise_, self.n_public_cells_
        model.order_ = self.order_
        return model

    @single_threaded
    def answer(self, X: pd.DataFrame, confidence_level: float = 0.9) -> Answers:
        found = self.estimate_in_order(X)
        return self.describe(found, self.answered(found), self.scored(found.features), confidence_level)

    @single_threaded
    def predict(self, X: pd.DataFrame) -> FloatArray:
        return self.answered(self.estimate_in_order(X)).values()

    @single_threaded
    def predict_interval(self, X: pd.DataFrame, confidence_level: float = 0.9) -> FloatArray:
        require_level(confidence_level)
        found = self.answered(self.estimate_in_order(X))
        return found.intervals(self.scored(found.features), confidence_level, self.extra_width(confidence_level))

    @single_threaded
    def provenance(self, X: pd.DataFrame) -> NDArray[np.str_]:
        found = self.estimate_in_order(X)
        return provenance(found.features, self.experts_, self.answered(found).silent)

    @single_threaded
    def similarity(self, X: pd.DataFrame) -> FloatArray:
        """The share of a cell's prior variance that the learned cells explain, in [0, 1], shape (n,)."""
        table = self._read(X)
        return self.experts_.explained(table, self.experts_.latent(table)[1])

    @single_threaded
    def abstentions(self, X: pd.DataFrame) -> list[str]:
        return self.answer(X).abstained

    @single_threaded
    def forecast_error(self, X: pd.DataFrame) -> float:
        found = self.answered(self.estimate_in_order(X))
        return found.forecast(self.scored(found.features))

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
        if self.order_ is not None:
            state["order of rates"], cells = self.order_.to_state()
            own |= {f"order of rates/{name}": values for name, values in cells.items()}
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
        if "order of rates" in state:
            order = under(arrays, "order of rates/")
            model.order_ = Order.from_state(part(state, "order of rates"), order)
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

    # --- the parts of an answer, which several processes share in `fewmark.models.auto.joint_answer` -----------------

    def estimate(self, X: pd.DataFrame) -> LatencyEstimate:
        """The log latency of each cell as this process has it."""
        table = self._read(X)
        mean, variance, waiting = self.experts_.waited(table)
        mean, sd = table.log_roofline + mean, np.sqrt(variance + self.experts_.noise(table) ** 2)
        mean = self.experts_.shrunk(table, mean, sd)
        # what will be measured is rounded as what was
        rounded = self.featuriser_.rounded_variance(table.sign * (mean - table.to_latency))
        return LatencyEstimate(table, mean, np.sqrt(sd**2 + rounded + waiting), variance)

    def estimate_in_order(self, X: pd.DataFrame) -> LatencyEstimate:
        """As `estimate`; of deployments of which nothing is measured the latency does not fall as work grows."""
        found = self.estimate(X)
        rows = self.strange(found.features)
        if len(rows):
            own = found.features.axes[rows], found.features.deployment[rows]
            found.mean[rows] += correction(X.iloc[rows], *own, self.grid(), lambda cells: self.estimate(cells).mean)
        return found

    def strange(self, table: Features) -> NDArray[np.intp]:
        """The rows of deployments of which nothing is measured."""
        return np.flatnonzero(~np.isin(table.deployment, list(self.experts_.place)) & ~table.unusable)

    def grid(self) -> Grid:
        """Where curves are put in order."""
        return Grid.of(np.vstack([one.axes[:, :3] for one in self.experts_.members]))

    def calibrated(self, found: LatencyEstimate) -> CalibratedEstimate:
        """The estimate with standard deviations as wide as each deployment is surprising."""
        table = found.features
        sd, floor, mean = self.experts_.inflated(table, found.sd), self.floor(table), found.mean
        if self.order_ is not None:
            mean = self.order_.keep_rate(table.axes, table.deployment, mean, table.online)
        return CalibratedEstimate(table, np.maximum(mean, floor), sd, self.out_of_reach(table), floor)

    def answered(self, found: LatencyEstimate) -> CalibratedEstimate:
        """As `calibrated`, and silent where too little is known for an interval that is of use."""
        calibrated = self.calibrated(found)
        too_wide = calibrated.spans_more(MAX_SPAN, self.scored(found.features), self.extra_width(JUDGED_LEVEL))
        return calibrated.silent_where(self.is_unsure(found) | too_wide)

    def is_unsure(self, found: LatencyEstimate) -> NDArray[np.bool_]:
        """Where the process by itself knows too little for an answer, (m,)."""
        return np.asarray(found.sd > self.max_log_sd)

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
            provenance=provenance(found.features, self.experts_, calibrated.silent),
            similarity=self.experts_.explained(found.features, found.variance),
            abstained=abstentions(found.features, self.experts_, calibrated.silent),
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    def _joined(self, X: pd.DataFrame, values: FloatArray) -> Joined | None:
        """These cells joined by public ones; None where there are none to join."""
        prior = prior_for(self.prior, self.target, X, values)
        if prior is None:
            return None
        featuriser = Featuriser(self.target, self.facts, step=rounding_step(values))
        return join(prior, X, values, featuriser, max_cells=self.max_expert_cells, random_state=self.random_state)

    def _better(self, joined: Joined | None, alone: Self, X: pd.DataFrame, values: FloatArray) -> Self:
        """The fitted model, or what public cells make of it where these foretell the left-out cells better."""
        if joined is None or not joined.helps or len(alone.experts_.members) > 1:
            return alone
        if log_density(joined.experts, len(X)) <= log_density(alone.experts_, len(X)):
            return alone
        return self._take(joined, X, values)

    def _take(self, joined: Joined, X: pd.DataFrame, values: FloatArray) -> Self:
        self.featuriser_, self.hypers_, self.experts_ = joined.featuriser, joined.hypers, joined.experts
        self.own_noise_, self.n_public_cells_ = 0.0, joined.n_public_cells
        table, residual = self.featuriser_.measured(X, values)
        self._put_in_order(table, residual)
        return self

    def _condition(self, X: pd.DataFrame, values: FloatArray, table: Features, residual: FloatArray) -> Self:
        self.experts_ = LocalExperts.condition(
            self.hypers_, table, residual, max_cells=self.max_expert_cells, random_state=self.random_state,
            whole=is_whole(self.target),
        )  # fmt: skip
        self.own_noise_, self.n_public_cells_ = scatter_alone(X, values, self.target, self.experts_.noise_scales), 0
        self._put_in_order(table, residual)
        return self

    def _put_in_order(self, table: Features, residual: FloatArray) -> None:
        """Learn how well closed loops keep the order of their rates; n cells, as they were learned from."""
        self.order_ = None
        if is_whole(self.target) and table.online.any():
            rate = np.where(table.online, log_rate(table.axes, table.log_roofline + residual), np.nan)
            self.order_ = Order.learn(table.axes[:, :3], {RATE: rate}, table.deployment)

    def _require_fitted(self) -> None:
        if not hasattr(self, "experts_"):
            raise ModelError("auto must be fitted first", hint="call fit")

    def _read(self, X: pd.DataFrame) -> Features:
        self._require_fitted()
        return self.experts_.with_amplitudes(self.featuriser_.asked(X))

    def out_of_reach(self, table: Features) -> NDArray[np.bool_]:
        """Cells of which the model says nothing, however sure it is, (m,)."""
        return np.asarray(table.unusable | self.experts_.is_far(table))


def require_level(confidence_level: float) -> None:
    """Raise `ModelError` unless the confidence level is a fraction."""
    require_fraction("the confidence level", confidence_level, error=ModelError)
