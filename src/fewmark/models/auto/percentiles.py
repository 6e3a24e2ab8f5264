"""Percentiles over requests: the mean as `auto` predicts it, and the tail over it (`fewmark.models.auto.tails`).

All percentiles of a metric share one mean and one tail, so that p50 ≤ p90 ≤ p95 ≤ p99 in every cell. Cells of which
only the mean is known teach the mean; where no percentile is known of a deployment, its tail is that of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit as student_quantile

from fewmark.core.errors import ModelError
from fewmark.core.metrics import PERCENTILE_METRICS, PERCENTS
from fewmark.models.auto.tails import PRIOR_CELLS, Tail, known_of
from fewmark.models.base import Answers, JointModel, Model
from fewmark.models.state import Arrays, State, part, under
from fewmark.tables.arrays import FloatArray
from fewmark.tables.columns import numbers_of


class Percentiles:
    """One percentile of a metric, over a model of the metric's mean.

    Parameters
    ----------
    target : str
        The percentile, such as ``ttft_p99_s``.
    make : callable
        Makes an unfitted model of the mean from the metric's name.
    """

    def __init__(self, target: str, make: Callable[[str], Model]) -> None:
        self.target = target
        self.base, percent = PERCENTILE_METRICS[target]
        self.place = PERCENTS.index(percent)
        self.make = make

    def fit(self, X: pd.DataFrame, y: FloatArray, *, before: Percentiles | None = None) -> Self:
        """Learn from cells; y (n,) may be unknown (NaN) where X has the mean or another percentile of the metric.

        Raises
        ------
        ModelError
            If nothing is known of the metric.
        """
        known = known_of(X, self.base)
        values = np.asarray(y, dtype=float)
        known[self.target] = np.where(values > 0, values, np.nan)
        self.tail = Tail.learn(X, self.base, known)
        mean = self.tail.mean(X, known)
        rows = np.isfinite(mean)
        if not rows.any():
            raise ModelError(f"no cell has {self.target}, another percentile of it, or {self.base}")
        told = X.assign(**{self.base: mean})[rows]
        self.mean: Model = self.make(self.base) if before is None else before.mean
        _ = self.mean.fit(told, mean[rows]) if before is None else self.mean.refit(told, mean[rows])
        return self

    def answer(self, X: pd.DataFrame, confidence_level: float) -> Answers:
        """What is said of the rows of X."""
        found = self.mean.answer(X, confidence_level)
        shares, factor = self.tail.shares(X), self._factor(X, confidence_level)
        with np.errstate(invalid="ignore", divide="ignore"):
            lower, upper = np.log(found.value / found.low), np.log(found.high / found.value)
        value = found.value * np.exp(shares[:, self.place])
        half = np.column_stack([self.tail.deviation(X, place) * factor for place in range(len(PERCENTS))])
        lows = found.value[:, None] * np.exp(shares - np.hypot(lower[:, None], half))
        highs = found.value[:, None] * np.exp(shares + np.hypot(upper[:, None], half))
        seen = self.tail.n_known(X) > 0
        provenance = np.where((found.provenance == "measured") & ~self.tail.has(X), "interpolated", found.provenance)
        provenance = np.where(~seen & (found.provenance != "abstained"), "transferred", provenance)
        provenance = np.where(np.isfinite(value), provenance, "abstained")
        return Answers(
            value=value,
            # no lower than what lower percentiles are at least, nor higher than what higher ones are at most
            low=lows[:, : self.place + 1].max(axis=1),
            high=highs[:, self.place :].min(axis=1),
            provenance=provenance,
            similarity=np.where(seen, found.similarity, 0.5 * found.similarity),
            abstained=found.abstained,
        )

    def joint(self, X: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
        """As `fewmark.models.base.JointModel.joint`: the tail's errors are taken to be independent."""
        assert isinstance(self.mean, JointModel)
        mean, covariance, noise = self.mean.joint(X)
        deviation = self.tail.deviation(X, self.place)
        return mean + self.tail.shares(X)[:, self.place], covariance + np.diag(deviation**2), noise

    def to_state(self) -> tuple[State, Arrays]:
        """The mean's model and the tail, as JSON values and arrays."""
        mean, arrays = self.mean.to_state()
        tail, own = self.tail.to_state()
        merged = {f"mean/{name}": values for name, values in arrays.items()}
        return {"mean": mean, "tail": tail}, merged | {f"tail/{name}": values for name, values in own.items()}

    def restore(self, state: State, arrays: Arrays, cls: type[Model]) -> Self:
        """Take over what `to_state` gave; `cls` is the class of the mean's model."""
        self.mean = cls.from_state(part(state, "mean"), under(arrays, "mean/"))
        self.tail = Tail.from_state(part(state, "tail"), under(arrays, "tail/"))
        return self

    def _factor(self, X: pd.DataFrame, confidence_level: float) -> FloatArray:
        cells = PRIOR_CELLS + self.tail.n_known(X)
        return np.asarray(student_quantile(np.maximum(cells, 3.0), 0.5 + confidence_level / 2))


def is_known(X: pd.DataFrame, target: str) -> NDArray[np.bool_]:
    """Which rows of a table say anything of a percentile's metric, (n,)."""
    base = PERCENTILE_METRICS[target][0]
    found = [*known_of(X, base).values(), numbers_of(X, target)]
    return np.asarray(np.isfinite(np.column_stack(found)).any(axis=1))
