"""The meta-metrics of a plan: forecast where it has not run, reported where it has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fewmark.core.errors import InputError
from fewmark.core.json_types import Json
from fewmark.evaluation.meta_metrics import Account, PlanCost, accuracy, coverage, price_plan
from fewmark.planning.belief import Forecast
from fewmark.planning.planner import Planner
from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.repeats import measured_cells


@dataclass(frozen=True, repr=False)
class PlanAccount:
    """Costs, coverage and, where reference values are known, the true accuracy; the forecast errors before and after.

    `n_measured` of the plan's cells are measured already.
    """

    account: Account
    before: Forecast
    after: Forecast
    n_measured: int
    notes: tuple[str, ...] = ()  # what was done to the measurements

    def __repr__(self) -> str:
        plan, reference = self.account.plan, self.account.reference
        return (
            f"PlanAccount: {plan.n_cells} of {reference.n_cells} cells ({self.n_measured} measured), "
            f"{plan.time_s:.1f} s of {reference.time_s:.1f} s; forecast median error {self.before.median_ape:.1%} now, "
            f"{self.after.median_ape:.1%} after the plan"
        )

    def to_dict(self) -> dict[str, Json]:
        """JSON-ready."""
        names = ("median_ape", "mean_ape", "p90_ape", "median_ape_bound", "mean_ape_bound", "assurance")
        return {
            **self.account.to_dict(),
            "n_measured": self.n_measured,
            "notes": list(self.notes),
            "forecast_before": {name: getattr(self.before, name) for name in names},
            "forecast_after": {name: getattr(self.after, name) for name in names},
        }


def account_for(
    planner: Planner,
    plan: pd.DataFrame | None = None,
    *,
    reference: pd.DataFrame | None = None,
    price_per_accelerator_hour: FloatArray | None = None,
    power_w: FloatArray | None = None,
) -> PlanAccount:
    """What a plan costs against measuring the whole space, and how accurate it leaves things.

    Parameters
    ----------
    planner : knows the space and what is measured
    plan : cells to measure yet, a canonical table; None: nothing more than what is measured
    reference : canonical table with measured values of the space's cells, to score against; None: forecasts only
    price_per_accelerator_hour, power_w : arrays over the space, see `price_plan`

    Raises
    ------
    InputError
        If a planned cell is none of the space, or there is neither a plan nor anything measured.
    """
    space, target = planner.space, planner.target
    planned = np.zeros(0, dtype=np.intp)
    if plan is not None:
        planned = space.locate(plan)
        if (planned < 0).any():
            row = int(np.argmax(planned < 0))
            raise InputError(
                f"row {row + 1} of the plan is not a cell of the space", got=plan.iloc[row].dropna().to_dict()
            )
    measured = np.flatnonzero(planner.observed)
    every = np.union1d(measured, planned).astype(np.intp)
    if not len(every):
        raise InputError("there is neither a plan nor a measured cell of the space", hint="give --plan or more data")
    belief = planner.belief
    for position in np.setdiff1d(planned, measured):
        belief = belief.fantasize(int(position))
    value, kind = planner.estimate()
    kind[planned] = "measured"
    scored = {}
    if reference is not None:
        cells = measured_cells(reference, target)
        where = space.locate(cells)
        truth = np.full(len(space), np.nan)
        truth[where[where >= 0]] = cells[target].to_numpy(dtype=float)[where >= 0]
        scored = {target: accuracy(truth, value, planner.estimate()[1])}
    latency = planner.predicted_latency_s()

    def price(at: IntArray) -> PlanCost:
        def part(values: FloatArray | None) -> FloatArray | None:
            return None if values is None else values[at]

        return price_plan(
            space.cells.iloc[at], latency[at], planner.charges,
            price_per_accelerator_hour=part(price_per_accelerator_hour), power_w=part(power_w),
        )  # fmt: skip

    return PlanAccount(
        account=Account(
            plan=price(every),
            reference=price(np.arange(len(space))),
            accuracy=scored,
            coverage=coverage(space.cells, kind),
            forecast=bool(len(np.setdiff1d(planned, measured))),
        ),
        before=planner.forecast(),
        after=planner.forecast(belief),
        n_measured=len(measured),
    )
