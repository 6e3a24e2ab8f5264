"""Worlds drawn from what is believed of candidates: what each costs there, and whether it meets the objectives.

Notation: c candidates (cells); thr (c, m) output tokens per second in m worlds, or at m normal scores; load (c,).

In no world does a deployment's rate grow faster than its load (but for noise, `RATE_TOLERANCE`), except where that was
measured: thr_h <= RATE_TOLERANCE · thr_l · load_h / load_l for the next lower load l, unless a measured load above l
says that the rule does not hold from there. What was measured is as it was measured in every world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.columns import LOAD_COLUMNS
from fewmark.decide.slo import Distribution, Objective
from fewmark.tables.arrays import BoolArray, FloatArray
from fewmark.tables.columns import load_kind_of, load_of
from fewmark.tables.identity import cell_codes

N_DRAWS: Final = 2000
RATE_TOLERANCE: Final = 1.1


def bounded(throughput: Distribution, cells: pd.DataFrame, measured: BoolArray) -> Distribution:
    """The belief without the rates that no world has."""
    return replace(throughput, log_values=np.log(possible(np.exp(throughput.log_values), cells, measured)))


def possible(rate: FloatArray, cells: pd.DataFrame, measured: BoolArray) -> FloatArray:
    """Rates (c, m), each at most what the lower loads of the same deployment and lengths allow; measured ones stay."""
    load, kind = load_of(cells), load_kind_of(cells)
    alike = len(LOAD_COLUMNS) * cell_codes(cells.drop(columns=list(LOAD_COLUMNS), errors="ignore")) + kind
    rate, middle = rate.copy(), np.median(rate, axis=1)
    for code in np.unique(alike):
        rows = np.flatnonzero(alike == code)
        rows = rows[np.argsort(load[rows], kind="stable")]
        limit: FloatArray | None = None  # of the rate for each unit of load
        for place, row in enumerate(rows):
            if limit is not None and not measured[row]:
                # nothing is known of an abstained load, and nothing follows from it: what bounds it is no belief
                most = np.fmin(rate[row], RATE_TOLERANCE * limit * load[row])
                rate[row] = np.where(np.isnan(rate[row]), np.nan, most)
            above = rows[place + 1 :][measured[rows[place + 1 :]]]
            if not (middle[above] / load[above] > RATE_TOLERANCE * np.median(rate[row]) / load[row]).any():
                own = rate[row] / load[row]
                limit = own if limit is None else np.where(np.isnan(own), limit, own)
    return rate


class Worlds:
    """Each candidate's `cost` in each world, and whether it `meets` the objectives there, (draws, c).

    `judged` (c,) says of which candidates enough is believed to tell; `runs` (c,) is the chance that each runs at all.
    """

    def __init__(
        self,
        cells: pd.DataFrame,
        throughput: Distribution,
        hourly: FloatArray,
        objectives: Sequence[tuple[Objective, Distribution]],
        runs: FloatArray,
        measured: BoolArray,
        judged: BoolArray,
        random_state: int,
    ) -> None:
        rng = np.random.default_rng(random_state)
        n = len(hourly)
        # a candidate's rate and latencies come from one state of the machine: slow in one is slow in all
        score = throughput.draw(N_DRAWS, rng)
        self.cost = (hourly[:, None] / possible(throughput.at(score), cells, measured)).T
        self.score, self.throughput, self.judged = score.T, throughput, judged
        meets = np.ones((N_DRAWS, n), dtype=bool)
        for objective, belief in objectives:
            values = belief.at(score if objective.higher_is_better else -score)
            meets &= np.where(np.isfinite(values), objective.met(values), False).T
        if (runs < 1).any():
            meets &= rng.random((N_DRAWS, n)) < runs
        self.meets = meets & np.isfinite(self.cost)
        self.best = np.where(self.meets, self.cost, np.inf).min(axis=1)

    def p_best(self) -> FloatArray:
        """How often each candidate is the cheapest that meets the objectives, (c,); NaN of what cannot be judged."""
        wins = self.meets & (self.cost <= self.best[:, None] * (1 + 1e-12))
        return np.where(self.judged, wins.mean(axis=0), np.nan)

    def regret(self) -> FloatArray:
        """Expected relative overspend of each candidate where it meets the objectives, (c,); NaN if it never does."""
        with np.errstate(invalid="ignore", divide="ignore"):
            over = np.where(self.meets, self.cost / self.best[:, None] - 1, np.nan)
        seen = self.meets.any(axis=0)
        out = np.full(self.cost.shape[1], np.nan)
        out[seen] = np.nanmean(over[:, seen], axis=0)
        return out

    def next_measurement(self, chosen: int | None, measured: BoolArray, sure: BoolArray) -> tuple[int | None, float]:
        """The unmeasured candidate whose exact value is worth most, and that worth as a share of the choice's cost."""
        if chosen is None:  # any candidate that turns out to meet the objectives is an answer
            worth = self.meets.mean(axis=0)
        else:
            now = float(np.nanmean(self.cost[:, chosen]))
            with np.errstate(invalid="ignore"):
                saved = np.where(self.meets, np.maximum(self._expected(chosen, slice(None)) - self.cost, 0.0), 0.0)
            worth = np.nan_to_num(saved.mean(axis=0)) / now
            # of the choice itself: not to be stuck with one that misses, and to go to the next best if it is dear
            worth[chosen] = self._worth_of_choice(chosen, now, sure)
        worth[measured] = 0.0
        best = int(np.argmax(worth))
        return (best, float(worth[best])) if worth[best] > 0 else (None, 0.0)

    def _expected(self, one: int, known: int | slice) -> FloatArray:
        """The expected cost of a candidate in each world once another's is known, (draws,), or each of several's."""
        slope = -self.throughput.correlated(one)[known] * np.log(self.cost[:, one]).std()
        return np.asarray(self.cost[:, one].mean() * np.exp(slope * self.score[:, known] - slope**2 / 2))

    def _worth_of_choice(self, chosen: int, now: float, sure: BoolArray) -> float:
        others = np.flatnonzero(sure & (np.arange(len(sure)) != chosen))
        mine, second = self.cost[:, chosen], np.full(N_DRAWS, np.inf)
        if len(others):
            second = self._expected(int(others[self.cost[:, others].mean(axis=0).argmin()]), chosen)
        # missing the objectives is taken to waste what was paid
        loss = np.where(self.meets[:, chosen], np.maximum(mine - second, 0.0), mine)
        return float(loss.mean() / now)
