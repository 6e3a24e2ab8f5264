"""`fewmark export`."""

from __future__ import annotations

import click


@click.command("export")
@click.argument("out", type=click.Path())
@click.option("--store", metavar="URL", help="Where from  [default: FEWMARK_STORE or sqlite:///fewmark.db].")
@click.option("--safe-csv", is_flag=True, help="Neutralise texts that a spreadsheet would take for formulas.")
def command(out: str, store: str | None, safe_csv: bool) -> None:
    """Write the store as the canonical table: OUT.csv or OUT.parquet, one row a measurement."""
    from fewmark.verbs.export import export

    n_rows = export(out, store=store, safe_csv=safe_csv)
    click.echo(f"wrote {n_rows} rows to {out}", err=True)
