"""`fewmark ledger`."""

from __future__ import annotations

import click

from fewmark.cli.options import print_json


@click.command("ledger")
@click.option("--store", metavar="URL", help="The store.  [default: $FEWMARK_STORE or sqlite:///fewmark.db]")
@click.option("--metric", help="Only predictions of this metric.")
@click.option("--model", help="Only predictions of this model.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(store: str | None, metric: str | None, model: str | None, as_json: bool) -> None:
    """Score the predictions kept in the store against later measurements."""
    from fewmark.verbs.ledger import ledger

    found = ledger(store, metric=metric, model=model)
    if as_json:
        print_json(found.to_dict())
        return
    click.echo(f"{found.n_predictions} predictions on record, {found.n_waiting} without a later measurement")
    table = found.card().tables[0]
    rows = [table.columns, *(tuple("–" if cell is None else str(cell) for cell in row) for row in table.rows)]
    if len(rows) > 1:
        widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
        for row in rows:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
