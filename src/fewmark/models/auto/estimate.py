"""What a latency process says of cells, before and after it is turned into the target's values and intervals.

A prediction whose interval is too wide to be of use is none: there is no answer where the ends of the 90% interval are
more than a factor of MAX_SPAN apart, at whatever level an interval is asked for.

Notation: m cells that are asked about; logs are natural.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fewmark.models.auto.conformity_scores import Scores
from fewmark.models.auto.features import Features
from fewmark.tables.arrays import BoolArray, FloatArray

LARGEST_LOG: Final = 700.0  # of an end of an interval: beyond, there is no such number

MAX_SPAN: Final = 20.0
JUDGED_LEVEL: Final = 0.9

Scored = tuple[NDArray[np.intp], Scores, FloatArray]  # rows of a deployment, the scores that apply, octaves beyond


@dataclass(frozen=True, slots=True)
class LatencyEstimate:
    """Log latencies of m cells by one process.

    Attributes
    ----------
    features : Features
        The cells.
    mean, sd : (m,)
        The log latency and its standard deviation, noise included.
    variance : (m,)
        The variance of the latent residual, without noise.
    """

    features: Features
    mean: FloatArray
    sd: FloatArray
    variance: FloatArray


@dataclass(frozen=True, slots=True)
class CalibratedEstimate:
    """Log latencies of m cells with the standard deviations that intervals are made of.

    Attributes
    ----------
    features : Features
        The cells.
    mean, sd : (m,)
        The log latency, and its standard deviation before the scores' factors.
    silent : (m,) bool
        Where the model abstains.
    floor : (m,)
        The log of the least seconds that published facts allow; no end of an interval is below.
    """

    features: Features
    mean: FloatArray
    sd: FloatArray
    silent: NDArray[np.bool_]
    floor: FloatArray

    def values(self) -> FloatArray:
        """The target's values, (m,); NaN where the model abstains."""
        return np.where(self.silent, np.nan, np.exp(self._log_target()))

    def spans_more(self, span: float, scored: Sequence[Scored], extra: float = 0.0) -> BoolArray:
        """Where the ends of the 90% interval are more than this factor apart, (m,).

        The other parameters are those of `intervals`.
        """
        wide = [
            (rows, scores, outside)
            for rows, scores, outside in scored
            if 2 * np.hypot(self.sd[rows].max(initial=0.0) * scores.most(JUDGED_LEVEL), extra) > np.log(span)
        ]
        if not wide:
            return np.zeros(len(self.sd), dtype=bool)
        low, high = self._ends(wide, JUDGED_LEVEL, extra)
        return np.asarray(high - low > np.log(span))

    def silent_where(self, silent: NDArray[np.bool_]) -> CalibratedEstimate:
        """The same, without an answer at these cells (m,) as well."""
        return replace(self, silent=self.silent | silent)

    def intervals(self, scored: Sequence[Scored], confidence_level: float, extra: float = 0.0) -> FloatArray:
        """The ends of intervals for the target, (m, 2); NaN where the model abstains.

        Parameters
        ----------
        scored : the scores for every row
        extra : a half width on the log scale that is added in quadrature
        """
        low, high = self._ends(scored, confidence_level, extra)
        table = self.features
        ends = np.column_stack([table.sign * (end - table.to_latency) for end in (low, high)])
        ends = np.exp(np.clip(np.sort(ends, axis=1), -LARGEST_LOG, LARGEST_LOG))
        ends[self.silent] = np.nan
        return ends

    def forecast(self, scored: Sequence[Scored]) -> float:
        """The forecast of the median error over the answered cells; NaN where there are none."""
        errors, weights = [], []
        for rows, scores, outside in scored:
            answered = ~self.silent[rows]
            if answered.any():
                error, weight = scores.median_error(np.log(self.sd[rows][answered]), outside[answered])
                errors.append(error.ravel())
                weights.append(weight.ravel())
        if not errors:
            return float("nan")
        error, weight = np.concatenate(errors), np.concatenate(weights)
        order = np.argsort(error)
        total = np.cumsum(weight[order])
        return float(np.expm1(error[order][np.searchsorted(total, 0.5 * total[-1])]))

    def _ends(self, scored: Sequence[Scored], confidence_level: float, extra: float) -> tuple[FloatArray, FloatArray]:
        """The logs of the least and the most latency at this level, (m,) each."""
        half = np.zeros(len(self.sd))  # of rows without scores
        for rows, scores, outside in scored:
            half[rows] = self.sd[rows] * scores.factor(np.log(self.sd[rows]), outside, confidence_level)
        half = np.hypot(half, extra)
        return np.maximum(self.mean - half, np.minimum(self.floor, self.mean)), self.mean + half

    def _log_target(self) -> FloatArray:
        return np.asarray(self.features.sign * (self.mean - self.features.to_latency))
