"""`fewmark report`."""

from __future__ import annotations

from pathlib import Path

import click

from fewmark.cli.choices import Named, NamedChoices
from fewmark.cli.options import seed_option
from fewmark.cli.waiting import waiting


@click.command("report", cls=NamedChoices)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--store", metavar="URL", help="Report on this store  [default: FEWMARK_STORE or sqlite:///fewmark.db].")
@click.option(
    "--data",
    type=Named("datasets"),
    metavar="FILE",
    help="Report on a result file, or a packaged dataset, instead of the store.",
)
@click.option(
    "--model",
    type=Named("models"),
    help="The model that predicts  [default: auto; mechanistic beyond 500 cells, of which auto takes minutes].",
)
@click.option("--target", type=Named("targets"), help="The metric  [default: the one with the most values].")
@click.option("--confidence-level", type=float, default=0.9, show_default=True, help="Of the intervals.")
@click.option("--prior/--no-prior", default=True, help="Whether public measurements join where little is measured.")
@click.option("--no-cache", is_flag=True, help="Fit anew, even if the same data were fitted before.")
@seed_option()
def command(
    out: Path,
    store: str | None,
    data: str | None,
    model: str | None,
    target: str | None,
    confidence_level: float,
    prior: bool,
    no_cache: bool,
    random_state: int,
) -> None:
    """Write one file that shows it all: OUT.html (or .md, .json, .csv).

    What was measured, what a model predicts with its intervals, how measured compares with predicted, what it cost,
    which data are faulty, and where it ran. The HTML opens from disk and needs no network.
    """
    from fewmark.verbs.report import report

    with waiting(lines=True) as progress:
        report(
            out,
            store=store,
            data=data,
            model=model,
            target=target,
            confidence_level=confidence_level,
            random_state=random_state,
            prior=prior,
            cache=not no_cache,
            progress=progress,
        )
    click.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)", err=True)
