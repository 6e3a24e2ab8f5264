"""`auto` by what is asked: the kind of load, and whether of a mean or a percentile over requests.

At a request rate nobody knows how many requests are in flight: not one of the definitions that join latencies and rates
of a closed loop holds, so no cell of one kind may teach the other's curve. Batches and closed loops are answered by
`fewmark.models.auto.model`, open loops by `fewmark.models.auto.open_loop`, and percentiles of either by
`fewmark.models.auto.percentiles`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import ClassVar, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.metrics import PERCENTILE_METRICS
from fewmark.facts.facts import user_files
from fewmark.models.auto.local_experts import arrays_under
from fewmark.models.auto.model import AutoModel
from fewmark.models.auto.open_loop import UNSEEN, UNTOLD, OpenLoops
from fewmark.models.auto.percentiles import Percentiles
from fewmark.models.auto.public_prior import Prior
from fewmark.models.base import Answers, Model
from fewmark.models.design import anchors
from fewmark.models.state import Arrays, State, part, text, whole
from fewmark.tables.arrays import BoolArray, FloatArray
from fewmark.tables.cells import check_target
from fewmark.tables.columns import load_kind_of, numbers_of

OPEN: Final = LOAD_COLUMNS.index("request_rate")


class AutoByLoad(Model):
    """The default model `auto`: a Gaussian process on a roofline of published facts, over all deployments.

    Parameters
    ----------
    target : str, default "throughput_tok_s"
        The metric; one of `fewmark.core.metrics.ALL_TARGETS`.
    random_state : int, default 0
        Seed of everything random.
    facts : sequence of str, optional
        Files with further facts of models and accelerators; by default those that `FEWMARK_FACTS` names.
    max_learning_cells : int, default 1000
        Hyperparameters are learned from at most this many cells, drawn at random.
    max_expert_cells : int, default 3000
        More cells than this are partitioned into local experts, each exact by itself.
    max_log_sd : float, default 1.0
        Abstain where the log prediction's standard deviation exceeds this, as where the ends of the 90% interval would
        be more than a factor of 20 apart.
    prior : bool or mapping, default False
        Whether a table of few cells, none of them packaged, is joined by public measurements; or the priors
        themselves, by latency.

    Attributes
    ----------
    closed_ : AutoModel or None
        What was learned from batches and closed loops.
    open_ : OpenLoops or None
        What was learned from open loops.
    percentiles_ : Percentiles or None
        What was learned for a target that is a percentile.
    n_public_cells_ : int
        How many public cells joined the measured ones.

    Examples
    --------
    >>> from fewmark import datasets
    >>> from fewmark.models.registry import make_model
    >>> table = datasets.example()
    >>> model = make_model("auto").fit(table, table["throughput_tok_s"])
    >>> model.predict(table).shape, model.predict_interval(table, 0.9).shape
    ((24,), (24, 2))
    >>> model.provenance(table.head(1).assign(batch_size=128)).tolist()
    ['extrapolated']
    """

    name: ClassVar[str] = "auto"
    pools_deployments: ClassVar[bool] = True
    uses_metrics: ClassVar[bool] = True
    uses_prior: ClassVar[bool] = True

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
        self.closed_: AutoModel | None = None
        self.open_: OpenLoops | None = None
        self.percentiles_: Percentiles | None = None

    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from measured cells; of a percentile y may be unknown (NaN) where X has others of its metric."""
        self.closed_ = self.percentiles_ = None
        return self.refit(X, y)

    def refit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        if self.target in PERCENTILE_METRICS:
            before = self.percentiles_
            self.percentiles_ = Percentiles(self.target, self._of_mean).fit(X, y, before=before)
            self.n_public_cells_ = self.percentiles_.mean.n_public_cells_
            return self
        values = check_target(y, len(X))
        rate: BoolArray = load_kind_of(X) == OPEN
        self.open_ = OpenLoops(self.target, self.random_state).fit(X[rate], values[rate]) if rate.any() else None
        if rate.all():
            self.closed_ = None
        elif self.closed_ is None:
            self.closed_ = self._make_closed().fit(X[~rate], values[~rate])
        else:
            self.closed_.refit(X[~rate], values[~rate])
        self.n_public_cells_ = 0 if self.closed_ is None else self.closed_.n_public_cells_
        return self

    def for_target(self, target: str) -> Self | None:
        """See `AutoModel.for_target`; open loops and percentiles are learned by themselves."""
        if target == self.target:
            return self
        if self.closed_ is None or self.open_ is not None or target in PERCENTILE_METRICS:
            return None
        closed = self.closed_.for_target(target)
        if closed is None:
            return None
        model = type(self)(**{**self.get_params(), "target": target})
        model.closed_, model.n_public_cells_ = closed, closed.n_public_cells_
        return model

    def add(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Take in further batches and closed loops; percentiles and open loops are learned anew by `refit` alone."""
        rate = load_kind_of(X) == OPEN
        if self.closed_ is not None and not rate.all():
            self.closed_.add(X[~rate], np.asarray(y, dtype=float)[~rate])
        return self

    def answer(self, X: pd.DataFrame, confidence_level: float = 0.9) -> Answers:
        closed = self._closed_alone(X)
        if closed is not None:
            return closed.answer(X, confidence_level)
        if self.percentiles_ is not None:
            return self.percentiles_.answer(X, confidence_level)
        rate: BoolArray = load_kind_of(X) == OPEN
        n = len(X)
        out = Answers(
            value=np.full(n, np.nan),
            low=np.full(n, np.nan),
            high=np.full(n, np.nan),
            provenance=np.full(n, "abstained", dtype="<U12"),
            similarity=np.zeros(n),
            abstained=[""] * n,
        )
        if self.closed_ is not None and not rate.all():
            _put(out, np.flatnonzero(~rate), self.closed_.answer(X[~rate], confidence_level))
        elif not rate.all():
            _silence(out, np.flatnonzero(~rate), "no batch and no closed loop was measured, only open loops")
        if self.open_ is None:
            _silence(out, np.flatnonzero(rate), UNSEEN)
        elif rate.any():
            sizes = np.stack([numbers_of(X, name) for name in ("input_tokens", "output_tokens", "request_rate")])
            told = rate & (np.isfinite(sizes) & (sizes > 0)).all(axis=0)
            if told.any():
                _put(out, np.flatnonzero(told), self.open_.answer(X[told], confidence_level))
            _silence(out, np.flatnonzero(rate & ~told), UNTOLD)
        return out

    def predict(self, X: pd.DataFrame) -> FloatArray:
        closed = self._closed_alone(X)
        return self.answer(X).value if closed is None else closed.predict(X)

    def predict_interval(self, X: pd.DataFrame, confidence_level: float = 0.9) -> FloatArray:
        closed = self._closed_alone(X)
        if closed is not None:
            return closed.predict_interval(X, confidence_level)
        found = self.answer(X, confidence_level)
        return np.column_stack([found.low, found.high])

    def provenance(self, X: pd.DataFrame) -> NDArray[np.str_]:
        closed = self._closed_alone(X)
        return self.answer(X).provenance if closed is None else closed.provenance(X)

    def similarity(self, X: pd.DataFrame) -> FloatArray:
        closed = self._closed_alone(X)
        return self.answer(X).similarity if closed is None else closed.similarity(X)

    def abstentions(self, X: pd.DataFrame) -> list[str]:
        closed = self._closed_alone(X)
        return self.answer(X).abstained if closed is None else closed.abstentions(X)

    def forecast_error(self, X: pd.DataFrame) -> float:
        closed = self._closed_alone(X)
        if closed is not None:
            return closed.forecast_error(X)
        found = self.answer(X, 0.5)  # half of the values lie outside
        ends = np.abs(np.log(np.column_stack([found.low, found.high]) / found.value[:, None]))
        known = ends[np.isfinite(ends).all(axis=1)]
        return float(np.expm1(np.median(known.mean(axis=1)))) if len(known) else float("nan")

    def design(self, X: pd.DataFrame, n_cells: int) -> NDArray[np.intp]:
        closed = self._closed_alone(X)
        if closed is not None:
            return closed.design(X, n_cells)
        if self.percentiles_ is not None and not (load_kind_of(X) == OPEN).any():
            return self.percentiles_.mean.design(X, n_cells)
        return anchors(X, n_cells)

    def joint(self, X: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
        """As `fewmark.models.base.JointModel.joint`; nothing (NaN) of open loops."""
        if self.percentiles_ is not None:
            return self.percentiles_.joint(X)
        if self.closed_ is None:
            return np.full(len(X), np.nan), np.eye(len(X)), np.zeros(len(X))
        mean, covariance, noise = self.closed_.joint(X)
        return np.where(load_kind_of(X) == OPEN, np.nan, mean), covariance, noise

    def to_state(self) -> tuple[State, Arrays]:
        if self.percentiles_ is not None:
            state, arrays = self.percentiles_.to_state()
            return {"percentiles": state, "target": self.target}, arrays
        if self.open_ is None:
            return self._closed().to_state()
        own, mine = self.open_.to_state()
        state, arrays = ({}, {}) if self.closed_ is None else self.closed_.to_state()
        opened = {"target": self.target, "random_state": self.random_state, **own}
        return {**state, "open": opened}, arrays | {f"open/{name}": values for name, values in mine.items()}

    @classmethod
    def from_state(cls, state: State, arrays: Arrays) -> Self:
        if "percentiles" in state:
            model = cls(target=text(state, "target"))
            model.percentiles_ = Percentiles(model.target, model._of_mean).restore(
                part(state, "percentiles"), arrays, cls
            )
            return model
        rest = {name: value for name, value in state.items() if name != "open"}
        if rest or "open" not in state:
            closed = AutoModel.from_state(rest, {n: a for n, a in arrays.items() if not n.startswith("open/")})
            model = cls(**closed.get_params())
            model.closed_, model.n_public_cells_ = closed, closed.n_public_cells_
        else:
            opened = part(state, "open")
            model = cls(target=text(opened, "target"), random_state=whole(opened, "random_state"))
        if "open" in state:
            model.open_ = OpenLoops(model.target, model.random_state).restore(
                part(state, "open"), arrays_under("open", arrays)
            )
        return model

    @property
    def is_cacheable(self) -> bool:
        plain = self.open_ is None and self.target not in PERCENTILE_METRICS
        return plain and self._closed().is_cacheable

    def n_worked_out(self) -> int:
        return self._closed().n_worked_out()

    def worked_out(self) -> Arrays:
        return self._closed().worked_out()

    def recall(self, arrays: Arrays) -> None:
        self._closed().recall(arrays)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _closed(self) -> AutoModel:
        """The model of batches and closed loops; where there is none yet, an unfitted one, which will say so."""
        return self._make_closed() if self.closed_ is None else self.closed_

    def _closed_alone(self, X: pd.DataFrame) -> AutoModel | None:
        """The model of batches and closed loops, where it answers all of X."""
        if self.percentiles_ is not None:
            return None
        if self.closed_ is None:
            return self._closed() if self.open_ is None else None
        return None if (load_kind_of(X) == OPEN).any() else self.closed_

    def _make_closed(self) -> AutoModel:
        return AutoModel(**self.get_params())

    def _of_mean(self, target: str) -> Model:
        return type(self)(**{**self.get_params(), "target": target})


def _put(out: Answers, rows: NDArray[np.intp], part: Answers) -> None:
    for item in fields(Answers):
        whole, some = getattr(out, item.name), getattr(part, item.name)
        if isinstance(whole, list):
            for row, value in zip(rows.tolist(), some, strict=True):
                whole[row] = value
        else:
            whole[rows] = some


def _silence(out: Answers, rows: NDArray[np.intp], reason: str) -> None:
    for row in rows.tolist():
        out.abstained[row] = reason
