"""`fewmark store`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fewmark.cli.options import print_json

if TYPE_CHECKING:
    from fewmark.store import Salvage

STORE = click.option("--store", metavar="URL", help="The store.  [default: $FEWMARK_STORE or sqlite:///fewmark.db]")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("store")
def command() -> None:
    """Check a store, or save what a damaged one still holds."""


@command.command("check")
@STORE
@AS_JSON
def check(store: str | None, as_json: bool) -> int:
    """Read every row and tell what is damaged. Nothing is changed. Exits with 1 if something is."""
    from fewmark.verbs.store import check_store

    return _show(check_store(store), as_json, "rows can be read")


@command.command("salvage")
@click.argument("new")
@STORE
@AS_JSON
def salvage(new: str, store: str | None, as_json: bool) -> int:
    """Copy everything that can still be read into the store NEW. Exits with 1 if something cannot."""
    from fewmark.verbs.store import salvage

    return _show(salvage(new, store=store), as_json, f"rows are in {new}")


def _show(found: Salvage, as_json: bool, what: str) -> int:
    if as_json:
        print_json(asdict(found))
    else:
        for fault in found.faults:
            click.echo(fault)
        if found.n_faults > len(found.faults):
            click.echo(f"… and {found.n_faults - len(found.faults)} more")
        counts = ", ".join(f"{count} {name}" for name, count in found.n_read.items()) or "no"
        click.echo(f"{found.n_faults or 'no'} faults; {counts}: {what}", err=True)
    return 1 if found.n_faults else 0
