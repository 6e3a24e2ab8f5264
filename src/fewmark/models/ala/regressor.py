"""ALA, an analytical model with learning augmentation: exponential saturation per pair, learned parameters elsewhere.

Notation (the ALA paper's symbols: arXiv 2505.09319, Algorithms 2-5; a, b, c and their fit in `exponential`)
    ii, oo, bb   ``input_tokens``, ``output_tokens``, ``batch_size`` (or ``concurrency``); thpt the throughput
    C            the deployments: unique combinations of what describes one (Algorithm 4)
    P            database: (deployment, ii, oo) -> (a, b, c) where the fit was successful
    T, M         the same as rows, and the model learned from them (see `ala_parameters`)

A measured pair is predicted by its own curve, any other by the curve whose parameters M predicts (Algorithm 5). With
no successful fit there is no M, and nothing is predicted.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from fewmark.core.errors import ModelError
from fewmark.models.ala.curve import SaturationFits, fit_saturation, group_rows, saturation
from fewmark.models.ala.parameters import Learner, ParameterModels
from fewmark.models.ala.validation import AlaInputError, asked_about, learned_from, unique_rows
from fewmark.models.state import Arrays, State, floats, real, table, text, whole
from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.cells import Cells, curve_codes, read_cells
from fewmark.tables.columns import tidy
from fewmark.tables.identity import deployment_columns

if TYPE_CHECKING:
    from sklearn.utils import Tags

_FLOOR = 0.01  # of the least throughput learned: no prediction falls below, since none can be 0 or less


@dataclass(frozen=True)
class CurveTable:
    """P for several deployments at once: K curves, sorted by deployment, then pair. Source: ALA, Algorithms 2 and 4."""

    group: IntArray
    pairs: FloatArray
    fits: SaturationFits

    @classmethod
    def build(cls, group: IntArray, pairs: FloatArray, bb: FloatArray, thpt: FloatArray, fitting: str) -> CurveTable:
        """Fit a curve to every (deployment, pair) of rows (n,), (n, q), (n,), (n,)."""
        keys, curve = np.unique(np.column_stack([group, pairs]), axis=0, return_inverse=True)
        fits = fit_saturation(*group_rows(bb, thpt, curve.ravel(), len(keys)), fitting=fitting)
        return cls(group=keys[:, 0].astype(np.intp), pairs=keys[:, 1:], fits=fits)

    def learn(self, learner: Learner | None) -> ParameterModels:
        """M for every deployment, from T. Source: ALA, Algorithms 3 and 4."""
        good = self.fits.successful
        return ParameterModels(learner).fit(self.group[good], self.pairs[good], self.fits.parameters[good])

    def predict(self, models: ParameterModels, group: IntArray, pairs: FloatArray, bb: FloatArray) -> FloatArray:
        """Throughput of rows; NaN for deployments without a successful fit. Source: ALA, Algorithm 5."""
        known_rows = np.column_stack([self.group, self.pairs])
        every = np.vstack([known_rows, np.column_stack([group, pairs])])
        first, row = unique_rows(every)
        asked = every[first]
        curve = np.full(len(asked), -1)
        curve[row[: len(known_rows)]] = np.arange(len(known_rows))
        row, known = row[len(known_rows) :], curve >= 0
        known[known] = self.fits.successful[curve[known]]
        parameters = np.empty((len(asked), 3))
        parameters[known] = self.fits.parameters[curve[known]]
        parameters[~known] = models.predict(asked[~known, 0].astype(np.intp), asked[~known, 1:])
        a, b, c = parameters[row].T
        return saturation(bb, a, b, c)


class AlaRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """ALA's core for one deployment. Source: ALA, Algorithms 2, 3 and 5.

    Parameters
    ----------
    learner : None or scikit-learn regressor, default None
        What predicts the parameters of unseen pairs: XGBoost with its defaults, one model a parameter, or clones of
        this.
    fitting : {"optimum", "line", "search"}, default "optimum"
        How a pair's curve is fitted, and what becomes of one that does not saturate (see `exponential`): with
        "optimum" it is not stored, as the paper has it for a fit that is not successful.

    Attributes
    ----------
    pairs_ : array (K, 2)
        The measured pairs, sorted.
    parameters_ : array (K, 3)
        Their a, b, c; NaN where the fit was not successful.
    statuses_ : str array (K,)
        How each fit ended (`exponential.STATUSES`).

    Examples
    --------
    >>> import numpy as np
    >>> from fewmark.models.ala.regressor import AlaRegressor
    >>> X = np.array([(128, 128, bb) for bb in (1, 2, 4, 8, 16, 32)])
    >>> y = 1000 * (1 - np.exp(-X[:, 2] / 10))
    >>> bool(np.allclose(AlaRegressor().fit(X, y).predict(X), y, rtol=0.01))
    True
    """

    def __init__(self, *, learner: Learner | None = None, fitting: str = "optimum") -> None:
        self.learner = learner
        self.fitting = fitting

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from X (n, 3) with the columns ii, oo, bb, and throughputs y (n,).

        The last column is the load; what stands before it describes the request, two columns in the paper.

        Raises
        ------
        AlaInputError
            If a value is not finite, a throughput not positive, an entry of X negative, or there are fewer than 2
            columns.
        ModelError
            If no fit is successful.
        """
        X, y = learned_from(self, X, y)
        if X.shape[1] < 2:
            raise AlaInputError("X needs the columns ii, oo, bb", got=f"X with {X.shape[1]} feature(s)")
        group = np.zeros(len(X), dtype=np.intp)
        self.database_ = CurveTable.build(group, X[:, :-1], X[:, -1], y, self.fitting)
        if not self.database_.fits.successful.any():
            raise ModelError(
                "no pair's saturation fit was successful: throughput does not saturate within these batch sizes",
                got=f"{len(self.database_.group)} pair(s)",
                hint='measure larger batch sizes, or take fitting="line"',
            )
        self.models_ = self.database_.learn(self.learner)
        self.pairs_, self.statuses_ = self.database_.pairs, self.database_.fits.status
        self.parameters_ = self.database_.fits.parameters
        return self

    def predict(self, X: ArrayLike) -> FloatArray:
        """Throughput at X (n, 3); shape (n,)."""
        check_is_fitted(self)
        X = asked_about(self, X)
        return self.database_.predict(self.models_, np.zeros(len(X), dtype=np.intp), X[:, :-1], X[:, -1])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.target_tags.positive_only = True
        tags.regressor_tags.poor_score = True
        return tags


class AlaModel:
    """ALA's core for every deployment of a table, as a point predictor. Source: ALA, Algorithms 2-5.

    A deployment's batch sizes and its concurrencies are two sets of curves. ALA models throughput: an end-to-end
    latency is predicted by way of the throughput that it implies, loads times output tokens over latency; TTFT and
    TPOT have no such way and get curves of their own, nearly straight ones where they do not saturate.

    Parameters
    ----------
    target : str
    random_state : int
        Unused; every model has it.
    fitting : {"optimum", "line", "search"}, optional
        As for `AlaRegressor`; "line" by default for TTFT and TPOT, else "optimum".

    Examples
    --------
    >>> from fewmark import datasets
    >>> from fewmark.models.registry import make_model
    >>> table = datasets.example()
    >>> from fewmark.models.ala.regressor import AlaModel
    >>> AlaModel().fit(table, table["throughput_tok_s"]).predict(table).shape
    (24,)
    """

    pools_deployments: ClassVar[bool] = False

    def __init__(self, *, target: str = "throughput_tok_s", random_state: int = 0, fitting: str | None = None) -> None:
        self.target = target
        self.random_state = random_state
        self.fitting = fitting

    def fit(self, X: pd.DataFrame, y: FloatArray) -> Self:
        """Fit every pair's curve and learn its parameters, deployment by deployment."""
        cells = read_cells(X)
        thpt = self._convert(np.asarray(y, dtype=float), cells)
        fitting = self.fitting or ("line" if self.target in ("ttft_s", "tpot_s") else "optimum")
        self.deployments_ = cells.deployments
        self.database_ = CurveTable.build(_kinds(cells), _pairs(cells), cells.load, thpt, fitting)
        self.floor_ = float(thpt.min()) * _FLOOR
        self.models_ = self.database_.learn(None)
        return self

    def predict(self, X: pd.DataFrame) -> FloatArray:
        """Values of shape (n,); NaN for deployments of which no fit was successful."""
        cells = read_cells(X)
        names = list(dict.fromkeys([*deployment_columns(self.deployments_), *deployment_columns(cells.deployments)]))
        table = pd.concat([self.deployments_.reindex(columns=names), cells.deployments.reindex(columns=names)])
        known = {key: code for code, key in enumerate(_keys(table)[: len(self.deployments_)])}
        codes = np.array([known.get(key, -1) for key in _keys(table)[len(self.deployments_) :]], dtype=np.intp)
        kind = np.where(codes[cells.deployment] < 0, -1, curve_codes(codes[cells.deployment], cells.kind))
        value = self.database_.predict(self.models_, kind, _pairs(cells), cells.load)
        return self._convert(np.maximum(value, self.floor_), cells)

    def to_state(self) -> tuple[State, Arrays]:
        """The database; what is learned from it follows."""
        table = self.deployments_.astype(object).where(self.deployments_.notna(), None)
        state: State = {
            "target": self.target,
            "random_state": self.random_state,
            "fitting": self.fitting,
            "floor": self.floor_,
            "n_deployments": len(table),
            "deployments": {str(name): table[name].tolist() for name in table},
        }
        database = self.database_
        return state, {
            "group": database.group,
            "pairs": database.pairs,
            "parameters": database.fits.parameters,
            "status": database.fits.status,
        }

    @classmethod
    def from_state(cls, state: State, arrays: Arrays) -> Self:
        """The model behind `to_state`. Raises `ModelError` if the arrays do not fit together."""
        model = cls(
            target=text(state, "target"),
            random_state=whole(state, "random_state"),
            fitting=None if state["fitting"] is None else text(state, "fitting"),
        )
        parameters, pairs = floats(arrays, "parameters"), floats(arrays, "pairs")
        if parameters.shape != (len(arrays["group"]), 3) or pairs.shape != (len(parameters), 2):
            raise ModelError("the saved ala is damaged", got=f"parameters of shape {parameters.shape}")
        model.deployments_ = tidy(table(state, "deployments", whole(state, "n_deployments")))
        model.floor_ = real(state, "floor")
        a, b, c = parameters.T
        fits = SaturationFits(a=a, b=b, c=c, status=arrays["status"].astype(np.str_))
        model.database_ = CurveTable(group=arrays["group"].astype(np.intp), pairs=pairs, fits=fits)
        model.models_ = model.database_.learn(None)
        return model

    def _convert(self, value: FloatArray, cells: Cells) -> FloatArray:
        """Between target and throughput; its own inverse."""
        return cells.load * cells.output_tokens / value if self.target == "e2e_latency_s" else value


def _kinds(cells: Cells) -> IntArray:
    return cells.curve


def _pairs(cells: Cells) -> FloatArray:
    return np.column_stack([cells.input_tokens, cells.output_tokens])


def _keys(table: pd.DataFrame) -> list[tuple[Hashable, ...]]:
    plain = table.astype(object).where(table.notna(), None)
    return list(plain.itertuples(index=False, name=None))
