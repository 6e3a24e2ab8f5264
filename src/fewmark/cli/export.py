"""`fewmark export`."""

from __future__ import annotations

import click


@click.command("export")
@click.argument("out", type=click.Path(), required=False)
@click.option("--format", "name", default="auto", help="What to write, see --formats.  [default: by OUT's suffix]")
@click.option("--formats", is_flag=True, help="List what can be written.")
@click.option("--store", metavar="URL", help="Where from  [default: FEWMARK_STORE or sqlite:///fewmark.db].")
@click.option("--data", metavar="TABLE", help="Or a table: measurements, or the cells of a plan or a recommendation.")
@click.option("--cases", metavar="TABLE", help="Predict these cells, and write the forecasts.")
@click.option("--model", default="auto", show_default=True, help="Who predicts them.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the format. Repeatable.")
@click.option("--safe-csv", is_flag=True, help="Neutralise texts that a spreadsheet would take for formulas.")
def command(
    out: str | None,
    name: str,
    formats: bool,
    store: str | None,
    data: str | None,
    cases: str | None,
    model: str,
    settings: tuple[str, ...],
    safe_csv: bool,
) -> None:
    """Write what is known to OUT: the canonical table, or as another tool reads it.

    OUT is a file; a folder or a URI where the format has those.
    """
    from fewmark.core import InputError
    from fewmark.verbs.export import export, exporters

    if formats:
        for made, takes, description in exporters():
            click.echo(f"{made:24}{takes:14}{description}")
        return
    if out is None:
        raise InputError("export needs a place to write to", hint="fewmark export OUT; --formats lists what there is")
    pairs = dict(setting.partition("=")[::2] for setting in settings)
    n_rows = export(
        out, format=name, store=store, data=data, cases=cases, settings=pairs, model=model, safe_csv=safe_csv
    )
    click.echo(f"wrote {n_rows} rows to {out}", err=True)
