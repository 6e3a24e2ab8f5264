"""`fewmark report`."""

from __future__ import annotations

from pathlib import Path

import click

from fewmark.cli.choices import Named, NamedChoices
from fewmark.cli.options import print_json, seed_option
from fewmark.cli.waiting import waiting


@click.command("report", cls=NamedChoices)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--store", metavar="URL", help="Report on this store.  [default: $FEWMARK_STORE or sqlite:///fewmark.db]")
@click.option(
    "--data",
    type=Named("datasets"),
    metavar="FILE",
    help="Report on a result file, or a packaged dataset, instead of the store.",
)
@click.option(
    "--model", type=Named("models"), help="Model that predicts.  [default: auto; mechanistic beyond 500 cells]"
)
@click.option("--target", type=Named("targets"), help="Metric.  [default: the one with the most values]")
@click.option(
    "--slo", multiple=True, metavar="METRIC=LIMIT", help="Recommend under this objective: ttft_s=0.5. Repeatable."
)
@click.option("--prices", metavar="FILE", help="Price file (YAML) of the recommendation.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="DIR", help="Also write every figure there, as SVG.")
@click.option(
    "--confidence-level",
    type=float,
    default=0.9,
    show_default=True,
    help="Confidence level of the intervals, a fraction.",
)
@click.option(
    "--prior/--no-prior",
    default=True,
    help="Whether to add public measurements of similar deployments to small tables.",
)
@click.option("--no-cache", is_flag=True, help="Fit again, even if the same data were fitted before.")
@seed_option()
@click.option("--json", "as_json", is_flag=True, help="Print what was written and what was left out as JSON.")
def command(
    out: Path,
    store: str | None,
    data: str | None,
    model: str | None,
    target: str | None,
    slo: tuple[str, ...],
    prices: str | None,
    svg: Path | None,
    confidence_level: float,
    prior: bool,
    no_cache: bool,
    random_state: int,
    as_json: bool,
) -> None:
    """Write a report to one file: OUT.html (or .md, .json, .csv).

    It shows what was measured, what to deploy, predictions with intervals, predicted against measured values, the cost,
    faulty data and the environment. The HTML opens from disk and needs no network.
    """
    from fewmark.verbs.report import report

    with waiting(lines=True) as progress:
        cards = report(
            out,
            store=store,
            data=data,
            model=model,
            target=target,
            slo=slo,
            prices=prices,
            svg=svg,
            confidence_level=confidence_level,
            random_state=random_state,
            prior=prior,
            cache=not no_cache,
            progress=progress,
        )
    notes = [advice.message for advice in cards[0].advice if advice.code == "data"]
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        print_json({"file": str(out), "cards": [card.kind for card in cards], "notes": notes})
    click.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)", err=True)
