"""What every model can do.

Notation: n rows (cells), X a table of cells with the canonical case columns
(`fewmark.core.columns.CASE_COLUMNS`, unknown = NaN/None; ``option.*`` and ``workload.*`` columns count too),
y (n,) the target's values in the unit of its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Protocol, Self, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.metrics import ALL_TARGETS
from fewmark.models.state import Arrays, State
from fewmark.tables.arrays import AnyArray, FloatArray
from fewmark.tables.identity import cell_columns
from fewmark.tables.precision import INTERVAL


@dataclass(frozen=True, eq=False)
class Answers:
    """What a fitted model says of n cells.

    Attributes
    ----------
    value, low, high : (n,) float
        The prediction and the ends of its interval, in the target's unit; NaN where the model abstains.
    provenance : (n,) str
        One of `fewmark.core.values.PREDICTION_PROVENANCES`.
    similarity : (n,) float
        How like the learned cells each is, in [0, 1]: a similarity, no probability.
    abstained : list of str
        The reason for abstaining; empty where the model answers.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    provenance: NDArray[np.str_]
    similarity: FloatArray
    abstained: list[str]

    def columns(self) -> dict[str, AnyArray | list[str]]:
        """The answers by their names, as columns of a table."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


ANSWER_COLUMNS: Final = tuple(item.name for item in fields(Answers))


class Model(ABC):
    """A predictor of one metric over cells, scikit-learn style: the constructor stores, `fit` learns.

    Parameters
    ----------
    target : str, default "throughput_tok_s"
        The metric; one of `fewmark.core.metrics.ALL_TARGETS`.
    random_state : int, default 0
        Seed of everything random.
    """

    name: ClassVar[str]
    pools_deployments: ClassVar[bool] = False  # whether other deployments' cells inform a deployment's prediction
    uses_metrics: ClassVar[bool] = False  # whether `fit` learns from columns of X named after other metrics, too
    uses_prior: ClassVar[bool] = False  # whether its constructor takes `prior`: join what public measurements teach
    n_public_cells_: int = 0  # how many public cells joined what was learned
    notes_: tuple[str, ...] = ()  # what was done to the measurements before they were learned
    deployments_: tuple[dict[str, object], ...] = ()  # those that were learned, by their columns, where a file tells

    def __init__(self, *, target: str = "throughput_tok_s", random_state: int = 0) -> None:
        self.target = target
        self.random_state = random_state

    def get_params(self) -> dict[str, Any]:
        """The constructor's parameters by name, as scikit-learn's estimators give them."""
        return {name: value for name, value in vars(self).items() if not name.endswith("_") and name[0] != "_"}

    @abstractmethod
    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn from measured cells. Rows may repeat a cell; y must be finite and positive (`ModelError` if not)."""

    def refit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Learn again from X, which holds what was learned from before and a few cells more.

        A model may keep what does not change with a few cells; by default everything is learned anew.
        """
        return self.fit(X, y)

    def for_target(self, target: str) -> Self | None:
        """This fitted model for another metric of the same cells, where what was learned tells of it; else None."""
        return self if target == self.target else None

    def answer(self, X: pd.DataFrame, confidence_level: float = 0.9) -> Answers:
        """Everything that the fitted model says of the rows of X, asked at once; intervals hold `confidence_level`."""
        ends = self.predict_interval(X, confidence_level)
        return Answers(
            value=self.predict(X),
            low=ends[:, 0],
            high=ends[:, 1],
            provenance=self.provenance(X),
            similarity=self.similarity(X),
            abstained=self.abstentions(X),
        )

    @abstractmethod
    def predict(self, X: pd.DataFrame) -> FloatArray:
        """The target's predicted values, shape (n,); NaN where the model abstains."""

    @abstractmethod
    def predict_interval(self, X: pd.DataFrame, confidence_level: float = 0.9) -> FloatArray:
        """The ends of the prediction intervals, shape (n, 2); NaN where the model abstains."""

    @abstractmethod
    def provenance(self, X: pd.DataFrame) -> NDArray[np.str_]:
        """Where each prediction comes from: one of `fewmark.core.values.PREDICTION_PROVENANCES`, shape (n,)."""

    @abstractmethod
    def similarity(self, X: pd.DataFrame) -> FloatArray:
        """How like the learned cells each row is, in [0, 1], shape (n,): a similarity, no probability."""

    @abstractmethod
    def abstentions(self, X: pd.DataFrame) -> list[str]:
        """The reason for abstaining on each row; empty where the model answers."""

    @abstractmethod
    def forecast_error(self, X: pd.DataFrame) -> float:
        """A forecast of the median absolute percentage error over the rows of X, a fraction, before any is checked."""

    @abstractmethod
    def design(self, X: pd.DataFrame, n_cells: int) -> NDArray[np.intp]:
        """Which `n_cells` rows of X (cells of new deployments, each deployment by itself) to measure first.

        Called on a fitted model (on whatever else is known) and without any value of these deployments.
        For each deployment in X, `n_cells` row positions; all positions in one array.
        """

    @property
    def is_cacheable(self) -> bool:
        """Whether it is worth keeping between processes (`fewmark.models.cache`), and can be kept as it is."""
        return False

    def n_worked_out(self) -> int:
        """How much of `worked_out` there is."""
        return 0

    def worked_out(self) -> Arrays:
        """What answering has worked out so far that later answers need again."""
        return {}

    def recall(self, arrays: Arrays) -> None:  # noqa: B027  nothing to recall is fine
        """Take over what the same fitted model has `worked_out` elsewhere."""

    @abstractmethod
    def to_state(self) -> tuple[State, Arrays]:
        """The fitted model as JSON-ready values and arrays (data only, no code)."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: State, arrays: Arrays) -> Self:
        """The fitted model behind `to_state`. Raises `ModelError` on what it does not know."""


@runtime_checkable
class JointModel(Protocol):
    """A model that knows how its errors hang together (optional; `auto` does)."""

    def joint(self, X: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean (n,) and covariance (n, n) of the log of the target without noise; a measurement's noise, sd (n,)."""


def learned_columns(X: pd.DataFrame, model: Model) -> list[str]:
    """The columns of X that a model is given to learn from: those of the cells, and metrics where it uses them, with
    what is known of their error."""
    metrics = [name for name in map(str, X) if name in (*ALL_TARGETS, *INTERVAL)] if model.uses_metrics else []
    return [*cell_columns(X), *metrics]
