"""The space that the annealing walks in: subsets of the (ii, oo, bb) values of a dataset, and the error of each.

Notation (the ALA paper's symbols: arXiv 2505.09319, Section II-E)
    D        N rows (ii, oo, bb, thpt), of one deployment or of several
    S        a subset: the values of ii, oo and bb that may be trained on, as a boolean vector over all values of D in
             the order ii, oo, bb. The training rows are those of D whose three values are all in S, the rest is left
             out
    E        the error of S: train Algorithms 2-4 on the training rows, predict what is left out, score it
    curve    a (deployment, ii, oo) of D: K of them; U batch sizes

Evaluating one S the plain way refits every curve and every tree. But what a curve's parameters are depends only on
which batch sizes are in S, and what the learner learns only on that and on which pairs are in S; both are remembered.
What is not yet known is computed for many subsets and all deployments in one pass (see `exponential` and
`ala_trees`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewmark.core.errors import InputError
from fewmark.core.json_types import Json
from fewmark.models.ala.batched_trees import MAX_POINTS, boost, distinct_orders
from fewmark.models.ala.curve import SaturationFits, fit_saturation, group_rows, saturation
from fewmark.models.ala.parameters import Learner, fit_learner, pair_features
from fewmark.models.ala.validation import AlaInputError, check_positive
from fewmark.tables.arrays import BoolArray, FloatArray

Scorer = Callable[[FloatArray, FloatArray], float]
_FITS_AHEAD: Final = 8192
_LEARNED_AHEAD: Final = 2048
OUTCOMES: Final = ("ok", "nothing-left-out", "nothing-to-train-on", "no-fit-converged")


def median_percentage_error(y_true: FloatArray, y_pred: FloatArray) -> float:
    """The median of |prediction - truth| / truth, in percent."""
    return float(np.median(np.abs(y_pred - y_true) / y_true) * 100)


def mean_percentage_error(y_true: FloatArray, y_pred: FloatArray) -> float:
    """The mean of |prediction - truth| / truth (MAPE), in percent."""
    return float(np.mean(np.abs(y_pred - y_true) / y_true) * 100)


def find_scorer(scoring: str | Scorer) -> Scorer:
    """A function (y_true, y_pred) -> error, lower is better: ``median_ape``, ``mape``, any such function, or the name
    of a scikit-learn scorer of predictions (its loss is minimised). Raises `InputError` on an unknown name."""
    if callable(scoring):
        return scoring
    own = {"median_ape": median_percentage_error, "mape": mean_percentage_error}
    if scoring in own:
        return own[scoring]
    from sklearn.metrics import get_scorer

    try:
        found = get_scorer(scoring)
    except ValueError:
        raise InputError(
            "unknown scoring", got=scoring, hint="median_ape, mape, a scikit-learn scorer's name, or a function"
        ) from None
    return _Loss(found._score_func, found._sign, found._kwargs)


@dataclass(frozen=True)
class _Loss:
    function: Callable[..., float]
    sign: int
    options: dict[str, Json]

    def __call__(self, y_true: FloatArray, y_pred: FloatArray) -> float:
        return float(-self.sign * self.function(y_true, y_pred, **self.options))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The error of one subset (infinite unless `outcome` is "ok") and how many rows were trained on and left out."""

    error: float
    n_train: int
    n_left_out: int
    outcome: str


_Key = tuple[int, bytes, bytes]  # a deployment, which of its curves T holds, the batch sizes they were fitted on


def _choices(n: int) -> BoolArray:
    """All subsets of n things, shape (2**n, n), the empty one first, the whole last."""
    return (np.arange(1 << n)[:, None] >> np.arange(n) & 1).astype(bool)


class SubsetSpace:
    """Every subset of a dataset, and its error.

    Parameters
    ----------
    X : array (N, 3)
        Columns ii, oo, bb.
    y : array (N,)
        Throughput, above 0.
    deployment : int array (N,), optional
        Which deployment each row belongs to; curves and learners are fitted for each by itself (Algorithm 4).
    scoring : str or function
        As `find_scorer` takes it.
    learner : None or scikit-learn regressor
        As `ParameterModels` takes it.
    fitting : str
        As `fit_saturation` takes it.

    Raises
    ------
    AlaInputError
        If shapes or values are wrong.
    """

    def __init__(
        self,
        X: FloatArray,
        y: FloatArray,
        deployment: NDArray[np.intp] | None = None,
        *,
        scoring: str | Scorer = "median_ape",
        learner: Learner | None = None,
        fitting: str = "optimum",
    ) -> None:
        X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
        if X.ndim != 2 or X.shape[1] != 3 or y.shape != (len(X),) or not len(X):
            raise AlaInputError("X must have columns ii, oo, bb and y one value a row", got=f"{X.shape} and {y.shape}")
        if not (np.isfinite(X).all() and (X >= 0).all()):
            raise AlaInputError("ii, oo and bb must be finite and not negative", got=X[~(X >= 0).all(axis=1)][:1])
        check_positive(y)
        groups = np.zeros(len(X), dtype=np.intp) if deployment is None else np.asarray(deployment)
        if groups.shape != (len(X),):
            raise AlaInputError("deployment must have one entry a row", got=groups.shape)
        _, groups = np.unique(groups, return_inverse=True)
        self.y, self.scorer, self.learner, self.fitting = y, find_scorer(scoring), learner, fitting
        self.values: tuple[FloatArray, ...] = tuple(np.unique(X[:, j]) for j in range(3))
        sizes = [len(values) for values in self.values]
        self.bounds = np.cumsum([0, *sizes])
        ii, oo, bb = (np.searchsorted(self.values[j], X[:, j]) for j in range(3))
        curves, self._row_curve = np.unique(np.column_stack([groups, ii, oo]), axis=0, return_inverse=True)
        self._row_curve = self._row_curve.ravel()
        self._curve_group, self._curve_ii, self._curve_oo = curves.T
        self._row_bit = np.column_stack([ii, self.bounds[1] + oo, self.bounds[2] + bb])
        self._row_bb = bb
        self._group_starts = np.searchsorted(self._curve_group, np.arange(groups.max() + 1))
        pairs, self._curve_pair = np.unique(curves[:, 1:], axis=0, return_inverse=True)
        self._curve_pair = self._curve_pair.ravel()
        self._features = pair_features(np.column_stack([self.values[0][pairs[:, 0]], self.values[1][pairs[:, 1]]]))
        self._orders = distinct_orders(self._features) if learner is None and len(pairs) <= MAX_POINTS else None
        x, mean, count = group_rows(bb.astype(float), y, self._row_curve, len(curves))
        self._mean, self._count = np.zeros((2, len(curves), sizes[2]))
        at = np.nonzero(count)
        self._mean[at[0], x[at].astype(int)] = mean[at]
        self._count[at[0], x[at].astype(int)] = count[at]
        self._fits: dict[bytes, SaturationFits] = {}
        self._learned: dict[tuple[int, bytes, bytes], FloatArray] = {}
        self._evaluated: dict[bytes, Evaluation] = {}
        self.n_evaluations = 0  # subsets computed, each once

    @property
    def n_values(self) -> int:
        """Length of a subset's vector."""
        return int(self.bounds[-1])

    @property
    def cheap_together(self) -> bool:
        """Whether many subsets cost little more than one, so that evaluating neighbours ahead pays."""
        return self._orders is not None

    def knows(self, subset: BoolArray) -> bool:
        """Whether the subset has been evaluated."""
        return subset.tobytes() in self._evaluated

    def parts(self, subset: BoolArray) -> tuple[BoolArray, BoolArray, BoolArray]:
        """The subset's vectors over the values of ii, oo and bb."""
        first, second, third = (subset[self.bounds[j] : self.bounds[j + 1]] for j in range(3))
        return first, second, third

    def subset(self, ii: ArrayLike, oo: ArrayLike, bb: ArrayLike) -> BoolArray:
        """The vector of a subset given by its values. Raises `AlaInputError` on a value that D does not have."""
        chosen = [np.atleast_1d(np.asarray(part, dtype=float)) for part in (ii, oo, bb)]
        for name, wanted, known in zip(("ii", "oo", "bb"), chosen, self.values, strict=True):
            unknown = np.setdiff1d(wanted, known)
            if unknown.size or not wanted.size:
                raise AlaInputError(
                    f"a subset names at least one {name}, and only values that the data have",
                    got=unknown.tolist() or "none",
                    hint=f"one of {', '.join(f'{value:g}' for value in known)}",
                )
        return np.concatenate([np.isin(known, wanted) for known, wanted in zip(self.values, chosen, strict=True)])

    def evaluate(self, subset: BoolArray) -> Evaluation:
        """The error of one subset."""
        return self.evaluate_all(subset[None])[0]

    def evaluate_all(self, subsets: BoolArray) -> list[Evaluation]:
        """The errors of subsets (n, n_values), those not yet known computed together."""
        keys = [subset.tobytes() for subset in subsets]
        missing = [i for i, key in enumerate(dict.fromkeys(keys)) if key not in self._evaluated]
        if missing:
            unique = np.frombuffer(b"".join(dict.fromkeys(keys)), dtype=bool).reshape(-1, self.n_values)[missing]
            self.n_evaluations += len(unique)
            self._learn(unique)
            for subset in unique:
                self._evaluated[subset.tobytes()] = self._score(subset)
        return [self._evaluated[key] for key in keys]

    def predict(self, subset: BoolArray) -> tuple[BoolArray, FloatArray]:
        """Which rows the subset trains on, and every row's prediction (NaN where nothing can be said), shapes
        (N,)."""
        self._learn(subset[None])
        train = subset[self._row_bit].all(axis=1)
        known, bb, fits = self._trained(subset)
        parameters = np.full((len(known), 3), np.nan)
        for group, curves, mask in self._problems(subset):
            if mask.any():
                learned = self._learned.get((group, mask.tobytes(), bb))
                if learned is not None:
                    parameters[curves] = learned[self._curve_pair[curves]]
        parameters[known] = fits.parameters[known]
        a, b, c = parameters[self._row_curve].T
        return train, saturation(self.values[2][self._row_bb], a, b, c)

    def _score(self, subset: BoolArray) -> Evaluation:
        train = subset[self._row_bit].all(axis=1)
        n_train = int(train.sum())
        n_left_out = len(train) - n_train

        def fails(outcome: str) -> Evaluation:
            return Evaluation(np.inf, n_train, n_left_out, outcome)

        if not n_left_out:
            return fails("nothing-left-out")
        if not n_train:
            return fails("nothing-to-train-on")
        if not self._trained(subset)[0].any():
            return fails("no-fit-converged")
        _, prediction = self.predict(subset)
        # A deployment that S does not touch cannot be predicted: silence counts as an answer of 0, an error of 100%.
        prediction = np.where(np.isnan(prediction), 0.0, prediction)
        return Evaluation(self.scorer(self.y[~train], prediction[~train]), n_train, n_left_out, "ok")

    def _trained(self, subset: BoolArray) -> tuple[BoolArray, bytes, SaturationFits]:
        """Which curves the database P holds, the key of the batch sizes, and their fits."""
        ii, oo, bb = self.parts(subset)
        key = bb.tobytes()
        fits = self._fits.get(key)
        if fits is None:
            fits = self._fit(bb)
        return ii[self._curve_ii] & oo[self._curve_oo] & fits.successful, key, fits

    def _fit(self, bb: BoolArray) -> SaturationFits:
        """Fit every curve on these batch sizes, and where that is little work at once on every other choice of
        them."""
        n_curves, n_batches = self._count.shape
        masks = bb[None]
        if n_curves << n_batches <= _FITS_AHEAD:
            masks = _choices(n_batches)[1:]
        x = np.broadcast_to(self.values[2], (len(masks) * n_curves, n_batches))
        counts = (masks[:, None, :] * self._count).reshape(x.shape)
        fits = fit_saturation(x, np.tile(self._mean, (len(masks), 1)), counts, fitting=self.fitting)
        for number, mask in enumerate(masks):
            rows = slice(number * n_curves, (number + 1) * n_curves)
            self._fits[mask.tobytes()] = SaturationFits(fits.a[rows], fits.b[rows], fits.c[rows], fits.status[rows])
        return self._fits[bb.tobytes()]

    def _problems(self, subset: BoolArray) -> list[tuple[int, slice, BoolArray]]:
        """For each deployment its curves and which of them T holds."""
        known = self._trained(subset)[0]
        ends = np.append(self._group_starts[1:], len(known))
        return [
            (group, slice(start, end), known[start:end])
            for group, (start, end) in enumerate(zip(self._group_starts, ends, strict=True))
        ]

    def _learn(self, subsets: BoolArray) -> None:
        """Learn Algorithm 3's model for every deployment of every subset, where not yet known and needed."""
        wanted: dict[_Key, tuple[slice, BoolArray, SaturationFits]] = {}
        for subset in subsets:
            _, bb, fits = self._trained(subset)
            for group, curves, mask in self._problems(subset):
                key = (group, mask.tobytes(), bb)
                if mask.any() and not mask.all() and key not in self._learned:
                    wanted[key] = (curves, mask, fits)
        if not wanted:
            return
        if not self._learned:
            wanted |= self._everything()
        n_pairs = len(self._features)
        train = np.zeros((len(wanted), n_pairs), dtype=bool)
        targets = np.zeros((len(wanted), 3, n_pairs))
        for row, (curves, mask, fits) in enumerate(wanted.values()):
            pairs = self._curve_pair[curves][mask]
            train[row, pairs] = True
            targets[row][:, pairs] = fits.parameters[curves][mask].T
        if self._orders is not None:
            learned = boost(self._orders, np.repeat(train, 3, axis=0), targets.reshape(-1, n_pairs))
            learned = learned.reshape(len(wanted), 3, n_pairs)
        else:
            learned = np.stack([self._learn_one(train[row], targets[row]) for row in range(len(wanted))])
        for row, key in enumerate(wanted):
            self._learned[key] = learned[row].T

    def _everything(self) -> dict[_Key, tuple[slice, BoolArray, SaturationFits]]:
        """Every set of curves on every choice of batch sizes, where there are few: all at once cost less than one by
        one."""
        n_batches = len(self.values[2])
        ends = np.append(self._group_starts[1:], len(self._curve_pair))
        sizes = ends - self._group_starts
        if self._orders is None or n_batches + sizes.max() > 20:
            return {}
        if ((1 << sizes) << n_batches).sum() > _LEARNED_AHEAD:
            return {}
        out: dict[_Key, tuple[slice, BoolArray, SaturationFits]] = {}
        nothing = np.zeros(self.n_values - n_batches, dtype=bool)
        for bb in _choices(n_batches)[1:]:
            _, key, fits = self._trained(np.concatenate([nothing, bb]))
            for group, (start, end) in enumerate(zip(self._group_starts, ends, strict=True)):
                successful = fits.successful[start:end]
                for mask in _choices(end - start)[1:-1]:
                    if not (mask & ~successful).any():
                        out[group, mask.tobytes(), key] = (slice(start, end), mask, fits)
        return out

    def _learn_one(self, train: BoolArray, targets: FloatArray) -> FloatArray:
        model = fit_learner(self._features[train], targets[:, train].T, self.learner)
        return np.asarray(model.predict(self._features), dtype=float).T
