"""`fewmark predict`."""

from __future__ import annotations

from pathlib import Path

import click

from fewmark.cli.choices import Named, NamedChoices
from fewmark.cli.options import print_json, seed_option
from fewmark.cli.waiting import waiting

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("predict", cls=NamedChoices)
@click.option(
    "--data",
    type=Named("datasets"),
    metavar="TABLE",
    help="Learn from a file that import reads, or a packaged dataset by name.",
)
@click.option("--store", metavar="URL", help="Or from a store.  [default: $FEWMARK_STORE or sqlite:///fewmark.db]")
@click.option("--model-file", type=FILE, help="Or use a fitted model.")
@click.option("--cases", required=True, type=FILE, help="The cases: a canonical table.")
@click.option("--model", type=Named("models"), default="auto", show_default=True, help="Model that predicts.")
@click.option(
    "--target", type=Named("targets"), default="throughput_tok_s", show_default=True, help="Metric to predict."
)
@click.option(
    "--confidence-level", default=0.9, show_default=True, help="Confidence level of the intervals, a fraction."
)
@click.option("--no-cache", is_flag=True, help="Fit again, even if the same data were fitted before.")
@seed_option()
@click.option("--no-screen", is_flag=True, help="Use all rows, also those that the screen excludes.")
@click.option(
    "--prior/--no-prior",
    default=True,
    help="Whether to add public measurements of similar deployments to small tables.",
)
@click.option("--out", type=FILE, help="Write the predictions there (.csv or .parquet).  [default: print CSV]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a record a case, with the notes on all.")
def command(
    data: str | None,
    store: str | None,
    model_file: Path | None,
    cases: Path,
    model: str,
    target: str,
    confidence_level: float,
    random_state: int,
    no_screen: bool,
    prior: bool,
    no_cache: bool,
    out: Path | None,
    as_json: bool,
) -> int:
    """Predict cases, with intervals.

    Adds value, low, high, provenance, similarity and abstained (the reason, else empty) to the cases' columns. Exits
    with 1 if the model abstains on any case.
    """
    from fewmark.cli.fit import JOINED
    from fewmark.interop.write import csv_text
    from fewmark.verbs.predict import predict, written

    with waiting() as progress:
        predicted = predict(
            cases,
            data=data,
            store=store,
            model_file=model_file,
            model=model,
            target=target,
            confidence_level=confidence_level,
            out=out,
            screened=not no_screen,
            random_state=random_state,
            prior=prior,
            cache=not no_cache,
            progress=progress,
        )
    joined = predicted.attrs["public_cells"] and not predicted.attrs["published"]
    lines = [JOINED.format(predicted.attrs["public_cells"])] if joined else []
    notes = [*predicted.attrs["notes"], *dict.fromkeys(predicted.attrs["may_not_fit"])]
    for line in (*lines, *(f"note: {note}" for note in notes)):
        click.echo(line, err=True)
    silent = int((predicted["abstained"] != "").sum())
    if as_json:
        rows = written(predicted).astype(object)
        records = rows.where(rows.notna(), None).to_dict("records")
        print_json([{**record, "notes": [*lines, *notes]} for record in records])
    elif out is None:
        click.echo(csv_text(written(predicted), list(map(str, predicted))), nl=False)
    if out is not None:
        click.echo(f"wrote {len(predicted)} predictions to {out}", err=True)
    if silent:
        reasons = predicted.loc[predicted["abstained"] != "", "abstained"].value_counts()
        click.echo(f"abstained on {silent} of {len(predicted)} cases: {reasons.index[0]}", err=True)
    return 1 if silent else 0
