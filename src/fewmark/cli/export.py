"""`fewmark export`."""

from __future__ import annotations

import click


@click.command("export")
@click.argument("out", type=click.Path(), required=False)
@click.option("--format", "name", default="auto", help="What to write, see --formats.  [default: by OUT's suffix]")
@click.option("--formats", is_flag=True, help="List what can be written.")
@click.option("--store", metavar="URL", help="Store to read.  [default: $FEWMARK_STORE or sqlite:///fewmark.db]")
@click.option("--data", metavar="TABLE", help="Or a table: measurements, or the cells of a plan or a recommendation.")
@click.option("--cases", metavar="TABLE", help="Predict these cells, and write the forecasts.")
@click.option("--model", default="auto", show_default=True, help="Model that predicts them.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the format. Repeatable.")
@click.option("--safe-csv", is_flag=True, help="Escape texts that a spreadsheet would run as formulas.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written, or the formats, as JSON.")
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
    as_json: bool,
) -> None:
    """Write the store to OUT as a canonical table, or in the format of another tool.

    OUT is a file, or a folder or URI for formats that have those.
    """
    from fewmark.cli.options import print_json
    from fewmark.core import InputError
    from fewmark.verbs.export import export, exporters

    if formats and as_json:
        print_json([{"name": made, "takes": takes, "description": text} for made, takes, text in exporters()])
        return
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
    if as_json:
        print_json({"file": out, "n_rows": n_rows})
