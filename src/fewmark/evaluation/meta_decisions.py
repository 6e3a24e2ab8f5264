"""Predictors judged by the decisions they lead to, not by their errors alone.

A decision: one deployment at one pair of lengths; choose the load (batch size or concurrency) with the highest
throughput whose latency stays within a limit. The limits are the latencies that really occur there, so that every
decision lies near the edge, where errors matter. Notation, one decision: c the chosen load, b the best one that really
meets the limit; thr, lat their true throughput and latency.

    success      lat_c <= limit (a decision to deploy nothing, though something would do, is no success)
    overspend    thr_b / thr_c - 1, over successes: how much more is paid for the same tokens
    regret       overspend of a success; 1 for a failure (what is paid serves nothing)

Source: decision-focused scoring; in LLM-Pilot (arXiv 2410.02425) the predictor with the worst errors decides best.
The definitions are fewmark's own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from fewmark.core.errors import InputError
from fewmark.core.json_types import Json
from fewmark.tables.arrays import AnyArray, FloatArray

MIN_LOADS = 3  # fewer leave nothing to decide


@dataclass(frozen=True, slots=True)
class DecisionScores:
    """Over n decisions: the share that succeeds, the mean overspend of those, the mean regret; None without any."""

    n: int
    success_rate: float | None = None
    overspend: float | None = None
    regret: float | None = None

    def to_dict(self) -> dict[str, Json]:
        """JSON-ready."""
        return asdict(self)


def decision_scores(
    group: AnyArray,
    work: FloatArray,
    true_rate: FloatArray,
    predicted_rate: FloatArray,
) -> DecisionScores:
    """Score the decisions that predicted throughputs lead to.

    Parameters
    ----------
    group : array (n,): which cells compete (same deployment and lengths)
    work : array (n,): output tokens of one round (load × output tokens), so that latency = work / rate
    true_rate, predicted_rate : arrays (n,), tokens per second; a cell without a prediction (NaN) is never chosen

    Raises
    ------
    InputError
        If a true rate or the work is not positive.
    """
    work, true_rate, predicted = (np.asarray(values, dtype=float) for values in (work, true_rate, predicted_rate))
    if not ((true_rate > 0).all() and (work > 0).all()):
        raise InputError("decisions need positive true rates and work", got=float(np.nanmin(true_rate, initial=np.inf)))
    success: list[bool] = []
    overspend: list[float] = []
    for one in np.unique(group):
        cells = np.flatnonzero(np.asarray(group) == one)
        if len(cells) < MIN_LOADS:
            continue
        latency = work[cells] / true_rate[cells]
        guess = np.where(np.isfinite(predicted[cells]), predicted[cells], 0.0)
        with np.errstate(divide="ignore"):
            expected = work[cells] / guess
        for limit in latency * (1 + 1e-9):
            best = float(true_rate[cells][latency <= limit].max())
            fits = expected <= limit
            chosen = int(np.argmax(np.where(fits, guess, -1.0)))
            ok = bool(fits.any() and latency[chosen] <= limit)
            success.append(ok)
            if ok:
                overspend.append(best / float(true_rate[cells][chosen]) - 1)
    if not success:
        return DecisionScores(0)
    n = len(success)
    return DecisionScores(
        n=n,
        success_rate=sum(success) / n,
        overspend=float(np.mean(overspend)) if overspend else None,
        regret=(sum(overspend) + (n - len(overspend))) / n,
    )
