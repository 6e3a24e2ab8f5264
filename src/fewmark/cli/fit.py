"""`fewmark fit`."""

from __future__ import annotations

from pathlib import Path

import click

from fewmark.cli.choices import Named, NamedChoices
from fewmark.cli.options import print_json, seed_option

JOINED = "{} public measurements were added to the measured ones (--no-prior leaves them out)"


@click.command("fit", cls=NamedChoices)
@click.option(
    "--data", type=Named("datasets"), metavar="TABLE", help="A file that import reads, or a packaged dataset's name."
)
@click.option("--store", metavar="URL", help="Or a store.  [default: $FEWMARK_STORE or sqlite:///fewmark.db]")
@click.option("--model", type=Named("models"), default="auto", show_default=True, help="Model that predicts.")
@click.option(
    "--target", type=Named("targets"), default="throughput_tok_s", show_default=True, help="Metric to predict."
)
@seed_option()
@click.option("--no-screen", is_flag=True, help="Use all rows, also those that the screen excludes.")
@click.option(
    "--prior/--no-prior",
    default=True,
    help="Whether to add public measurements of similar deployments to small tables.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The model file.")
@click.option("--json", "as_json", is_flag=True, help="Print what was fitted and what was left out as JSON.")
def command(
    data: str | None,
    store: str | None,
    model: str,
    target: str,
    random_state: int,
    no_screen: bool,
    prior: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Fit a model to measurements and save it to a file."""
    from fewmark.verbs.fit import fit

    fitted = fit(
        data, store=store, model=model, target=target, out=out, screened=not no_screen, random_state=random_state,
        prior=prior,
    )  # fmt: skip
    for note in fitted.notes_:
        click.echo(f"note: {note}", err=True)
    if fitted.n_public_cells_:
        click.echo(JOINED.format(fitted.n_public_cells_), err=True)
    click.echo(f"wrote {out}", err=True)
    if as_json:
        print_json(
            {
                "file": str(out),
                "model": fitted.name,
                "target": fitted.target,
                "n_deployments": len(fitted.deployments_),
                "n_public_cells": fitted.n_public_cells_,
                "notes": list(fitted.notes_),
            }
        )
