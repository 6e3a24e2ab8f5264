"""`auto` where more than one latency was measured: its targets agree with one another, and each helps the others.

Notation: T `ttft_s`, P `tpot_s`, E `e2e_latency_s`, R `throughput_tok_s` of a cell with oo output tokens under load bb:

    E = T + (oo - 1) P,   R = bb · oo / E

Three processes (`fewmark.models.auto.latency_gp`) answer for log T, log P and log E; two numbers fix a cell, so the
answers are projected onto what the definitions allow, each trusted as far as it has earned
(`fewmark.models.auto.reconciliation`).

In a closed loop the processes also see how far the users outnumber the batch (`fewmark.models.analytic.closed_loop`).

A table whose throughput (or latency) is not what these definitions say, by more than three in a hundred in the median
or a tenth in one cell of twenty, means something else by that name: its throughput (latency) is then learned by itself.
So it is where part of a batch waits for the rest, of which a request's own latencies tell nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit as student_quantile

from fewmark.core.metrics import TARGETS
from fewmark.facts.facts import load_facts
from fewmark.models.analytic.closed_loop import Saturation, log_waves
from fewmark.models.analytic.mechanistic import N_TERMS, Mechanistic
from fewmark.models.auto.conformity_scores import PRIOR_DEGREES, LeftOut, Scores
from fewmark.models.auto.covariance import prior as prior_of_kernel
from fewmark.models.auto.experts import Hyperparameters
from fewmark.models.auto.features import COLUMNS, Encoder, Features
from fewmark.models.auto.latency_gp import LatencyGP, arrays_under
from fewmark.models.auto.public_prior import ENOUGH, Prior, packaged_prior
from fewmark.models.auto.reconciliation import TrustChoice, agree, distrust, select_trust
from fewmark.models.gp.linalg import log_normal
from fewmark.models.gp.threads import single_threaded
from fewmark.tables.arrays import FloatArray
from fewmark.tables.cells import check_target
from fewmark.tables.metrics import E2E, LATENCIES, TPOT, TTFT, convert, latency_of, target_of, tokens_and_load
from fewmark.tables.precision import log_sd, rounding_step

RATES: Final = ("throughput_tok_s", "total_throughput_tok_s")
PRESSURE: Final = COLUMNS.index("pressure")
SAME: Final = 0.03  # log ratio, in the median, up to which a table's target is what the definitions say
NEARLY: Final = 0.1  # and in all but one cell of twenty
SMALLEST_SHARE: Final = 0.1  # of a projected latency that is decoding
MOST_DOUBT: Final = 0.15  # more than this is a shape that the stiff model lacks


class AutoModel(LatencyGP):
    """`auto`; see the module.

    Columns of X named after other metrics (`ttft_s`, `tpot_s`, `e2e_latency_s`) are learned from where there; they are
    never looked at for cells that are asked for.

    Parameters
    ----------
    prior : bool or mapping, default False
        Whether a table of few cells, none of them packaged, is joined by what public measurements teach
        (`fewmark.models.auto.public_prior`); or the priors themselves, by latency.
    parameters : those of `LatencyGP`

    Attributes
    ----------
    n_public_cells_ : how many public cells joined; 0 where the prior was not asked for, or told these cells no better
    """

    uses_metrics: ClassVar[bool] = True
    uses_prior: ClassVar[bool] = True
    alone = False  # a companion itself: it learns its own latency and nothing else

    def __init__(self, *, prior: bool | Mapping[str, Prior] = False, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.prior = prior

    @single_threaded
    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        return self._fit_with(X, y, again=False)

    @single_threaded
    def refit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        self._require_fitted()
        return self._fit_with(X, y, again=True)

    def _fit_with(self, X: pd.DataFrame, y: FloatArray, *, again: bool) -> Self:
        self.own_noise_ = 0.0
        self.n_public_cells_ = 0
        self.known_: tuple[pd.DataFrame, dict[str, FloatArray]] | None = None
        before = getattr(self, "companions_", {}) if again else {}
        self.companions_: dict[str, AutoModel] = {}
        self.before_ = before
        values = check_target(y, len(X))
        latencies = None if self.alone or self.target not in TARGETS else _latencies(X, values, self.target)
        if latencies is not None:
            self.known_ = X, latencies
            values = target_of(self.target, latencies, *tokens_and_load(X))
        self.step_ = rounding_step(values)
        prior = self._prior_for(X, values)
        if prior is not None and self._fit_on(prior, X, values):
            return self
        self.saturation_ = Saturation.learn(X, load_facts(self.facts))
        _ = super().refit(X, values) if again else super().fit(X, values)
        self.own_noise_ = self._doubt(X, values)
        return self

    def _doubt(self, X: pd.DataFrame, values: FloatArray) -> float:
        """The scatter about a stiff model that the process takes for signal, a standard deviation of the log.

        A deployment alone has no others to calibrate by, and a flexible process follows the noise of few cells; what
        scatters about the few terms of `fewmark.models.analytic.mechanistic` may all be noise.
        """
        n = len(values)
        if len(self.noise_scales_) > 1 or n <= 2 * N_TERMS - 5:
            return 0.0
        parametric = Mechanistic(target=self.target).fit(X, values).predict(X)
        scatter = np.log(parametric / values) ** 2
        own = next(iter(self.noise_scales_.values()))
        found = np.sqrt(max(0.0, float(np.nansum(scatter)) / (n - N_TERMS + 1) - own**2))
        return float(min(found, MOST_DOUBT))

    def _prior_for(self, X: pd.DataFrame, values: FloatArray) -> Prior | None:
        """The prior that may join these cells."""
        if not self.prior or len(X) > ENOUGH:
            return None
        name = latency_of(self.target)
        found = packaged_prior(name) if self.prior is True else dict(self.prior).get(name)
        if found is None or not {"input_tokens", "output_tokens"} <= set(map(str, X.columns)):
            return None
        return None if found.has_seen(X, convert(self.target, values, *tokens_and_load(X))) else found

    def _fit_on(self, prior: Prior, X: pd.DataFrame, values: FloatArray) -> bool:
        """Join the prior's cells, its hyperparameters kept, if they foretell these cells better than the roofline."""
        facts = load_facts(self.facts)
        packaged, at = prior.related(X, facts)
        both = pd.concat([X.astype(object), packaged.astype(object)], ignore_index=True)
        self.saturation_ = Saturation.learn(both, facts)
        lent = convert(self.target, prior.seconds[at], *tokens_and_load(packaged))
        table, residual = self._learnable(both, np.append(values, lent), Encoder())
        codes, fold = table.deployment, np.append(np.ones(len(X), dtype=np.int64), prior.fold[at])
        self.hypers_ = [
            Hyperparameters(theta, float(scale), frozenset(codes[fold == number].tolist()) if number else frozenset())
            for number, (theta, scale) in enumerate(zip(prior.theta, prior.log_scale, strict=True))
        ]
        own, lent_rows = np.arange(len(X)), np.arange(len(X), len(both))
        public = replace(table, inputs=table.inputs.take(lent_rows), axes=table.axes[lent_rows])
        self._condition(public, residual[lent_rows])
        one = np.eye(len(own))
        mean, covariance = self.pools_[0].posterior.joint(table.inputs.take(own))
        told = log_normal(residual[own] - mean, covariance + self.typical_noise_**2 * one)
        kernel = self.pools_[0].kernel
        blank = prior_of_kernel(kernel)
        untaught = kernel.matrix(blank.mean, table.inputs.take(own)) + np.exp(2 * blank.noise_mean) * one
        alone = log_normal(residual[own], untaught)
        if told < alone:
            return False
        self._condition(table, residual)
        self.n_public_cells_ = len(packaged)
        return True

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        state, arrays = super().to_state()
        state["own_noise"], state["step"], state["lent"] = self.own_noise_, self.step_, self.n_public_cells_
        if self.saturation_ is not None:
            state["saturation"], own = self.saturation_.to_state()
            arrays |= {f"saturation/{name}": values for name, values in own.items()}
        if self._has_companions():
            state["companions"] = {}
            for name, model in self.companions_.items():
                state["companions"][name], own = model.to_state()
                arrays |= {f"{name}/{key}": values for key, values in own.items()}
        return state, arrays

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        model = super().from_state(state, arrays)
        model.known_, model.before_ = None, {}
        model.own_noise_, model.step_ = float(state.get("own_noise", 0.0)), float(state.get("step", 0.0))
        model.saturation_, model.n_public_cells_ = None, int(state.get("lent", 0))
        if "saturation" in state:
            model.saturation_ = Saturation.from_state(state["saturation"], arrays_under("saturation", arrays))
        submodels = state.get("companions", {})
        model.companions_ = {name: cls.from_state(submodels[name], arrays_under(name, arrays)) for name in submodels}
        return model

    @property
    def is_cacheable(self) -> bool:
        # the other latencies are fitted when they are first asked for, and not for being kept
        waiting = getattr(self, "known_", None) is not None and not self.companions_
        return isinstance(self.prior, bool) and not waiting

    def n_worked_out(self) -> int:
        return super().n_worked_out() + sum(model.n_worked_out() for model in self.companions_.values())

    def worked_out(self) -> dict[str, NDArray[Any]]:
        arrays = super().worked_out()
        for name, model in self.companions_.items():
            arrays |= {f"{name}/{key}": values for key, values in model.worked_out().items()}
        return arrays

    def recall(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        super().recall(arrays)
        for name, model in self.companions_.items():
            model.recall(arrays_under(name, arrays))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _learnable(self, X: pd.DataFrame, y: FloatArray, encoder: Encoder) -> tuple[Features, FloatArray]:
        table, residual = super()._learnable(X, y, encoder)
        self._saturate(table, X)
        known_noise = self._projected_variance(X) + self._rounded_variance(np.log(np.asarray(y, dtype=float)))
        if known_noise.any():
            table = replace(table, inputs=replace(table.inputs, known_noise=known_noise))
        return table, residual

    def _projected_variance(self, X: pd.DataFrame) -> FloatArray:
        """What the log latency that is learned may be off by where it was projected, a variance; else 0, (n,)."""
        sd, latency = log_sd(X), latency_of(self.target)
        if latency == E2E or not sd.any():
            return sd**2
        if latency == TTFT or not {TTFT, E2E} <= set(map(str, X.columns)):
            return np.zeros(len(sd)) if latency == TTFT else sd**2
        # the first token was measured, so that the error is the decoding's
        first, last = (pd.to_numeric(X[name], errors="coerce").to_numpy(float) for name in (TTFT, E2E))
        share = np.clip(np.nan_to_num(1 - first / last, nan=1.0), SMALLEST_SHARE, 1.0)
        return np.asarray((sd / share) ** 2)

    def _rounded_variance(self, log_y: FloatArray) -> FloatArray:
        """Of the logs of values (n,) that are rounded as the learned ones are, uniformly within a step."""
        if not self.step_:
            return np.zeros(len(log_y))
        return np.asarray(np.exp(2 * np.minimum(np.log(self.step_) - log_y, 0.0)) / 12.0)

    def _latent(self, X: pd.DataFrame) -> tuple[Features, FloatArray, FloatArray]:
        table, mean, sd = super()._latent(X)
        rounded = self._rounded_variance(table.sign * (mean - table.to_latency))  # as it will be when measured
        return table, mean, np.sqrt(sd**2 + rounded)

    def _read(self, X: pd.DataFrame) -> Features:
        table = super()._read(X)
        self._saturate(table, X)
        return table

    def _saturate(self, table: Features, X: pd.DataFrame) -> None:
        """Put how far the users outnumber the batch in the place of the roofline's estimate."""
        if getattr(self, "saturation_", None) is None or "concurrency" not in X:
            return
        assert self.saturation_ is not None
        users = pd.to_numeric(X["concurrency"], errors="coerce").to_numpy(float)
        rows = np.flatnonzero((users > 0) & ~table.unusable)
        if len(rows):
            most = self.saturation_.log2_users(X.iloc[rows], load_facts(self.facts))
            table.inputs.values[rows, PRESSURE] = log_waves(users[rows], most) / np.log(2.0)
            table.loop[rows] = self.saturation_.told(X.iloc[rows])

    def _has_companions(self) -> bool:
        """Fit the other two latencies when they are first needed: planning never asks for them."""
        self._require_fitted()
        if self.known_ is not None and not self.companions_:
            X, latencies = self.known_
            for name in LATENCIES:
                if name == latency_of(self.target):
                    continue
                model = type(self)(
                    target=name, random_state=self.random_state, facts=self.facts,
                    max_learning_cells=self.max_learning_cells, max_pool_cells=self.max_pool_cells,
                    max_log_sd=self.max_log_sd, prior=self.prior,
                )  # fmt: skip
                model.alone = True
                earlier = self.before_.get(name)
                if earlier is not None:
                    earlier.refit(X, latencies[name])
                    model = earlier
                else:
                    model.fit(X, latencies[name])
                self.companions_[name] = model
        return bool(self.companions_)

    def _answer(self, X: pd.DataFrame) -> tuple[Features, FloatArray, FloatArray, NDArray[np.bool_]]:
        if not self._has_companions():
            return super()._answer(X)
        logs, sds = {}, {}
        for name, model in self._processes():
            table, logs[name], sd = model._latent(X)
            sds[name] = model._stretched(table, sd)
            if model is self:
                own, silent = table, self._silent(table, sd)
        for rows, verdict, _ in self._verdicts(X):
            for name, inflation in (distrust(E2E) if verdict is None else verdict.inflation).items():
                sds[name][rows] *= inflation
        found, ratio = agree(logs, {name: sd**2 for name, sd in sds.items()}, tokens_and_load(X)[1])
        name = latency_of(self.target)
        return own, found[name], sds[name] * np.sqrt(ratio[name]), silent

    def _scored(self, X: pd.DataFrame, table: Features) -> list[tuple[NDArray[np.intp], Scores, FloatArray]]:
        scored = super()._scored(X, table)
        if not self._has_companions():
            return scored
        name = latency_of(self.target)
        return [
            (rows, scores if verdict is None else verdict.scores[name], outside)
            for (rows, scores, outside), (_, verdict, _) in zip(scored, self._verdicts(X), strict=True)
        ]

    def _further(self, confidence_level: float) -> float:
        return self.own_noise_ * float(student_quantile(PRIOR_DEGREES, 0.5 + confidence_level / 2))

    def _processes(self) -> list[tuple[str, AutoModel]]:
        own = latency_of(self.target)
        return [(name, self if name == own else self.companions_[name]) for name in LATENCIES]

    def _verdicts(self, X: pd.DataFrame) -> list[tuple[NDArray[np.intp], TrustChoice | None, FloatArray]]:
        """For each deployment asked for: its rows, and which of the three latencies to trust."""
        situations = [(name, model._situations(model._read(X))) for name, model in self._processes()]
        out = []
        for each in zip(*(found for _, found in situations), strict=True):
            left = {name: one[1] for (name, _), one in zip(situations, each, strict=True)}
            out.append((each[0][0], _verdict(left), each[0][2]))
        return out


def _verdict(left: dict[str, LeftOut]) -> TrustChoice | None:
    """The contest over the same cells; None where the processes do not know the same."""
    one, *others = left.values()
    if any(not np.array_equal(one.axes, other.axes) for other in others):
        return None
    if not all(np.isfinite(each.offset).all() for each in left.values()):
        return None
    return select_trust(left, np.exp2(one.axes[:, 1]))


def _latencies(X: pd.DataFrame, y: FloatArray, target: str) -> dict[str, FloatArray] | None:
    """The three latencies of all cells, as the definitions have them; None where they are not known, or not so."""
    if not {TTFT, TPOT} & {*map(str, X.columns), target}:
        return None
    found = {
        name: pd.to_numeric(X[name], errors="coerce").to_numpy(float) if name in X else np.full(len(X), np.nan)
        for name in (*LATENCIES, *RATES)
    }
    found[target] = y
    _, oo, _ = tokens_and_load(X)
    rest = np.where(oo > 1, oo - 1, np.nan)
    first = np.where(np.isnan(found[TTFT]), found[E2E] - rest * found[TPOT], found[TTFT])
    pace = np.where(np.isnan(found[TPOT]), (found[E2E] - first) / rest, found[TPOT])
    with np.errstate(invalid="ignore"):
        known = (first > 0) & (pace > 0)
    if not known.all():
        return None
    out = {TTFT: first, TPOT: pace, E2E: first + (oo - 1) * pace}
    told = target_of(target, out, *tokens_and_load(X))
    off = np.abs(np.log(told / y))
    return out if np.median(off) <= SAME and np.quantile(off, 0.95) <= NEARLY else None
