"""Service-level objectives, and the probability that a prediction meets them.

Notation: Y the metric of a cell; its interval at level l has ends lo(l), hi(l), so that P(Y <= hi(l)) = (1 + l) / 2 and
P(Y <= lo(l)) = (1 - l) / 2. The distribution in between is read off by interpolating the normal score against log Y.
Where a model knows how the errors of its cells hang together, their normal scores are correlated in the same way: two
settings of one deployment are mostly wrong together, and which of them is better is known more surely than either.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr as normal_cdf
from scipy.special import ndtri as normal_quantile

from fewmark.core.errors import InputError
from fewmark.core.metric_names import SECONDS, metric_hint, read_metric
from fewmark.core.metrics import METRICS
from fewmark.models.base import JointModel, Model
from fewmark.tables.arrays import BoolArray, FloatArray

LEVELS: Final = (0.5, 0.8, 0.95)
MEASURED_SD: Final = 0.02  # of a measured value, log: what a repetition would differ by
MAX_JOINT_CELLS: Final = 1500  # cells whose errors are drawn together; among more, each by itself
_MIN_SD: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric and its limit: at most it where lower is better, at least it where higher is."""

    metric: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Objective:
        """From ``ttft_s=0.5`` or ``ttft=500ms``.

        Raises
        ------
        InputError
            If the metric is unknown, the limit no positive number, or a time's unit unknown.
        """
        name, sign, value = text.partition("=")
        return cls.of(name, value if sign else None, got=text)

    @classmethod
    def of(cls, name: str, value: object, *, got: object = None) -> Objective:
        """From a metric's name and its limit. Raises `InputError` as `parse` does."""
        given = {name: value} if got is None else got
        number, unit = _split(value)
        meant = read_metric(name)
        if value is None or meant is None:
            raise InputError(
                "an SLO is a metric and its limit, as in ttft_s=0.5, ttft=500ms or ttft_p99_s=2",
                got=given,
                hint=metric_hint(name),
            )
        metric, factor = meant
        if not (math.isfinite(number) and number > 0):
            raise InputError(f"the limit of {metric} must be a positive number", got=value)
        if unit and not METRICS[metric].higher_is_better:
            if unit not in SECONDS or factor not in (None, 1.0, SECONDS[unit]):
                raise InputError(f"{metric} has no such unit", got=given, hint="s, ms or us, once")
            factor = SECONDS[unit]
        elif unit:
            raise InputError(f"the limit of {metric} is a number, without a unit", got=given)
        if factor is None:
            hint = f"as in {metric}=0.3 or {name}=300ms"
            raise InputError("the limit of a time needs its unit", got=given, hint=hint)
        return cls(metric, number * factor)

    @property
    def higher_is_better(self) -> bool:
        """Whether the limit is a floor."""
        return METRICS[self.metric].higher_is_better

    def met(self, value: FloatArray) -> NDArray[np.bool_]:
        """Whether values meet it."""
        return np.asarray(value >= self.limit if self.higher_is_better else value <= self.limit)

    def __str__(self) -> str:
        return f"{self.metric} {'≥' if self.higher_is_better else '≤'} {self.limit:g}"


def parse_objectives(slo: str | Iterable[str] | Mapping[str, float]) -> list[Objective]:
    """One objective a metric, from texts (``ttft_s=0.5``) or a mapping of metrics to their limits.

    Raises
    ------
    InputError
        If one is wrong or a metric has two.
    """
    if isinstance(slo, Mapping):
        out = [Objective.of(name, limit) for name, limit in slo.items()]
    else:
        out = [Objective.parse(text) for text in ([slo] if isinstance(slo, str) else slo)]
    twice = {o.metric for o in out if sum(other.metric == o.metric for other in out) > 1}
    if twice:
        raise InputError("a metric can have only one limit", got=sorted(twice))
    return out


def _split(value: object) -> tuple[float, str]:
    """A limit's number and the unit written after it; NaN where it is no number."""
    found = re.fullmatch(r"\s*([-+.0-9]+(?:e[-+]?[0-9]+)?)\s*([a-zµμ]*)\s*", str(value).lower())
    if found is None:
        return math.nan, ""
    try:
        return float(found[1]), found[2]
    except ValueError:
        return math.nan, ""


@dataclass(frozen=True)
class Distribution:
    """What is believed of a metric at n cells: normal scores (k,) and the log values that have them (n, k), rising.

    `correlation` (n, n) is that of the cells' normal scores; None where they are independent. `measured` (n,) says of
    which cells the metric was measured; None where that is not known.
    """

    scores: FloatArray
    log_values: FloatArray
    correlation: FloatArray | None = None
    measured: BoolArray | None = None

    @property
    def known(self) -> BoolArray:
        """Of which cells anything is believed, (n,)."""
        return np.asarray(np.isfinite(self.log_values).all(axis=1))

    @property
    def median(self) -> FloatArray:
        """(n,); NaN where nothing is believed."""
        return np.exp(self.log_values[:, len(self.scores) // 2])

    def quantile(self, p: float) -> FloatArray:
        """The value that the metric stays below with probability p, (n,)."""
        return self.at(np.full((len(self.log_values), 1), normal_quantile(p)))[:, 0]

    def at(self, score: FloatArray) -> FloatArray:
        """The values that have these normal scores, (n, m) for (n, m) scores; straight on beyond the outermost."""
        out = np.full(score.shape, np.nan)
        for row, logs in enumerate(self.log_values):
            if np.isfinite(logs).all():
                out[row] = np.exp(_straight(score[row], self.scores, logs))
        return out

    def draw(self, n_draws: int, rng: np.random.Generator) -> FloatArray:
        """Normal scores of the cells in worlds drawn at random, (n, n_draws)."""
        score = rng.standard_normal((len(self.log_values), n_draws))
        if self.correlation is None:
            return score
        values, vectors = np.linalg.eigh(self.correlation)
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ score)

    def correlated(self, cell: int) -> FloatArray:
        """The correlation of one cell's normal score with each cell's, (n,)."""
        if self.correlation is None:
            return np.asarray(np.arange(len(self.log_values)) == cell, dtype=np.float64)
        return np.asarray(self.correlation[cell])

    def probability(self, objective: Objective) -> FloatArray:
        """The probability that each cell meets an objective, (n,); NaN where nothing is believed."""
        limit = math.log(objective.limit)
        out = np.full(len(self.log_values), np.nan)
        for row, logs in enumerate(self.log_values):
            if np.isfinite(logs).all():
                below = float(normal_cdf(_straight(np.array([limit]), logs, self.scores)[0]))
                out[row] = 1.0 - below if objective.higher_is_better else below
        return out


def distribution(
    model: Model, X: pd.DataFrame, measured: FloatArray, contested: FloatArray | None = None
) -> Distribution:
    """What a fitted model believes of its target at n cells; `measured` (n,) values, where not NaN, stand instead.

    So do `contested` (n, 2), the least and the most that repeats say which contradict one another: both are as likely
    as can be, and the 90% interval holds them.
    """
    value = np.asarray(model.predict(X), dtype=float)
    lows, highs = [], []
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = np.log(value)
        for level in LEVELS:
            ends = np.log(np.maximum(np.asarray(model.predict_interval(X, level), dtype=float), 1e-300))
            lows.append(ends[:, 0])
            highs.append(ends[:, 1])
    scores = np.asarray(normal_quantile([(1 + level) / 2 for level in LEVELS]), dtype=float)
    logs = np.column_stack([*reversed(lows), middle, *highs])
    every = np.concatenate([-scores[::-1], [0.0], scores])
    logs = np.where(np.isfinite(logs), logs, np.nan)
    # ends of different levels may touch: keep them apart, so that each value has one score
    logs = np.maximum.accumulate(logs + _MIN_SD * every, axis=1)
    known = np.isfinite(measured)
    logs[known] = np.log(measured[known])[:, None] + MEASURED_SD * every
    if contested is not None:
        apart = np.isfinite(contested).all(axis=1)
        low, high = np.log(contested[apart]).T
        sd = (high - low) / (2 * float(normal_quantile(0.95)))
        logs[apart] = ((low + high) / 2)[:, None] + sd[:, None] * every
    return Distribution(every, logs, _correlation(model, X, known), known)


def _correlation(model: Model, X: pd.DataFrame, measured: NDArray[np.bool_]) -> FloatArray | None:
    """How what is not known of the cells hangs together, (n, n); None where the model cannot tell."""
    if not isinstance(model, JointModel) or len(X) > MAX_JOINT_CELLS:
        return None
    _, covariance, noise = model.joint(X)
    variance = np.diag(covariance) + noise**2
    with np.errstate(invalid="ignore", divide="ignore"):
        out = covariance / np.sqrt(np.outer(variance, variance))
    unknown = np.isfinite(out) & ~measured & ~measured[:, None]
    out = np.where(unknown, out, 0.0)
    np.fill_diagonal(out, 1.0)
    return out


def _straight(x: FloatArray, xp: FloatArray, fp: FloatArray) -> FloatArray:
    """Linear interpolation that goes straight on at both ends; xp rising."""
    inner = np.interp(x, xp, fp)
    left = fp[0] + (x - xp[0]) * (fp[1] - fp[0]) / (xp[1] - xp[0])
    right = fp[-1] + (x - xp[-1]) * (fp[-1] - fp[-2]) / (xp[-1] - xp[-2])
    return np.asarray(np.where(x < xp[0], left, np.where(x > xp[-1], right, inner)))
