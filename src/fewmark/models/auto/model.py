"""`auto` for batches and closed loops: where more than one latency was measured, the targets agree with one another.

Notation: T `ttft_s`, P `tpot_s`, E `e2e_latency_s`, R `throughput_tok_s` of a cell with oo output tokens under load bb:

    E = T + (oo - 1) P,   R = bb · oo / E

Three processes (`fewmark.models.auto.latency_gp`) predict log T, log P and log E; two numbers fix a cell, so the
predictions are projected onto what the definitions allow (`fewmark.models.auto.joint_answer`), each weighted by how
well it has predicted deployments that were left out (`fewmark.models.auto.reconciliation`). Where only one latency was
measured, one process answers.

A table whose throughput (or latency) is not what these definitions say, by more than three in a hundred in the median
or a tenth in one cell of twenty, means something else by that name: its throughput (latency) is then learned by itself.
So it is where part of a batch waits for the rest, of which a request's own latencies tell nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.errors import ModelError
from fewmark.facts.facts import user_files
from fewmark.models.auto.joint_answer import JointProcesses
from fewmark.models.auto.latency_gp import LatencyGP, require_level
from fewmark.models.auto.limits import RATE, Order, log_rate
from fewmark.models.auto.local_experts import arrays_under
from fewmark.models.auto.public_prior import Prior
from fewmark.models.base import Answers, Model
from fewmark.models.design import anchors
from fewmark.models.gp.threads import single_threaded
from fewmark.models.state import Arrays, State, listed, part, text
from fewmark.tables.arrays import FloatArray
from fewmark.tables.cells import check_target
from fewmark.tables.columns import numbers_of
from fewmark.tables.metrics import E2E, LATENCIES, RATES, TPOT, TTFT, latency_of, target_of, tokens_and_load

MEDIAN_TOLERANCE: Final = 0.03  # log ratio up to which a table's target is what the definitions say
TAIL_TOLERANCE: Final = 0.1  # and in all but one cell of twenty


class AutoModel(Model):
    """Three latency processes made to agree, or one where only one latency is known; see the module.

    Columns of X named after other metrics (`ttft_s`, `tpot_s`, `e2e_latency_s`) are learned from where there; they are
    never looked at for cells that are asked for.

    Parameters
    ----------
    target, random_state, facts, max_learning_cells, max_expert_cells, max_log_sd, prior
        As for `fewmark.models.auto.latency_gp.LatencyGP`.

    Attributes
    ----------
    process_ : LatencyGP
        The process of the target's own latency.
    submodels_ : dict of str to LatencyGP
        Those of the other two latencies, fitted when they are first needed.
    n_public_cells_ : int
        How many public cells joined the process of the target's own latency.
    order_, numbering_ : Order, str
        What cells may not break, and the latency whose process numbers its deployments: public cells that join one
        process and not another number them otherwise.
    """

    name: ClassVar[str] = "auto"
    pools_deployments: ClassVar[bool] = True
    uses_metrics: ClassVar[bool] = True
    uses_prior: ClassVar[bool] = True
    order_: Order | None = None
    numbering_: str
    apart_: frozenset[str] = frozenset()  # metrics of the table that are not what its latencies imply

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
        self.before_: dict[str, LatencyGP] = {}
        values = self._learned_values(X, y)
        self.process_ = self._make(self.target).fit(X, values)
        self._put_in_order()
        self.n_public_cells_ = self.process_.n_public_cells_
        return self

    @single_threaded
    def refit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        process = self._process()
        self.before_ = self.submodels_
        process.refit(X, self._learned_values(X, y))
        self._put_in_order()
        self.n_public_cells_ = process.n_public_cells_
        return self

    def for_target(self, target: str) -> Self | None:
        """This model for another metric, its three processes shared; None where it knows one latency alone."""
        if target == self.target:
            return self
        own = latency_of(target)
        # a rate and its latency are read off one process, each in its own way
        if own not in LATENCIES or own == latency_of(self.target) or not self._has_submodels():
            return None
        if target in self.apart_:
            return None  # means something else in this table
        processes = dict(self._joint().processes)
        process = processes.pop(own).for_target(target)
        assert process is not None
        model = type(self)(**{**self.get_params(), "target": target})
        model.process_, model.before_, model.known_ = process, {}, None
        model.submodels_, model.n_public_cells_ = processes, process.n_public_cells_
        model.order_, model.numbering_, model.apart_ = self.order_, self.numbering_, self.apart_
        return model

    def add(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Take in further measurements of the target without learning anew."""
        self._process().add(X, y)
        return self

    @single_threaded
    def answer(self, X: pd.DataFrame, confidence_level: float = 0.9) -> Answers:
        process = self._process()
        if not self._has_submodels():
            return process.answer(X, confidence_level)
        joint = self._joint()
        found = joint.estimates(X)
        choices = joint.choices(found)
        calibrated = joint.reconciled(X, found, choices)
        return process.describe(found[joint.own], calibrated, joint.scored(choices), confidence_level)

    @single_threaded
    def predict(self, X: pd.DataFrame) -> FloatArray:
        if not self._has_submodels():
            return self._process().predict(X)
        joint = self._joint()
        found = joint.estimates(X)
        return joint.reconciled(X, found, joint.choices(found)).values()

    @single_threaded
    def predict_interval(self, X: pd.DataFrame, confidence_level: float = 0.9) -> FloatArray:
        process = self._process()
        require_level(confidence_level)
        if not self._has_submodels():
            return process.predict_interval(X, confidence_level)
        joint = self._joint()
        found = joint.estimates(X)
        choices = joint.choices(found)
        extra = process.extra_width(confidence_level)
        return joint.reconciled(X, found, choices).intervals(joint.scored(choices), confidence_level, extra)

    def provenance(self, X: pd.DataFrame) -> NDArray[np.str_]:
        return self.answer(X).provenance if self._has_submodels() else self._process().provenance(X)

    def similarity(self, X: pd.DataFrame) -> FloatArray:
        return self._process().similarity(X)

    def abstentions(self, X: pd.DataFrame) -> list[str]:
        return self.answer(X).abstained if self._has_submodels() else self._process().abstentions(X)

    @single_threaded
    def forecast_error(self, X: pd.DataFrame) -> float:
        process = self._process()
        if not self.submodels_:
            return process.forecast_error(X)
        joint = self._joint()
        found = joint.estimates(X)
        choices = joint.choices(found)
        return joint.reconciled(X, found, choices).forecast(joint.scored(choices))

    def design(self, X: pd.DataFrame, n_cells: int) -> NDArray[np.intp]:
        return self.process_.design(X, n_cells) if hasattr(self, "process_") else anchors(X, n_cells)

    def joint(self, X: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
        """As `fewmark.models.base.JointModel.joint`."""
        return self._process().joint(X)

    def to_state(self) -> tuple[State, Arrays]:
        state, arrays = self._process().to_state()
        if self.order_ is not None:
            order, own = self.order_.to_state()
            state["order"] = {**order, "numbering": self.numbering_}
            arrays |= {f"order/{name}": values for name, values in own.items()}
        if self._has_submodels():
            submodels: State = {}
            for name, model in self.submodels_.items():
                submodels[name], own = model.to_state()
                arrays |= {f"{name}/{key}": values for key, values in own.items()}
            state |= {"submodels": submodels, "apart": sorted(self.apart_)}
        return state, arrays

    @classmethod
    def from_state(cls, state: State, arrays: Arrays) -> Self:
        process = LatencyGP.from_state(state, arrays)
        model = cls(**process.get_params())
        model.process_, model.n_public_cells_ = process, process.n_public_cells_
        model.known_, model.before_, model.numbering_ = None, {}, latency_of(model.target)
        found = part(state, "submodels") if "submodels" in state else {}
        model.submodels_ = {name: LatencyGP.from_state(part(found, name), arrays_under(name, arrays)) for name in found}
        model.apart_ = frozenset(map(str, listed(state, "apart"))) if "apart" in state else frozenset()
        if "order" in state:
            order = part(state, "order")
            model.order_ = Order.from_state(order, arrays_under("order", arrays))
            model.numbering_ = text(order, "numbering") if "numbering" in order else model.numbering_
        return model

    @property
    def is_cacheable(self) -> bool:
        # the other latencies are fitted when they are first asked for, and not for being kept
        waiting = getattr(self, "known_", None) is not None and not self.submodels_
        return isinstance(self.prior, bool) and not waiting

    def n_worked_out(self) -> int:
        return sum(model.n_worked_out() for model in (self._process(), *self.submodels_.values()))

    def worked_out(self) -> Arrays:
        arrays = self._process().worked_out()
        for name, model in self.submodels_.items():
            arrays |= {f"{name}/{key}": values for key, values in model.worked_out().items()}
        return arrays

    def recall(self, arrays: Arrays) -> None:
        self._process().recall(arrays)
        for name, model in self.submodels_.items():
            model.recall(arrays_under(name, arrays))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _make(self, target: str) -> LatencyGP:
        return LatencyGP(**{**self.get_params(), "target": target})

    def _process(self) -> LatencyGP:
        if not hasattr(self, "process_"):
            raise ModelError("auto must be fitted first", hint="call fit")
        return self.process_

    def _learned_values(self, X: pd.DataFrame, y: FloatArray) -> FloatArray:
        """The target's values (n,) as the definitions have them; the other latencies are kept until they are needed."""
        values = check_target(y, len(X))
        latencies = _latencies(X, values, self.target) if latency_of(self.target) in LATENCIES else None
        self.known_: tuple[pd.DataFrame, dict[str, FloatArray]] | None = None
        self.submodels_: dict[str, LatencyGP] = {}
        self.apart_ = frozenset()
        if latencies is None:
            return values
        self.known_ = X, latencies
        given = {name: numbers_of(X, name) for name in (E2E, *RATES) if name in X and name != self.target}
        apart = {name for name, y in given.items() if not _implied(X, y, name, latencies)}
        self.apart_ = frozenset(apart | set(RATES if apart & set(RATES) else ()))
        return target_of(self.target, latencies, *tokens_and_load(X))

    def _has_submodels(self) -> bool:
        """Fit the other two latencies when they are first needed: planning never asks for them."""
        self._process()
        if self.known_ is not None and not self.submodels_:
            X, latencies = self.known_
            for name in LATENCIES:
                if name == latency_of(self.target):
                    continue
                earlier = self.before_.get(name)
                self.submodels_[name] = (
                    self._make(name).fit(X, latencies[name]) if earlier is None else earlier.refit(X, latencies[name])
                )
        return bool(self.submodels_)

    def _put_in_order(self) -> None:
        """Learn how well the table's latencies keep the order of their work."""
        self.order_, self.numbering_ = None, latency_of(self.target)
        if self.known_ is not None:
            X, latencies = self.known_
            table = self.process_.featuriser_.asked(X)
            logs = {name: np.log(latencies[name]) for name in (TTFT, TPOT)}
            if table.online.any():
                rate = log_rate(table.axes, np.log(latencies[E2E]))
                logs[RATE] = np.where(table.online, rate, np.nan)
            self.order_ = Order.learn(table.axes[:, :3], logs, table.deployment)

    def _joint(self) -> JointProcesses:
        """The three processes, which answer as one."""
        own = latency_of(self.target)
        processes = {name: self.process_ if name == own else self.submodels_[name] for name in LATENCIES}
        return JointProcesses(own, processes, self.order_, self.numbering_)


def _latencies(X: pd.DataFrame, y: FloatArray, target: str) -> dict[str, FloatArray] | None:
    """The three latencies of all cells, as the definitions have them; None where they are not known, or not so."""
    if not {TTFT, TPOT} & {*map(str, X.columns), target}:
        return None
    found = {name: numbers_of(X, name) for name in (*LATENCIES, *RATES)}
    found[target] = y
    _, oo, _ = tokens_and_load(X)
    rest = np.where(oo > 1, oo - 1, np.nan)
    first = np.where(np.isnan(found[TTFT]), found[E2E] - rest * found[TPOT], found[TTFT])
    tpot = np.where(np.isnan(found[TPOT]), (found[E2E] - first) / rest, found[TPOT])
    with np.errstate(invalid="ignore"):
        known = (first > 0) & (tpot > 0)
    if not known.all():
        return None
    out = {TTFT: first, TPOT: tpot, E2E: first + (oo - 1) * tpot}
    return out if _implied(X, y, target, out) else None


def _implied(X: pd.DataFrame, y: FloatArray, target: str, latencies: Mapping[str, FloatArray]) -> bool:
    """Whether a metric's values (n,), as far as they are known, are what the latencies imply."""
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.abs(np.log(target_of(target, latencies, *tokens_and_load(X)) / y))
    off = off[np.isfinite(off)]
    return not len(off) or bool(np.median(off) <= MEDIAN_TOLERANCE and np.quantile(off, 0.95) <= TAIL_TOLERANCE)
