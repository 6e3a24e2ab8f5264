"""Strategies tried on recorded data as if it were measured now: every step's bill and its true error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fewmark.evaluation.meta_metrics import Account, Charges, PlanCost, accuracy, coverage, price_plan
from fewmark.planning.belief import Belief, Forecast
from fewmark.planning.planner import Planner
from fewmark.planning.space import Space
from fewmark.planning.strategies import Strategy
from fewmark.tables.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Step:
    """After one more measured cell: the time spent so far, and the true errors over the space."""

    position: int
    spent_s: float
    median_ape: float
    mean_ape: float


@dataclass(frozen=True)
class Replay:
    """One strategy on one recorded deployment (or several): its steps, and where and why it ended.

    `ended`: ``reached`` (by its own estimate) | ``exhausted`` (no more cells) | ``budget`` | ``cells``.
    """

    steps: tuple[Step, ...]
    account: Account
    forecast: Forecast
    ended: str

    def time_to_s(self, error: float) -> float | None:
        """Seconds after which the true median error stayed at or below `error`: what only an oracle could know."""
        late = [step.median_ape > error for step in self.steps]
        last = max((i for i, over in enumerate(late) if over), default=-1)
        return self.steps[last + 1].spent_s if last + 1 < len(self.steps) else None


def replay(
    space: Space,
    truth: FloatArray,
    latency_s: FloatArray,
    belief: Belief,
    strategy: Strategy,
    *,
    target: str = "throughput_tok_s",
    charges: Charges | None = None,
    ttft_s: FloatArray | None = None,
    target_error: float | None = None,
    mean_error: bool = False,
    assurance: float = 0.85,
    budget_s: float = np.inf,
    max_cells: int | None = None,
    random_state: int = 0,
    power_w: FloatArray | None = None,
) -> Replay:
    """Play a strategy as a campaign would: until it reaches the error by its own estimate, has no more cells, or none
    that it can predict to fit the rest of the budget.

    Parameters
    ----------
    space, truth, latency_s : the recorded cells, the target's value and the seconds of one run of each, (n,)
    belief : what is believed before any of them is seen
    ttft_s : array (n,), seconds to the first token where recorded, else NaN
    target_error, mean_error, assurance : see `Planner`
    budget_s, max_cells : limits
    """
    charges = charges or Charges()
    planner = Planner(
        space, belief, strategy, target=target, charges=charges, target_error=target_error,
        mean_error=mean_error, assurance=assurance, random_state=random_state,
    )  # fmt: skip
    steps: list[Step] = []
    spent, ended = 0.0, "exhausted"
    order: list[int] = []
    limit = len(space) if max_cells is None else min(max_cells, len(space))
    while True:
        if planner.reached():
            ended = "reached"
            break
        if len(order) >= limit:
            ended = "cells" if limit < len(space) else "exhausted"
            break
        picks = planner.choose(1, budget_s=budget_s - spent)
        if not len(picks):
            ended = "budget" if len(planner.open_positions()) > len(planner.affordable(budget_s - spent)) else ended
            break
        position = int(picks[0])
        if int(space.deployment[position]) not in planner.loaded:
            spent += charges.load_s
        spent += charges.runs * float(latency_s[position])
        order.append(position)
        first = None if ttft_s is None else float(ttft_s[position])
        planner.tell(position, float(truth[position]), latency_s=float(latency_s[position]), ttft_s=first)
        value, kind = planner.estimate()
        errors = accuracy(truth, value, kind)["all"]
        steps.append(Step(position, spent, errors.median_ape or 0.0, errors.mean_ape or 0.0))
    value, kind = planner.estimate()
    chosen = np.asarray(order, dtype=np.intp)
    full = np.arange(len(space))
    account = Account(
        plan=_price(space, chosen, latency_s, charges, power_w),
        reference=_price(space, full, latency_s, charges, power_w),
        accuracy={target: accuracy(truth, value, kind)},
        coverage=coverage(space.cells, kind),
    )
    return Replay(tuple(steps), account, planner.forecast(), ended)


def _price(
    space: Space, chosen: IntArray, latency_s: FloatArray, charges: Charges, power_w: FloatArray | None
) -> PlanCost:
    power = None if power_w is None else power_w[chosen]
    return price_plan(space.cells.iloc[chosen], latency_s[chosen], charges, power_w=power)


def run_seconds(cells: pd.DataFrame, space: Space, target: str) -> FloatArray:
    """Seconds of one run of each recorded cell, (n,): its latency, else what its target implies, else NaN."""
    recorded = cells["e2e_latency_s"].to_numpy(dtype=float)
    return np.where(np.isfinite(recorded), recorded, space.latency_s(target, cells[target].to_numpy(dtype=float)))
