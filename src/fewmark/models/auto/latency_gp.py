"""The default model: a Gaussian process over all deployments on top of a roofline, with calibrated intervals.

    log latency = roofline(cell, published facts) + f(cell) + Student-t noise of the deployment's own scale

f is a Gaussian process whose covariance shares what deployments with the same engine, accelerator or model share
and leaves each deployment its own part (`fewmark.models.auto.covariance`); a deployment never seen starts from its
relatives, one without relatives from the roofline. At loads beyond those known, its own cells have their say
(`fewmark.models.auto.extrapolation`). Hyperparameters by marginal likelihood (`fewmark.models.gp.regression`),
intervals from the scores of other deployments under the same pattern of knowing (`fewmark.models.auto.leave_out`).
Throughput is latency turned over (in a closed loop by Little's law), so that these targets agree with one another
exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.errors import ModelError
from fewmark.facts.facts import load_facts, user_files
from fewmark.models.auto import state as saved_state
from fewmark.models.auto.conformity_scores import LeftOut, Scores
from fewmark.models.auto.experts import Pool, deal, learn_hypers
from fewmark.models.auto.features import OWN, Encoder, Features, featurise, is_whole
from fewmark.models.auto.leave_out import beyond
from fewmark.models.base import Model
from fewmark.models.design import anchors, greedy
from fewmark.models.gp.kernel import Inputs
from fewmark.models.gp.threads import single_threaded
from fewmark.tables.arrays import FloatArray
from fewmark.tables.cells import check_target
from fewmark.tables.identity import numbered, rows_by_group

FOLDS: Final = 2
MIN_DEPLOYMENTS: Final = 8  # with fewer, calibration has no hyperparameters of its own
FAR: Final = 4.0  # doublings
LARGEST_LOG: Final = 700.0  # of an end of an interval: beyond, there is no such number
UNUSABLE: Final = "input_tokens, output_tokens and batch_size or concurrency must be known and positive"


class LatencyGP(Model):
    """A pooled Gaussian process on a roofline, robust to outliers, with intervals that hold.

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
    max_pool_cells : int, default 3000
        More cells than this are dealt into pools of related deployments, each exact by itself.
    max_log_sd : float, default 0.7
        Abstain where the log prediction's standard deviation exceeds this: the interval would span a factor of ten.

    Attributes
    ----------
    hypers_ : learned hyperparameters, first those that predict, then those that calibrate
    pools_ : the measured cells, solved together pool by pool
    """

    name: ClassVar[str] = "auto"
    pools_deployments: ClassVar[bool] = True

    def __init__(
        self,
        *,
        target: str = "throughput_tok_s",
        random_state: int = 0,
        facts: Sequence[str] | None = None,
        max_learning_cells: int = 1000,
        max_pool_cells: int = 3000,
        max_log_sd: float = 0.7,
    ) -> None:
        super().__init__(target=target, random_state=random_state)
        self.facts = user_files() if facts is None else tuple(facts)
        self.max_learning_cells = max_learning_cells
        self.max_pool_cells = max_pool_cells
        self.max_log_sd = max_log_sd

    @single_threaded
    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from measured cells. Rows may repeat a cell; y must be finite and positive (`ModelError` if not)."""
        table, residual = self._learnable(X, y, Encoder())
        numbers = np.random.default_rng(self.random_state).permutation(np.unique(table.deployment))
        unseen = [frozenset(int(d) for d in numbers[k::FOLDS]) for k in range(FOLDS)]
        # with few deployments there is no half to spare; with very many cells hyperparameters have seen next to none
        if len(numbers) < MIN_DEPLOYMENTS or len(residual) > 10 * self.max_learning_cells:
            unseen = []
        self.hypers_ = learn_hypers(table.inputs, residual, self.max_learning_cells, self.random_state, unseen)
        return self._condition(table, residual)

    @single_threaded
    def refit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from other measured cells, with the hyperparameters that a fit has learned before."""
        self._require_fitted()
        table, residual = self._learnable(X, y, self.encoder_)
        return self._condition(table, residual)

    @single_threaded
    def predict(self, X: pd.DataFrame) -> FloatArray:
        """The target's predicted values, shape (n,); NaN where the model abstains."""
        table, mean, _, silent = self._answer(X)
        return np.where(silent, np.nan, np.exp(table.sign * (mean - table.to_latency)))

    @single_threaded
    def predict_interval(self, X: pd.DataFrame, confidence_level: float = 0.9) -> FloatArray:
        """The ends of the prediction intervals, shape (n, 2); NaN where the model abstains."""
        if not 0 < confidence_level < 1:
            raise ModelError("confidence_level must lie between 0 and 1", got=confidence_level)
        table, mean, sd, silent = self._answer(X)
        half = np.empty(len(sd))
        for rows, scores, outside in self._scored(X, table):
            half[rows] = sd[rows] * scores.factor(np.log(sd[rows]), outside, confidence_level)
        half = np.hypot(half, self._further(confidence_level))
        middle = table.sign * (mean - table.to_latency)
        ends = np.exp(np.clip(np.column_stack([middle - half, middle + half]), -LARGEST_LOG, LARGEST_LOG))
        ends[silent] = np.nan
        return ends

    @single_threaded
    def provenance(self, X: pd.DataFrame) -> NDArray[np.str_]:
        """Where each prediction comes from: one of `fewmark.core.values.PREDICTION_PROVENANCES`, shape (n,)."""
        table, _, sd = self._latent(X)
        out = np.full(len(sd), "transferred", dtype="<U12")
        for code, rows, pool in self._by_deployment(table):
            known = pool.known(code)
            if not len(known):
                continue
            axes = table.axes[rows]
            inside = (axes[:, :3] >= known[:, :3].min(0)).all(1) & (axes[:, :3] <= known[:, :3].max(0)).all(1)
            out[rows] = np.where(inside, "interpolated", "extrapolated")
            measured = {tuple(row) for row in known.tolist()}
            out[rows[[tuple(row) in measured for row in axes.tolist()]]] = "measured"
        out[self._silent(table, sd)] = "abstained"
        return out

    @single_threaded
    def similarity(self, X: pd.DataFrame) -> FloatArray:
        """The share of a cell's prior variance that the learned cells explain, in [0, 1], shape (n,)."""
        table = self._read(X)
        _, variance = self._latent_residual(table)
        kernel = self.pools_[0].kernel
        share = 1.0 - variance / kernel.diagonal(self.theta_, table.inputs)
        return np.where(table.unusable, 0.0, np.clip(share, 0.0, 1.0))

    @single_threaded
    def abstentions(self, X: pd.DataFrame) -> list[str]:
        """The reason for abstaining on each row; empty where the model answers."""
        table, _, sd = self._latent(X)
        reasons = [""] * len(table)
        for row in np.flatnonzero(sd > self.max_log_sd):
            reasons[row] = f"out of domain: one standard deviation is a factor of {np.exp(sd[row]):.1f}"
        for row in np.flatnonzero(self._far(table)):
            reasons[row] = f"out of domain: more than {FAR:g} doublings beyond anything measured"
        for row in np.flatnonzero(table.unusable):
            reasons[row] = UNUSABLE
        return reasons

    @single_threaded
    def forecast_error(self, X: pd.DataFrame) -> float:
        """A forecast of the median absolute percentage error over the rows of X, a fraction, before any is checked."""
        table, _, sd = self._latent(X)
        errors, weights = [], []
        silent = self._silent(table, sd)
        sd = self._stretched(table, sd)
        for rows, left, outside in self._situations(table):
            answered = ~silent[rows]
            if answered.any():
                error, weight = left.scores.median_error(np.log(sd[rows][answered]), outside[answered])
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

        Before anything is known there is nothing to weigh, and the cells are spread
        (`fewmark.models.design.anchors`).
        """
        if not hasattr(self, "pools_"):
            return anchors(X, n_cells)
        table = self._read(X)
        chosen: list[NDArray[np.intp]] = []
        for _, rows, pool in self._by_deployment(table):
            _, first = np.unique(table.axes[rows], axis=0, return_index=True)
            rows = rows[np.sort(first)]
            _, covariance = pool.posterior.joint(table.inputs.take(rows))
            noise = self._noise(table)[rows] ** 2
            chosen.append(rows[greedy(covariance, noise, min(n_cells, len(rows)))])
        return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.intp)

    @single_threaded
    def joint(self, X: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
        """How the errors of many cells hang together, for planning.

        Mean (m,) and covariance (m, m) of the log target without noise; the noise's standard deviation (m,).
        """
        table = self._read(X)
        mean, covariance = np.zeros(len(table)), np.zeros((len(table), len(table)))
        pool = self._pool_of(table)
        for number in np.unique(pool):
            rows = np.flatnonzero(pool == number)
            mean[rows], covariance[np.ix_(rows, rows)] = self.pools_[number].posterior.joint(table.inputs.take(rows))
        return table.sign * (table.log_roofline + mean - table.to_latency), covariance, self._noise(table)

    @single_threaded
    def add(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Take in further measurements without learning anew: hyperparameters stay, the factor grows by these rows."""
        self._require_fitted()
        table, residual = self._learnable(X, y, self.encoder_)
        table = self._with_strengths(table)
        noise, pools_deployments = self._noise(table), self._pool_of(table)
        for number in np.unique(pools_deployments):
            rows = np.flatnonzero(pools_deployments == number)
            pool = self.pools_[number]
            pool.add(table.inputs.take(rows), residual[rows], table.axes[rows], table.kept[rows], noise[rows])
        self._index()
        return self

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The fitted model as JSON-ready values and arrays (data only, no code)."""
        self._require_fitted()
        parameters = {
            "target": self.target,
            "random_state": self.random_state,
            "facts": list(self.facts),
            "max_learning_cells": self.max_learning_cells,
            "max_pool_cells": self.max_pool_cells,
            "max_log_sd": self.max_log_sd,
        }
        return saved_state.write(parameters, self.encoder_.names, self.hypers_, self.pools_)

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted model behind `to_state`. Raises `ModelError` on what it does not know."""
        parameters, names, hypers, pools_deployments = saved_state.read(state, arrays)
        try:
            model = cls(**parameters)
        except TypeError as error:
            raise ModelError("a saved auto model has unknown parameters", got=str(error), hint="fit it again") from None
        model.encoder_, model.hypers_, model.pools_ = Encoder(names), hypers, pools_deployments
        model._index()
        return model

    @property
    def is_cacheable(self) -> bool:
        return True

    def n_worked_out(self) -> int:
        return sum(pool.n_worked_out() for pool in self.pools_)

    def worked_out(self) -> dict[str, NDArray[Any]]:
        return {f"pool-{i}/{name}": a for i, pool in enumerate(self.pools_) for name, a in pool.worked_out().items()}

    def recall(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        for number, pool in enumerate(self.pools_):
            if f"pool-{number}/deployment" in arrays:
                pool.recall(arrays_under(f"pool-{number}", arrays))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _learnable(self, X: pd.DataFrame, y: FloatArray, encoder: Encoder) -> tuple[Features, FloatArray]:
        values = check_target(y, len(X))
        table = featurise(X, self.target, load_facts(self.facts), encoder)
        if table.unusable.any():
            raise ModelError(f"row {int(np.flatnonzero(table.unusable)[0])} cannot be learned from", got=UNUSABLE)
        self.encoder_ = encoder
        return table, table.to_latency + table.sign * np.log(values) - table.log_roofline

    def _condition(self, table: Features, residual: FloatArray) -> Self:
        pool = deal(table.inputs.codes, self.max_pool_cells)
        self.pools_ = [
            Pool(
                self.hypers_[0], self.hypers_[1:], table.inputs.take(rows), residual[rows], table.axes[rows],
                table.kept[rows], self.random_state, whole=is_whole(self.target),
            )
            for rows in (np.flatnonzero(pool == number) for number in np.unique(pool))
        ]  # fmt: skip
        if len(self.pools_) == 1:
            _ = self.pools_[0].posterior.a  # ready to answer and to take in more
        else:
            for one in self.pools_:  # many pools wait until they are asked
                one.forget()
        self._index()
        return self

    def _index(self) -> None:
        """Where each deployment is: its pool and its noise scale."""
        self.last_: tuple[bytes, FloatArray, FloatArray] = (b"", np.zeros(0), np.zeros(0))
        self.place_ = {code: number for number, pool in enumerate(self.pools_) for code in pool.members}
        scales = {code: float(pool.noise[rows[0]]) for pool in self.pools_ for code, rows in pool.members.items()}
        self.noise_scales_ = scales
        self.strengths_ = {
            code: float(pool.posterior.inputs.values[rows[0], OWN])
            for pool in self.pools_
            for code, rows in pool.members.items()
        }
        axes = np.vstack([pool.axes[:, :3] for pool in self.pools_])
        self.range_ = axes.min(0), axes.max(0)
        self.typical_noise_ = float(np.median(list(scales.values())))

    @property
    def theta_(self) -> FloatArray:
        """The learned hyperparameters, (t,)."""
        return self.hypers_[0].theta

    def _require_fitted(self) -> None:
        if not hasattr(self, "pools_"):
            raise ModelError("auto must be fitted first", hint="call fit")

    def _read(self, X: pd.DataFrame) -> Features:
        self._require_fitted()
        # names that are only asked for are numbered for this call alone: asking changes nothing
        encoder = Encoder({column: dict(known) for column, known in self.encoder_.names.items()})
        return self._with_strengths(featurise(X, self.target, load_facts(self.facts), encoder))

    def _with_strengths(self, table: Features) -> Features:
        numbers, position = numbered(table.deployment)
        table.inputs.values[:, OWN] = np.array([self.strengths_.get(int(n), 1.0) for n in numbers])[position]
        return table

    def _latent(self, X: pd.DataFrame) -> tuple[Features, FloatArray, FloatArray]:
        """Log latency (m,), at far loads drawn to what its own cells say, and its deviation with noise (m,)."""
        table = self._read(X)
        mean, variance = self._latent_residual(table)
        mean, sd = table.log_roofline + mean, np.sqrt(variance + self._noise(table) ** 2)
        self._prepare(table, only_far_loads=True)
        for code, rows, pool in self._by_deployment(table):
            mean[rows] = pool.pulled(code, table.inputs.take(rows[:1]), table.axes[rows], mean[rows], sd[rows])
        return table, mean, sd

    def _latent_residual(self, table: Features) -> tuple[FloatArray, FloatArray]:
        # a value, its interval, provenance and similarity are asked for one after another: the last answer is kept
        digest = blake2b(table.inputs.values.tobytes())
        digest.update(table.inputs.codes.tobytes())
        if self.last_[0] != digest.digest():
            mean, variance = np.empty(len(table)), np.empty(len(table))
            pool = self._pool_of(table)
            for number in np.unique(pool):
                rows = np.flatnonzero(pool == number)
                mean[rows], variance[rows] = self.pools_[number].latent(table.inputs.take(rows))
            self.last_ = digest.digest(), mean, variance
        return self.last_[1], self.last_[2]

    def _pool_of(self, table: Features) -> NDArray[np.int64]:
        """The pool that answers for each cell, (m,): its deployment's, else that of most relatives."""
        numbers, position = numbered(table.deployment)
        rows = np.empty(len(numbers), dtype=np.int64)
        rows[position] = np.arange(len(table))  # any row of each
        pools_deployments = np.zeros(len(numbers), dtype=np.int64)
        for i, (code, row) in enumerate(zip(numbers, rows, strict=True)):
            if int(code) in self.place_:
                pools_deployments[i] = self.place_[int(code)]
            elif len(self.pools_) > 1:
                pools_deployments[i] = int(
                    np.argmax([pool.similarity_weight(table.inputs.codes[row]) for pool in self.pools_])
                )
        return np.asarray(pools_deployments[position])

    def _noise(self, table: Features) -> FloatArray:
        """Each cell's noise scale: its deployment's where known, else the median one, (m,)."""
        numbers, position = numbered(table.deployment)
        return np.array([self.noise_scales_.get(int(n), self.typical_noise_) for n in numbers], float)[position]

    def _silent(self, table: Features, sd: FloatArray) -> NDArray[np.bool_]:
        return np.asarray(table.unusable | (sd > self.max_log_sd) | self._far(table))

    def _far(self, table: Features) -> NDArray[np.bool_]:
        """Cells whose length or load lies far outside all that was measured of any deployment, (m,)."""
        low, high = self.range_
        axes = table.axes[:, :3]
        return np.asarray(((axes < low - FAR) | (axes > high + FAR)).any(1))

    def _by_deployment(self, table: Features) -> list[tuple[int, NDArray[np.intp], Pool]]:
        """For each deployment asked for: its number, the asked rows, and the pool that answers."""
        pools_deployments = self._pool_of(table)
        return [
            (code, rows, self.pools_[int(pools_deployments[rows[0]])])
            for code, rows in rows_by_group(table.deployment).items()
        ]

    def _stretched(self, table: Features, sd: FloatArray) -> FloatArray:
        """Standard deviations (m,) as wide as what is known of each deployment is surprising."""
        out = sd.copy()
        for code, rows, pool in self._by_deployment(table):
            out[rows] *= pool.inflation(code)
        return out

    def _prepare(self, table: Features, *, only_far_loads: bool = False) -> None:
        """Leave out the cells of all situations that are about to be asked for; together they cost less."""
        wanted: dict[int, tuple[Pool, list[tuple[int, Inputs]]]] = {}
        for code, rows, pool in self._by_deployment(table):
            if only_far_loads and not pool.is_pulled(code, table.axes[rows]):
                continue
            wanted.setdefault(id(pool), (pool, []))[1].append((code, table.inputs.take(rows[:1])))
        for pool, asked in wanted.values():
            pool.prepare(asked)

    def _situations(self, table: Features) -> list[tuple[NDArray[np.intp], LeftOut, FloatArray]]:
        """For each deployment asked for: the asked rows, cells left out alike, and how far beyond the known."""
        self._prepare(table)
        return [
            (rows, pool.left_out(code, table.inputs.take(rows[:1])), beyond(table.axes[rows], pool.known(code)))
            for code, rows, pool in self._by_deployment(table)
        ]

    # what a model that knows more than one latency answers otherwise

    def _answer(self, X: pd.DataFrame) -> tuple[Features, FloatArray, FloatArray, NDArray[np.bool_]]:
        """Log latency (m,), the standard deviation that intervals are made of, and where the model abstains."""
        table, mean, sd = self._latent(X)
        return table, mean, self._stretched(table, sd), self._silent(table, sd)

    def _scored(self, X: pd.DataFrame, table: Features) -> list[tuple[NDArray[np.intp], Scores, FloatArray]]:
        """For each deployment asked for: the asked rows, the scores that apply, and how far beyond the known."""
        return [(rows, left.scores, outside) for rows, left, outside in self._situations(table)]

    def _further(self, confidence_level: float) -> float:
        """Half an interval of what the process does not know that it does not know."""
        return 0.0


def arrays_under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with the prefix and a slash, by the rest of their names."""
    start = f"{prefix}/"
    return {name.removeprefix(start): values for name, values in arrays.items() if name.startswith(start)}
