"""What `fewmark run` prints of a campaign, on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fewmark.campaign.words import ended_text, step_text

if TYPE_CHECKING:
    from fewmark.campaign import Campaign, Step


def show_step(step: Step) -> None:
    """One line: what is known, and what one more step would bring."""
    click.echo(step_text(step), err=True)


def show_campaign(done: Campaign) -> None:
    """How it ended, what it cost, how its forecasts fared."""
    plan, reference = done.account.plan, done.account.reference
    if done.n_relatives:
        click.echo(f"began with {done.n_relatives} public measurements of relatives (--no-prior: without)", err=True)
    click.echo(f"ended: {ended_text(done)}", err=True)
    if done.account.speed_up is not None:
        click.echo(
            f"{plan.n_cells} of {reference.n_cells} cells in {plan.time_s:.0f} s; all of them are predicted to take "
            f"{reference.time_s:.0f} s: {done.account.speed_up:.1f} times less",
            err=True,
        )
    if done.ledger:
        errors = sorted(entry.ape for entry in done.ledger)
        inside = sum(entry.inside for entry in done.ledger)
        click.echo(
            f"forecast before they were measured, {len(errors)} cells were off by {errors[len(errors) // 2]:.1%} "
            f"(median); {inside} of {len(errors)} fell inside their 90% interval",
            err=True,
        )
    for advice in done.advice:
        click.echo(f"warning: {advice.message}\n  hint: {advice.hint}", err=True)
