"""`fewmark demo`: the whole story on a real engine."""

from __future__ import annotations

from typing import Any

import click

from fewmark.cli.choices import Named, NamedChoices
from fewmark.cli.options import print_json, seed_option


@click.command("demo", cls=NamedChoices)
@click.option("--dir", "directory", default="fewmark-demo", show_default=True, help="Where the store and report go.")
@click.option(
    "--suite", type=Named("suites"), default="demo", show_default=True, help="The grid: a suite's name or file."
)
@click.option("--measure", "n_measure", default=15, show_default=True, help="Cells to measure.")
@click.option("--check", "n_check", default=15, show_default=True, help="Unseen cells to check the claim on.")
@click.option("--model", type=Named("models"), default="auto", show_default=True, help="Model that predicts.")
@seed_option("prompts, order and the cells to check")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(as_json: bool, quiet: bool, **options: Any) -> int:
    """Measure a few cells of a grid on a real engine, predict the rest, check the predictions, write a report.

    Exits with 1 if the predictions miss more often than promised.
    """
    from fewmark.verbs.demo import DRIFT_HINT, demo, drift_text

    result = demo(**options, quiet=quiet, tell=lambda text: None if quiet else click.echo(text, err=True))
    if as_json:
        print_json(result.to_dict())
        return 0 if result.claim_holds else 1
    level = f"{result.confidence_level:.0%}"
    click.echo(
        f"{result.n_inside} of {result.n_checked} unseen cells fell inside their {level} intervals; median error "
        f"{result.median_ape:.1%} (forecast {result.forecast_median_ape:.1%})."
    )
    click.echo(
        f"Measuring {result.n_measured} of {result.n_grid} cells took {result.measured_s:.0f} s; the whole grid would "
        f"have taken about {result.full_grid_s:.0f} s ({result.full_grid_s / result.measured_s:.1f} times as long)."
    )
    if result.claim_holds:
        click.echo("The claim holds.")
    else:
        click.echo(
            f"The claim FAILS here: at least {result.enough_inside} should have been inside. The report shows where."
        )
    if text := drift_text(result):
        click.echo(text if result.claim_holds else f"{text} {DRIFT_HINT}")
    click.echo(f"Report: {result.report}")
    return 0 if result.claim_holds else 1
