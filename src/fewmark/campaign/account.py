"""What a campaign did and what it cost, step by step; each forecast beside its outcome."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core import Advice, Case, Measurement
from fewmark.core.json_types import Json
from fewmark.evaluation.meta_metrics import Account, PlanCost
from fewmark.planning.belief import Forecast
from fewmark.planning.space import Space
from fewmark.tables.columns import accelerator_counts

CHECKED: Final = 8  # forecasts that are looked at again before a campaign ends
CHECKED_FROM_CELLS: Final = 100


@dataclass(frozen=True, slots=True)
class Step:
    """After one batch of cells: what was spent so far in seconds, the forecast, and what one more batch would bring.

    `next_cost_s` and `next_error` are the predicted cost of the next batch and the forecast median APE after it; None
    where there is no next one.
    """

    n_measured: int
    n_failed: int
    spent_s: float
    forecast: Forecast
    next_cost_s: float | None
    next_error: float | None

    def to_dict(self) -> dict[str, Json]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One cell's forecast and its outcome: the value predicted before it was measured, and the measured one."""

    case: Case
    predicted: float
    low: float
    high: float
    measured: float
    predicted_cost_s: float
    cost_s: float | None

    @property
    def ape(self) -> float:
        """|predicted - measured| / measured."""
        return abs(self.predicted - self.measured) / self.measured

    @property
    def inside(self) -> bool:
        """Whether the measured value lies in the interval."""
        return self.low <= self.measured <= self.high

    def to_dict(self) -> dict[str, Json]:
        """JSON-ready."""
        return {"case_id": self.case.case_id, **{k: v for k, v in asdict(self).items() if k != "case"}, "ape": self.ape}


@dataclass(frozen=True)
class Campaign:
    """What a campaign came to.

    `ended`: ``reached`` | ``budget`` | ``exhausted`` (every cell measured or failed) | ``settled`` (as accurate as the
    machine repeats itself) | ``stalled`` (the runner could not measure what was asked). `table` is the space with
    value, low, high and kind (measured, projected, predicted, or empty: failed); `account` compares what was spent with
    what every cell would cost, as predicted; `n_relatives` counts what was known to begin with of what others measured.
    `spent_s` counts what was spent on these cells before, too; `measurements` are this campaign's own. `n_failed` cells
    failed, `n_not_tried` were neither measured nor tried.
    """

    target: str
    ended: str
    steps: tuple[Step, ...]
    ledger: tuple[LedgerEntry, ...]
    table: pd.DataFrame
    account: Account
    advice: tuple[Advice, ...]
    n_relatives: int = 0
    budget_s: float | None = None
    spent_s: float = 0.0
    measurements: tuple[Measurement, ...] = ()
    n_failed: int = 0
    n_not_tried: int = 0

    @property
    def ok(self) -> bool:
        """Whether it did what was asked: the error reached, or the budget used to some purpose."""
        return not any(advice.code in ("nothing-known", "not-reached", "stalled") for advice in self.advice)

    def to_dict(self) -> dict[str, Json]:
        """JSON-ready."""
        return {
            "target": self.target,
            "ended": self.ended,
            "steps": [step.to_dict() for step in self.steps],
            "ledger": [entry.to_dict() for entry in self.ledger],
            "account": self.account.to_dict(),
            "n_relatives": self.n_relatives,
            "budget_s": self.budget_s,
            "spent_s": self.spent_s,
            "n_failed": self.n_failed,
            "n_not_tried": self.n_not_tried,
            "advice": [{"code": a.code, "message": a.message, "hint": a.hint} for a in self.advice],
        }


def spent(measurements: Iterable[Measurement]) -> float:
    """Seconds that measurements took, their share of engine starts included; what is unknown counts as nothing."""
    return sum((m.cost.wall_s or 0.0) + (m.cost.startup_s or 0.0) for m in measurements)


def plan_cost(space: Space, positions: Sequence[int], measurements: Sequence[Measurement]) -> PlanCost:
    """What the measurements of a campaign really cost.

    Warm-up is part of the measured time of each cell and not told apart from it.
    """
    count = accelerator_counts(space.cells)[np.asarray(positions, dtype=np.intp)] if positions else np.zeros(0)
    seconds = np.array([spent([m]) for m in measurements])
    energy = [m.cost.energy_j for m in measurements]
    hours = float((seconds * count).sum() / 3600) if np.isfinite(count).all() else None
    return PlanCost(
        n_cells=len(measurements),
        n_loads=len({space.deployment[p] for p in positions}),
        loading_s=sum(m.cost.startup_s or 0.0 for m in measurements),
        warmup_s=0.0,
        repeats_s=sum(m.cost.wall_s or 0.0 for m in measurements),
        one_token_s=0.0,
        accelerator_hours=hours,
        energy_j=sum(e for e in energy if e is not None) if energy and None not in energy else None,
    )


def borne_out(scores: Sequence[float], error: float | None, n_cells: int) -> bool:
    """Whether what was foretold of the latest cells, before they were measured, came true to that median error.

    `scores` are the errors of such forecasts, fractions, oldest first. Of a small space no cell is spent on it.
    """
    if error is None:
        return False
    latest = scores[-CHECKED:]
    if n_cells < CHECKED_FROM_CELLS:
        return True
    return len(latest) == CHECKED and statistics.median(latest) <= error
