"""A campaign in words: each step, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fewmark.planning.belief import error_text

if TYPE_CHECKING:
    from fewmark.campaign.account import Campaign, Step

ENDED: Final = {
    "reached": "the error asked for is reached, by its own forecast",
    "budget": "the budget is spent",
    "exhausted": "every cell is measured",
    "settled": "it is as accurate as this machine repeats itself",
    "stalled": "the runner measured nothing of what was asked",
}


def step_text(step: Step) -> str:
    """One line: what is known, and what one more step would bring."""
    forecast = step.forecast
    if not step.n_measured:
        failed = f", {step.n_failed} failed" if step.n_failed else ""
        text = f"nothing is measured yet{failed}: what this machine takes is a guess from published facts"
        if step.next_cost_s is not None:
            text += f"; next, a guess: {step.next_cost_s:.2g} s"
        return text
    text = (
        f"{step.n_measured} cells, {step.spent_s:.0f} s: forecast median error {error_text(forecast.median_ape)} "
        f"(below {error_text(forecast.median_ape_bound)} with {forecast.assurance:.0%})"
    )
    if step.next_cost_s is not None and step.next_error is not None:
        text += f"; next {step.next_cost_s:.0f} s → {error_text(step.next_error)}"
    return text


def ended_text(done: Campaign) -> str:
    """How a campaign ended, and nothing that is not so."""
    text = ENDED.get(done.ended, done.ended)
    if done.ended == "exhausted" and (done.n_failed or done.n_not_tried):
        parts = [f"{done.n_failed} failed"] if done.n_failed else []
        if done.n_not_tried:
            parts.append(f"{done.n_not_tried} ask no less than one that failed, or cannot fit, and were not tried")
        text = f"every cell that could be measured is; {', '.join(parts)}"
    if done.ended == "budget" and done.budget_s is not None and done.spent_s < done.budget_s:
        left = done.budget_s - done.spent_s
        text += f" but for {left:.3g} s, which hold none of the {done.n_not_tried} cells that are left"
    return text
