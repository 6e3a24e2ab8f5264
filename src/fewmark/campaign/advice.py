"""What a campaign advises when it has ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fewmark.campaign.budget import Budget
from fewmark.core import Advice, Measurement
from fewmark.planning.planner import Planner
from fewmark.runner.advice import run_advice


def campaign_advice(
    ended: str, planner: Planner, budget: Budget, spent_s: float, came: Sequence[Measurement]
) -> Iterable[Advice]:
    """What to do next, by why the campaign ended, what it spent and what came of its runs."""
    forecast = planner.forecast()
    over = budget.advice(spent_s)
    if over is not None:
        yield over
    if not planner.observed.any():
        cheapest = float(planner.cost_s().min() + planner.charges.load_s)
        yield Advice(
            "nothing-known",
            "nothing was measured, so nothing is known: every value is a guess from published facts",
            f"the cheapest cell is predicted to take {cheapest:.0f} s with its engine's start; raise the budget"
            if budget.is_limited
            else "see why the cases failed",
        )
    if ended == "stalled":
        yield Advice("stalled", "the runner measured nothing of what was asked", "see its report")
    target = planner.target_error
    repeats_to = planner.belief.repeatability
    hints = {
        "budget": "raise the budget",
        "settled": f"measuring twice differs by {repeats_to:.1%} here: quieten the machine, or repeat more often",
    }
    if target is not None and ended != "reached" and forecast.median_ape_bound > target:
        yield Advice(
            "not-reached",
            f"the error asked for ({target:.1%}) is not reached: it is forecast to stay below "
            f"{forecast.median_ape_bound:.1%} with a probability of {forecast.assurance:.0%}",
            hints.get(ended, "there is no cell left to measure"),
        )
    yield from run_advice(came, once_each=True)
