"""The default model: a Gaussian process over all deployments on top of a roofline, with calibrated intervals.

    log latency = roofline(cell, published facts) + f(cell) + Student-t noise of the deployment's own scale

f is a Gaussian process whose covariance shares what deployments with the same engine, accelerator or model share
and leaves each deployment its own part (`fewmark.models.auto_kernel`); a deployment never seen starts from its
relatives, one without relatives from the roofline. Hyperparameters by marginal likelihood (`fewmark.models.gp`),
intervals from the scores of other deployments under the same pattern of knowing
(`fewmark.models.calibration`). Throughput is latency
turned over (in a closed loop by Little's law), so that these targets agree with one another exactly.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.errors import ModelError
from fewmark.models import gp
from fewmark.models.auto_inputs import GROUPS, Encoder, Table, read_table
from fewmark.models.auto_kernel import parts, prior
from fewmark.models.base import FloatArray, Model
from fewmark.models.calibration import Calibrator, Fold, Scores, beyond, rows_by_group
from fewmark.models.facts import load_facts
from fewmark.models.kernel import Inputs, Kernel
from fewmark.models.posterior import Posterior

STATE_VERSION: Final = 1
FOLDS: Final = 2
MIN_DEPLOYMENTS: Final = 8  # with fewer, hyperparameters for calibration are not learned apart
_ACCELERATOR: Final = GROUPS.index("accelerator")
_DEPLOYMENT: Final = GROUPS.index("deployment")


class AutoModel(Model):
    """A pooled Gaussian process on a roofline, robust to outliers, with intervals that hold.

    Parameters
    ----------
    target : str, default "throughput_tok_s"
        The metric; one of `fewmark.core.metrics.TARGETS`.
    random_state : int, default 0
        Seed of the choice of cells that hyperparameters are learned from where there are very many.
    facts : sequence of str, default ()
        Files with further facts of models and accelerators (`fewmark.models.facts`).
    max_learning_cells : int, default 800
        Hyperparameters are learned from at most this many cells, drawn at random.
    max_log_sd : float, default 0.7
        Abstain where the log prediction's standard deviation exceeds this: the interval would span a factor of ten.

    Attributes
    ----------
    theta_ : (t,) hyperparameters, laid out by `auto_kernel.parts`
    noise_scale_ : common scale of the noise, relative
    """

    posterior_: Posterior
    axes_: FloatArray
    name: ClassVar[str] = "auto"
    pools: ClassVar[bool] = True

    def __init__(
        self,
        *,
        target: str = "throughput_tok_s",
        random_state: int = 0,
        facts: tuple[str, ...] = (),
        max_learning_cells: int = 800,
        max_log_sd: float = 0.7,
    ) -> None:
        super().__init__(target=target, random_state=random_state)
        self.facts = facts
        self.max_learning_cells = max_learning_cells
        self.max_log_sd = max_log_sd

    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from measured cells. Rows may repeat a cell; y must be finite and positive (`ModelError` if not)."""
        table, residual = self._learnable(X, y, Encoder())
        self.posterior_, self.noise_scale_, noise = self._learn(table, residual, np.arange(len(residual)))
        deployment = table.inputs.codes[:, _DEPLOYMENT]
        self.noise_codes_, first = np.unique(deployment, return_index=True)
        self.noise_scales_ = noise[first]
        self.axes_ = table.axes
        self.members_ = rows_by_group(deployment)
        self.calibrator_ = self._calibrator(self._folds(table, residual, noise))
        return self

    def predict(self, X: pd.DataFrame) -> FloatArray:
        """The target's predicted values, shape (n,); NaN where the model abstains."""
        table, mean, sd = self._latent(X)
        value = np.exp(table.sign * (mean - table.to_latency))
        return np.where(self._silent(table, sd), np.nan, value)

    def predict_interval(self, X: pd.DataFrame, confidence_level: float = 0.9) -> FloatArray:
        """The ends of the prediction intervals, shape (n, 2); NaN where the model abstains."""
        if not 0 < confidence_level < 1:
            raise ModelError("confidence_level must lie between 0 and 1", got=confidence_level)
        table, mean, sd = self._latent(X)
        half = np.empty(len(sd))
        for rows, scores, outside in self._situations(table, sd):
            half[rows] = sd[rows] * scores.factor(np.log(sd[rows]), outside, confidence_level)
        middle = table.sign * (mean - table.to_latency)
        ends = np.exp(np.column_stack([middle - half, middle + half]))
        ends[self._silent(table, sd)] = np.nan
        return ends

    def provenance(self, X: pd.DataFrame) -> NDArray[np.str_]:
        """Where each prediction comes from: one of `fewmark.core.values.PREDICTION_PROVENANCES`, shape (n,)."""
        table, _, sd = self._latent(X)
        out = np.full(len(sd), "transferred", dtype="<U12")
        for rows, own in self._by_deployment(table):
            known = self.axes_[own]
            if not len(known):
                continue
            axes = table.axes[rows]
            inside = (axes[:, :3] >= known[:, :3].min(0)).all(1) & (axes[:, :3] <= known[:, :3].max(0)).all(1)
            out[rows] = np.where(inside, "interpolated", "extrapolated")
            measured = {tuple(row) for row in known}
            out[rows[[tuple(row) in measured for row in axes]]] = "measured"
        out[self._silent(table, sd)] = "abstained"
        return out

    def similarity(self, X: pd.DataFrame) -> FloatArray:
        """The share of a cell's prior variance that the learned cells explain, in [0, 1], shape (n,)."""
        table = self._read(X)
        _, variance = self.posterior_.predict(table.inputs)
        share = 1.0 - variance / self.posterior_.kernel.diagonal(self.posterior_.theta, table.inputs)
        return np.where([bool(p) for p in table.problems], 0.0, np.clip(share, 0.0, 1.0))

    def abstentions(self, X: pd.DataFrame) -> list[str]:
        """The reason for abstaining on each row; empty where the model answers."""
        table, _, sd = self._latent(X)
        return [
            problem or (f"out of domain: one standard deviation is a factor of {np.exp(s):.1f}" if far else "")
            for problem, s, far in zip(table.problems, sd, sd > self.max_log_sd, strict=True)
        ]

    def forecast_error(self, X: pd.DataFrame) -> float:
        """A forecast of the median absolute percentage error over the rows of X, a fraction, before any is checked."""
        table, _, sd = self._latent(X)
        errors, weights = [], []
        silent = self._silent(table, sd)
        for rows, scores, outside in self._situations(table, sd):
            answered = ~silent[rows]
            if answered.any():
                error, weight = scores.median_error(np.log(sd[rows][answered]), outside[answered])
                errors.append(error.ravel())
                weights.append(weight.ravel())
        if not errors:
            return float("nan")
        error, weight = np.concatenate(errors), np.concatenate(weights)
        order = np.argsort(error)
        total = np.cumsum(weight[order])
        return float(np.expm1(error[order][np.searchsorted(total, 0.5 * total[-1])]))

    def design(self, X: pd.DataFrame, n_cells: int) -> NDArray[np.intp]:
        """Which `n_cells` rows of X to measure first: greedily those that leave the smallest sum of deviations."""
        table = self._read(X)
        chosen: list[NDArray[np.intp]] = []
        for rows, _ in self._by_deployment(table):
            _, covariance = self.posterior_.joint(table.inputs.take(rows))
            noise = self._noise(table)[rows] ** 2
            chosen.append(rows[_greedy(covariance, noise, min(n_cells, len(rows)))])
        return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.intp)

    def joint(self, X: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
        """How the errors of many cells hang together, for planning.

        Mean (m,) and covariance (m, m) of the log target without noise; the noise's standard deviation (m,).
        """
        table = self._read(X)
        mean, covariance = self.posterior_.joint(table.inputs)
        return table.sign * (table.log_roofline + mean - table.to_latency), covariance, self._noise(table)

    def add(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Take in further measurements without learning anew: hyperparameters stay, the factor grows by these rows."""
        table, residual = self._learnable(X, y, self.encoder_)
        variance = self._noise(table) ** 2
        self.posterior_ = self.posterior_.add(table.inputs, residual, variance)
        self.axes_ = np.vstack([self.axes_, table.axes])
        self.members_ = rows_by_group(self.posterior_.inputs.codes[:, _DEPLOYMENT])
        return self

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The fitted model as JSON-ready values and arrays (data only, no code)."""
        state = {
            "version": STATE_VERSION,
            "parameters": {
                "target": self.target,
                "random_state": self.random_state,
                "facts": list(self.facts),
                "max_learning_cells": self.max_learning_cells,
                "max_log_sd": self.max_log_sd,
            },
            "noise_scale": self.noise_scale_,
            "names": self.encoder_.names,
            "folds": [sorted(fold.members) for fold in self.calibrator_.folds],
        }
        post = self.posterior_
        arrays: dict[str, NDArray[Any]] = {
            "theta": post.theta, "values": post.inputs.values, "codes": post.inputs.codes, "axes": self.axes_,
            "residual": post.y, "variance": post.variance, "noise_codes": self.noise_codes_,
            "noise_scales": self.noise_scales_,
            "fold_theta": np.array([fold.posterior.theta for fold in self.calibrator_.folds]),
            "fold_variance": np.array([fold.posterior.variance for fold in self.calibrator_.folds]),
            "fold_log_scale": np.array([fold.log_scale for fold in self.calibrator_.folds]),
            "fold_noise": np.array([fold.noise for fold in self.calibrator_.folds]),
        }  # fmt: skip
        return state, arrays

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted model behind `to_state`. Raises `ModelError` on what it does not know."""
        if state.get("version") != STATE_VERSION:
            raise ModelError(
                f"a saved auto model must have version {STATE_VERSION}", got=state.get("version"),
                hint="fit it again with this version of fewmark",
            )  # fmt: skip
        try:
            parameters = dict(state["parameters"])
            model = cls(**{**parameters, "facts": tuple(parameters["facts"])})
            model.noise_scale_ = float(state["noise_scale"])
            model.encoder_ = Encoder({c: {k: int(v) for k, v in m.items()} for c, m in state["names"].items()})
            model.axes_ = arrays["axes"]
            model.noise_codes_, model.noise_scales_ = arrays["noise_codes"], arrays["noise_scales"]
            kernel = Kernel(parts())
            if arrays["theta"].shape != (kernel.size,):
                raise ModelError("a saved auto model has other hyperparameters than this version", hint="fit it again")
            inputs = Inputs(arrays["values"], arrays["codes"])
            model.posterior_ = Posterior(kernel, arrays["theta"], inputs, arrays["residual"], arrays["variance"])
            model.members_ = rows_by_group(inputs.codes[:, _DEPLOYMENT])
            n = arrays["fold_noise"].shape[1]
            folds = [
                Fold(
                    Posterior(kernel, theta, inputs.take(slice(n)), arrays["residual"][:n], variance),
                    float(log_scale),
                    own,
                    frozenset(int(d) for d in members),
                )
                for theta, variance, log_scale, own, members in zip(
                    arrays["fold_theta"],
                    arrays["fold_variance"],
                    arrays["fold_log_scale"],
                    arrays["fold_noise"],
                    state["folds"],
                    strict=True,
                )
            ]
            model.calibrator_ = model._calibrator(folds)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ModelError("a saved auto model is incomplete", got=repr(error), hint="fit it again") from error
        return model

    # --- inside -------------------------------------------------------------------------------------------------------

    def _learnable(self, X: pd.DataFrame, y: FloatArray, encoder: Encoder) -> tuple[Table, FloatArray]:
        values = np.asarray(y, dtype=np.float64)
        if len(X) == 0 or values.shape != (len(X),):
            raise ModelError("fit needs cells and one value for each", got=f"{len(X)} cells, values {values.shape}")
        if not (np.isfinite(values) & (values > 0)).all():
            raise ModelError(f"values of {self.target} must be finite and positive", got=values[~(values > 0)][:3])
        table = read_table(X, self.target, load_facts(tuple(self.facts)), encoder)
        if any(table.problems):
            row = next(i for i, problem in enumerate(table.problems) if problem)
            raise ModelError(f"row {row} cannot be learned from", got=table.problems[row])
        self.encoder_ = encoder
        return table, table.to_latency + table.sign * np.log(values) - table.log_roofline

    def _learn(self, table: Table, residual: FloatArray, rows: NDArray[np.intp]) -> tuple[Posterior, float, FloatArray]:
        """Hyperparameters from these rows, then all cells' noise under them: posterior, common and own noise scales."""
        if len(rows) > self.max_learning_cells:
            # single cells, not whole deployments: the more deployments are met, the better the shared scales are known
            rng = np.random.default_rng(self.random_state)
            rows = np.sort(rng.permutation(rows)[: self.max_learning_cells])
        kernel = Kernel(parts())
        _, group = np.unique(table.inputs.codes[:, _DEPLOYMENT], return_inverse=True)
        group = group.astype(np.int64)
        _, some = np.unique(group[rows], return_inverse=True)
        theta, learned = gp.learn(kernel, prior(kernel), table.inputs.take(rows), residual[rows], some.astype(np.int64))
        noise = gp.Noise(learned.log_scale, np.ones(group.max() + 1), np.ones(len(group)))
        gp.refresh_noise(noise, kernel.matrix(theta, table.inputs), residual, group, steps=gp.NOISE_STEPS)
        scale = float(np.exp(noise.log_scale))
        posterior = Posterior(kernel, theta, table.inputs, residual, noise.variance(group))
        return posterior, scale, scale * noise.factor[group]

    def _folds(self, table: Table, residual: FloatArray, noise: FloatArray) -> list[Fold]:
        """Posteriors that score deployments whose values their hyperparameters never saw."""
        deployment = table.inputs.codes[:, _DEPLOYMENT]
        numbers = np.random.default_rng(self.random_state).permutation(np.unique(deployment))
        if len(numbers) < MIN_DEPLOYMENTS:
            return [Fold(self.posterior_, float(np.log(self.noise_scale_)), noise, frozenset(int(d) for d in numbers))]
        folds = []
        for k in range(FOLDS):
            unseen = numbers[k::FOLDS]
            posterior, scale, own = self._learn(table, residual, np.flatnonzero(~np.isin(deployment, unseen)))
            folds.append(Fold(posterior, float(np.log(scale)), own, frozenset(int(d) for d in unseen)))
        return folds

    def _calibrator(self, folds: list[Fold]) -> Calibrator:
        n = len(folds[0].noise)
        codes = self.posterior_.inputs.codes[:n]
        noise = self._noise_of(codes[:, _DEPLOYMENT])
        main = Fold(self.posterior_, float(np.log(self.noise_scale_)), noise, frozenset())
        return Calibrator(main, folds, self.axes_[:n], codes[:, _DEPLOYMENT], codes[:, _ACCELERATOR], self.random_state)

    @property
    def theta_(self) -> FloatArray:
        """The learned hyperparameters, (t,)."""
        return self.posterior_.theta

    def _read(self, X: pd.DataFrame) -> Table:
        if not hasattr(self, "posterior_"):
            raise ModelError("auto must be fitted first", hint="call fit")
        return read_table(X, self.target, load_facts(tuple(self.facts)), self.encoder_)

    def _latent(self, X: pd.DataFrame) -> tuple[Table, FloatArray, FloatArray]:
        """Log latency (m,) and its standard deviation with noise (m,)."""
        table = self._read(X)
        mean, variance = self.posterior_.predict(table.inputs)
        return table, table.log_roofline + mean, np.sqrt(variance + self._noise(table) ** 2)

    def _noise(self, table: Table) -> FloatArray:
        """Each cell's noise scale: its deployment's where known, else the median one, (m,)."""
        return self._noise_of(table.inputs.codes[:, _DEPLOYMENT])

    def _noise_of(self, code: NDArray[np.int64]) -> FloatArray:
        at = np.minimum(np.searchsorted(self.noise_codes_, code), len(self.noise_codes_) - 1)
        known = self.noise_codes_[at] == code
        return np.asarray(np.where(known, self.noise_scales_[at], np.median(self.noise_scales_)))

    def _silent(self, table: Table, sd: FloatArray) -> NDArray[np.bool_]:
        return np.array([bool(problem) for problem in table.problems], dtype=bool) | (sd > self.max_log_sd)

    def _by_deployment(self, table: Table) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """For each deployment asked for: the asked rows, and the learned rows of the same deployment."""
        code = table.inputs.codes[:, _DEPLOYMENT]
        none = np.zeros(0, dtype=np.intp)
        return [(np.flatnonzero(code == c), self.members_.get(int(c), none)) for c in np.unique(code)]

    def _situations(self, table: Table, sd: FloatArray) -> list[tuple[NDArray[np.intp], Scores, FloatArray]]:
        """For each deployment asked for: the asked rows, the scores that apply, and how far beyond the known."""
        out = []
        codes = table.inputs.codes
        for rows, own in self._by_deployment(table):
            deployment, accelerator = int(codes[rows[0], _DEPLOYMENT]), int(codes[rows[0], _ACCELERATOR])
            scores = self.calibrator_.scores(deployment, accelerator, self.axes_[own])
            out.append((rows, scores, beyond(table.axes[rows], self.axes_[own])))
        return out


def _greedy(covariance: FloatArray, noise: FloatArray, count: int) -> NDArray[np.intp]:
    """Rows whose measurement leaves the smallest sum of standard deviations, one after another.

    Parameters
    ----------
    covariance : (m, m) of the latent function; noise : (m,) variances
    """
    left = covariance.copy()
    free = np.ones(len(noise), dtype=bool)
    chosen = []
    for _ in range(count):
        variance = np.maximum(np.diag(left), 0.0)
        after = variance[None, :] - left**2 / (variance + noise)[:, None]
        remaining = np.sqrt(np.maximum(after, 0.0)).sum(1)
        remaining[~free] = np.inf
        best = int(np.argmin(remaining))
        chosen.append(best)
        free[best] = False
        left = left - np.outer(left[:, best], left[best]) / (variance[best] + noise[best])
    return np.array(chosen, dtype=np.intp)
