"""Which deployment, at which setting: the cheapest that meets the objectives, how sure, and what would change it.

Notation: c candidates (cells); p_c the probability that c meets every objective; H_c money an hour; thr_c output tokens
per second, of which there are draws; cost_c = H_c / thr_c.

    ranking     candidates with p_c >= the assurance asked for, by expected cost; then the others, by p_c
    p_best      the share of draws in which c is the cheapest of those that meet the objectives
    regret      expected cost_c / (cheapest cost in the draw that meets the objectives) - 1, over draws where c does
    next one    the unmeasured candidate whose exact value would save most in expectation, by changing the choice

Draws are joint: candidates whose errors hang together are drawn together (`fewmark.decide.slo`). With R the correlation
of their normal scores z and sigma_c the deviation of log cost_c, what knowing i makes of another's expected cost is

    E[cost_c | i] = E[cost_c] exp(b z_i - b² / 2),  b = -R_ci sigma_c

In no world does a deployment's rate grow faster than its load (but for noise, `RATE_TOLERANCE`).

p_c is the product over objectives: exact if their errors are independent, and too low (safe) where they rise and fall
together. Where no price is known, accelerators take money's place. Source: expected value of perfect information on one
alternative (Howard 1966; Gupta and Miescke 1996 for ranking and selection).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.errors import InputError
from fewmark.core.values import Advice
from fewmark.decide.slo import Distribution, Objective
from fewmark.models.feasibility import FEASIBLE, Feasibility
from fewmark.tables.arrays import FloatArray
from fewmark.tables.columns import load_kind_of, load_of
from fewmark.tables.identity import cell_codes

N_DRAWS: Final = 2000
RATE_TOLERANCE: Final = 1.1
WORTH_MEASURING: Final = 0.005  # of the choice's cost: below this no measurement is worth its while


@dataclass(frozen=True)
class Recommendation:
    """The candidates, best first (`table`, its index their position in the request), and what follows.

    `chosen` is the position of the best candidate that meets the objectives with the assurance asked for, or None.
    `next_measurement` is the position whose measurement could change the answer most, `expected_saving` what knowing it
    is worth as a share of the choice's cost.
    """

    table: pd.DataFrame
    chosen: int | None
    next_measurement: int | None
    expected_saving: float
    advice: tuple[Advice, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: unknown is null."""
        rows = self.table.astype(object).where(self.table.notna(), None)
        return {
            "chosen": self.chosen,
            "next_measurement": self.next_measurement,
            "expected_saving": self.expected_saving,
            "candidates": [
                {"candidate": int(at), **row} for at, row in zip(rows.index, rows.to_dict("records"), strict=True)
            ],
            "advice": [{"code": a.code, "message": a.message, "hint": a.hint} for a in self.advice],
        }


def recommend(
    cells: pd.DataFrame,
    throughput: Distribution,
    hourly: FloatArray,
    objectives: Sequence[tuple[Objective, Distribution]],
    measured: NDArray[np.bool_],
    *,
    feasible: Feasibility | None = None,
    assurance: float = 0.9,
    random_state: int = 0,
) -> Recommendation:
    """Rank candidates.

    Parameters
    ----------
    cells : DataFrame (c,)
    throughput : of output tokens per second
    hourly : array (c,), money an hour (or accelerators); NaN unknown
    objectives : each with what is believed of its metric
    measured : array (c,) of bool, whether the candidate was measured (measuring it again tells nothing new)
    feasible : whether each candidate can run at all; None: all can

    Raises
    ------
    InputError
        If there is no candidate, or the assurance is no probability.
    """
    n = len(cells)
    if not n:
        raise InputError("there is nothing to choose from", hint="give measured data, or a space of cells")
    if not 0 < assurance < 1:
        raise InputError("the assurance is a probability between 0 and 1", got=assurance)
    met = np.column_stack([belief.probability(objective) for objective, belief in objectives]) if objectives else None
    probability = np.ones(n) if met is None else met.prod(axis=1)
    runs = np.ones(n) if feasible is None else feasible.probability
    cannot = runs < FEASIBLE
    probability = np.where(cannot, 0.0, probability * runs)
    value = np.where(cannot, np.nan, throughput.median)
    cost = hourly / value
    draws = _Draws(cells, throughput, hourly, objectives, np.where(cannot, 0.0, runs), random_state)
    table = pd.DataFrame({"probability": probability, "throughput_tok_s": value, "relative_cost": cost / np.nanmin(cost)
                          if np.isfinite(cost).any() else np.full(n, np.nan)})  # fmt: skip
    for objective, belief in objectives:
        if objective.metric not in table:
            table[objective.metric] = belief.median
        table[f"probability.{objective.metric}"] = belief.probability(objective)
    if feasible is not None and any(feasible.reason):
        table["feasible"] = runs
        table["why_not_feasible"] = [reason or None for reason in feasible.reason]
    table["throughput_low"], table["throughput_high"] = throughput.quantile(0.05), throughput.quantile(0.95)
    table["p_best"] = draws.p_best()
    table["regret"] = draws.regret()
    table["pareto"] = _pareto(np.column_stack([cost, *_burdens(objectives)]))
    known = np.isfinite(cost) & np.isfinite(probability)
    sure = known & (probability >= assurance)
    order = np.lexsort((np.where(sure, cost, np.where(known, -probability, np.inf)), ~sure, ~known))
    chosen = int(order[0]) if sure.any() else None
    after, saving = draws.next_measurement(chosen, np.asarray(measured, dtype=bool), sure)
    if saving < WORTH_MEASURING:
        after = None
    return Recommendation(
        table=table.iloc[order],
        chosen=chosen,
        next_measurement=after,
        expected_saving=saving,
        advice=(
            *_advice(cells, known, sure, probability, assurance, objectives),
            *([] if feasible is None else _about_memory(feasible, chosen)),
        ),
    )


class _Draws:
    """Worlds drawn from what is believed: each candidate's cost, and whether it meets the objectives, (draws, c)."""

    def __init__(
        self,
        cells: pd.DataFrame,
        throughput: Distribution,
        hourly: FloatArray,
        objectives: Sequence[tuple[Objective, Distribution]],
        runs: FloatArray,
        random_state: int,
    ) -> None:
        rng = np.random.default_rng(random_state)
        n = len(hourly)
        # a candidate's rate and latencies come from one state of the machine: slow in one is slow in all
        score = throughput.draw(N_DRAWS, rng)
        self.cost = (hourly[:, None] / _possible(throughput.at(score), cells)).T
        self.score, self.throughput = score.T, throughput
        meets = np.ones((N_DRAWS, n), dtype=bool)
        for objective, belief in objectives:
            values = belief.at(score if objective.higher_is_better else -score)
            meets &= np.where(np.isfinite(values), objective.met(values), False).T
        if (runs < 1).any():
            meets &= rng.random((N_DRAWS, n)) < runs
        self.meets = meets & np.isfinite(self.cost)
        self.best = np.where(self.meets, self.cost, np.inf).min(axis=1)

    def p_best(self) -> FloatArray:
        """How often each candidate is the cheapest that meets the objectives, (c,)."""
        wins = self.meets & (self.cost <= self.best[:, None] * (1 + 1e-12))
        return np.asarray(wins.mean(axis=0))

    def regret(self) -> FloatArray:
        """Expected relative overspend of each candidate where it meets the objectives, (c,); NaN if it never does."""
        with np.errstate(invalid="ignore", divide="ignore"):
            over = np.where(self.meets, self.cost / self.best[:, None] - 1, np.nan)
        seen = self.meets.any(axis=0)
        out = np.full(self.cost.shape[1], np.nan)
        out[seen] = np.nanmean(over[:, seen], axis=0)
        return out

    def next_measurement(
        self, chosen: int | None, measured: NDArray[np.bool_], sure: NDArray[np.bool_]
    ) -> tuple[int | None, float]:
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

    def _worth_of_choice(self, chosen: int, now: float, sure: NDArray[np.bool_]) -> float:
        others = np.flatnonzero(sure & (np.arange(len(sure)) != chosen))
        mine, second = self.cost[:, chosen], np.full(N_DRAWS, np.inf)
        if len(others):
            second = self._expected(int(others[self.cost[:, others].mean(axis=0).argmin()]), chosen)
        # missing the objectives is taken to waste what was paid
        loss = np.where(self.meets[:, chosen], np.maximum(mine - second, 0.0), mine)
        return float(loss.mean() / now)


def _about_memory(feasible: Feasibility, chosen: int | None) -> list[Advice]:
    out = []
    silent = np.flatnonzero(feasible.infeasible)
    if len(silent):
        first = feasible.reason[silent[0]].removeprefix("infeasible: ")
        more = f"{len(silent)} candidates cannot run" if len(silent) > 1 else "one candidate cannot run"
        out.append(Advice("infeasible", f"{more}: {first}", "the column why_not_feasible says it of each"))
    if chosen is not None and feasible.reason[chosen]:
        out.append(Advice("may-not-fit", f"the choice: {feasible.reason[chosen]}", "measure it before it is deployed"))
    return out


def _possible(rate: FloatArray, cells: pd.DataFrame) -> FloatArray:
    """Drawn rates (c, draws), each at most what the next lower load of the same deployment and lengths allows."""
    load, kind = load_of(cells), load_kind_of(cells)
    alike = len(LOAD_COLUMNS) * cell_codes(cells.drop(columns=list(LOAD_COLUMNS), errors="ignore")) + kind
    rate = rate.copy()
    for code in np.unique(alike):
        rows = np.flatnonzero(alike == code)
        rows = rows[np.argsort(load[rows], kind="stable")]
        for lower, higher in pairwise(rows):
            # nothing is known of an abstained load, and nothing follows from it
            rate[higher] = np.fmin(rate[higher], RATE_TOLERANCE * rate[lower] * load[higher] / load[lower])
    return rate


def _burdens(objectives: Sequence[tuple[Objective, Distribution]]) -> list[FloatArray]:
    """What there should be less of, one array (c,) an objective."""
    return [-belief.median if objective.higher_is_better else belief.median for objective, belief in objectives]


def _pareto(burdens: FloatArray) -> NDArray[np.bool_]:
    """Which rows no other one beats: at most as much of everything and less of something, (c,)."""
    known: NDArray[np.bool_] = np.asarray(np.isfinite(burdens).all(axis=1))
    out = np.array(known)
    for row in np.flatnonzero(known):
        less = (burdens[known] <= burdens[row]).all(axis=1) & (burdens[known] < burdens[row]).any(axis=1)
        out[row] = not less.any()
    return out


def _advice(
    cells: pd.DataFrame,
    known: NDArray[np.bool_],
    sure: NDArray[np.bool_],
    probability: FloatArray,
    assurance: float,
    objectives: Sequence[tuple[Objective, Distribution]],
) -> list[Advice]:
    out = []
    if objectives and not sure.any():
        limits = ", ".join(str(objective) for objective, _ in objectives)
        best = float(np.nanmax(probability)) if np.isfinite(probability).any() else 0.0
        out.append(
            Advice(
                "no-candidate",
                f"nothing here meets {limits} with a probability of {assurance:.0%}: the best has {best:.0%}",
                "loosen the objectives, lower the assurance, add accelerators, or measure what is proposed next",
            )
        )
    silent = ~np.isfinite(probability)
    if silent.any():
        out.append(
            Advice(
                "not-predicted",
                f"{int(silent.sum())} of {len(cells)} candidates cannot be predicted from what is known",
                "fewmark plan says which cells to measure",
            )
        )
    return out
